//! Torrents of both kinds: written, read back, refused.

use super::*;

fn sample(trackers: Vec<Vec<String>>, web_seeds: Vec<String>) -> Metainfo {
    let geometry = Geometry::new(40_000, 32_768).unwrap();
    let pieces = vec![PieceHash([1; 20]), PieceHash([2; 20])];
    let info = Info::new("rootimg.sfs", geometry, true, pieces).unwrap();
    Metainfo::new(info, trackers, web_seeds, Some("bee-packer".into())).unwrap()
}

#[test]
fn round_trip() {
    let url = |s: &str| s.to_owned();
    for (trackers, seeds) in [
        (vec![], vec![]),
        (vec![vec![url("http://a/announce")]], vec![url("http://w/")]),
        (vec![vec![url("http://a/"), url("http://b/")], vec![url("http://c/")]], vec![]),
    ] {
        let made = sample(trackers, seeds);
        let bytes = made.to_bytes().unwrap();
        assert_eq!(Metainfo::parse(&bytes).unwrap(), made);
    }
}

#[test]
fn info_hash_is_over_the_raw_bytes() {
    // an unknown key in info changes the hash and survives a rewrite
    let mut bytes = sample(vec![], vec![]).to_bytes().unwrap();
    let at = bytes.windows(7).position(|w| w == b"private").unwrap() - 2;
    bytes.splice(at + 12..at + 12, *b"6:source3:lab");
    let parsed = Metainfo::parse(&bytes).unwrap();
    assert_ne!(parsed.info_hash, sample(vec![], vec![]).info_hash);
    assert_eq!(parsed.to_bytes().unwrap(), bytes);
}

#[test]
fn refuses_bad_torrents() {
    assert!(matches!(Metainfo::parse(b"<html>"), Err(MetainfoError::Bencode(_))));
    assert_eq!(Metainfo::parse(b"de"), Err(MetainfoError::Field("info")));
    let multi = b"d4:infod5:filesle4:name1:aee";
    assert_eq!(Metainfo::parse(multi), Err(MetainfoError::MultiFile));
    let v2 = b"d4:infod9:file treede4:name1:aee";
    assert_eq!(Metainfo::parse(v2), Err(MetainfoError::V2Only));
    let short =
        b"d4:infod6:lengthi40000e4:name1:a12:piece lengthi32768e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    assert_eq!(Metainfo::parse(short), Err(MetainfoError::PieceCount { hashes: 1, pieces: 2 }));
    let geometry = Geometry::new(1, 16_384).unwrap();
    for name in ["", "..", "a/b", "a\0"] {
        assert!(Info::new(name, geometry, true, vec![PieceHash([0; 20])]).is_err());
    }
}

fn hybrid(length: u64) -> Metainfo {
    let geometry = Geometry::new(length, 32_768).unwrap();
    let layer: Vec<Node> = geometry.indices().map(|p| Node::of(&p.0.to_be_bytes())).collect();
    let pieces = vec![PieceHash([1; 20]); layer.len()];
    let info = Info::new("rootimg.sfs", geometry, true, pieces).unwrap().with_tree(layer).unwrap();
    let seeds = vec!["http://w/".to_owned()];
    Metainfo::new(info, vec![vec!["http://a/announce".to_owned()]], seeds, None).unwrap()
}

#[test]
fn hybrid_round_trip() {
    for length in [1, 32_768, 40_000, 1_000_000] {
        let made = hybrid(length);
        assert!(made.info_hash_v2.is_some());
        assert_eq!(Metainfo::parse(&made.to_bytes().unwrap()).unwrap(), made);
    }
    assert_eq!(sample(vec![], vec![]).info_hash_v2, None);
}

/// Replaces the first `from`, of the same length or with a length of its own.
fn with(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn refuses_hybrids_that_contradict_themselves() {
    let good = hybrid(40_000).to_bytes().unwrap();
    let parse = |from: &[u8], to: &[u8]| Metainfo::parse(&with(&good, from, to)).unwrap_err();
    let version = parse(b"meta versioni2e", b"meta versioni3e");
    assert_eq!(version, MetainfoError::MetaVersion(3));
    assert!(version.to_string().contains("update"), "{version}");
    assert_eq!(parse(b"meta versioni2e", b"meta version1:2"), MetainfoError::Field("meta version"));
    let name = parse(b"11:rootimg.sfsd0:", b"11:rootimg.sfXd0:");
    assert_eq!(name, MetainfoError::Contradiction("name"));
    let length = parse(b"lengthi40000e11:", b"lengthi40001e11:");
    assert_eq!(length, MetainfoError::Contradiction("length"));
    let longer = parse(b"d0:d6:lengthi40000e", b"d0:d6:lengthi-4000e");
    assert_eq!(longer, MetainfoError::Field("length"));
    assert_eq!(parse(b"9:file tree", b"9:file trea"), MetainfoError::Field("file tree"));
    assert_eq!(parse(b"11:rootimg.sfsd0:d", b"11:rootimg.sfsd1:ad"), MetainfoError::MultiFile);
    let two = parse(b"9:file treed", b"9:file treed1:ade");
    assert_eq!(two, MetainfoError::MultiFile);
    assert_eq!(parse(b"11:pieces root", b"11:pieces rood"), MetainfoError::Field("pieces root"));
    assert_eq!(parse(b"12:piece layers", b"12:piece layert"), MetainfoError::Field("piece layers"));
    let root = hybrid(40_000).info.tree().unwrap().root();
    let layer = hybrid(40_000).info.tree().unwrap().layer().to_vec();
    // a layer of another length, and one that hashes to something else
    let flat: Vec<u8> = layer.iter().flat_map(|node| node.0).collect();
    let short = [&b"64:"[..], &flat].concat();
    let error = parse(&short, &[&b"32:"[..], &flat[..32]].concat());
    let wrong = TreeError::LayerLength { hashes: 1, pieces: 2 };
    assert_eq!(error, MetainfoError::Tree(wrong));
    let mut other = short.clone();
    other[40] ^= 1;
    let error = parse(&short, &other);
    let MetainfoError::Tree(TreeError::Root { wanted, got }) = error else { panic!("{error}") };
    assert!(wanted == root && got != root);
    // no whole number of hashes
    let odd = parse(&short, &[&b"63:"[..], &flat[..63]].concat());
    assert_eq!(odd, MetainfoError::Field("piece layers"));
}
