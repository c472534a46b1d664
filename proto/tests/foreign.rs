//! Torrents, peers and trackers of other programs, as recorded in `fixtures/`.

#![expect(clippy::unwrap_used, reason = "the helpers of a test")]

use std::net::SocketAddr;

use beeswarm_proto::announce::{AnnounceResponse, PeerEntry};
use beeswarm_proto::bencode::Value;
use beeswarm_proto::extension::ExtendedHandshake;
use beeswarm_proto::geometry::{BLOCK_LEN, Block, PieceIndex};
use beeswarm_proto::hash::{PeerRole, PieceHash};
use beeswarm_proto::merkle;
use beeswarm_proto::metainfo::{Info, Metainfo, MetainfoError};
use beeswarm_proto::wire::{Features, HANDSHAKE_LEN, Handshake, Message};

/// Info-hash of `mktorrent.torrent`, as transmission-show prints it.
const INFO_HASH: &str = "de6a71dbe5f0d0d011286a767ca823c402a1df86";

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn content() -> Vec<u8> {
    (0..40_000u32).map(|i| u8::try_from((i * 7 + (i >> 8) * 13) & 0xff).unwrap()).collect()
}

fn torrent(name: &str) -> Metainfo {
    Metainfo::parse(&fixture(&format!("{name}.torrent"))).unwrap()
}

#[test]
fn torrents_of_other_programs() {
    let content = content();
    for (name, piece_length, private, trackers) in [
        ("mktorrent", 32_768, false, vec![vec!["http://127.0.0.1:6969/announce"]]),
        (
            "mktorrent-tiers",
            32_768,
            true,
            vec![
                vec!["http://127.0.0.1:6969/announce", "http://127.0.0.2:6969/announce"],
                vec!["http://127.0.0.3/a"],
            ],
        ),
        (
            "transmission",
            32_768,
            true,
            vec![vec!["http://127.0.0.1:6969/announce"], vec!["http://127.0.0.2:6969/announce"]],
        ),
        ("ctorrent", 65_536, false, vec![vec!["http://127.0.0.1:6969/announce"]]),
    ] {
        let torrent = torrent(name);
        let geometry = torrent.info.geometry;
        assert_eq!(torrent.info.name, "image.bin", "{name}");
        assert_eq!((geometry.total(), geometry.piece_length()), (40_000, piece_length), "{name}");
        assert_eq!(torrent.info.private, private, "{name}");
        assert_eq!(torrent.trackers, trackers, "{name}");
        for (piece, bytes) in geometry.indices().zip(content.chunks(piece_length as usize)) {
            assert_eq!(torrent.info.piece_hash(piece), Some(PieceHash::of(bytes)), "{name}");
        }
        // rewriting must not change what the info-hash is taken over
        let again = Metainfo::parse(&torrent.to_bytes().unwrap()).unwrap();
        assert_eq!(again.info_hash, torrent.info_hash, "{name}");
    }
    assert_eq!(torrent("mktorrent").info_hash.to_string(), INFO_HASH);
    assert_eq!(torrent("mktorrent-tiers").web_seeds, ["http://127.0.0.1:8080/"]);
}

/// Info-hashes and `pieces root` are what libtorrent itself reads from its torrents.
#[test]
fn hybrid_torrents_of_libtorrent() {
    let content = content();
    let root = "6097404043e364ed3ff2df1ebd14da101edb3b8cde46e148ecd3a176f5594626";
    for (name, piece_length, v1, v2) in [
        (
            "libtorrent-16k",
            16_384,
            "be26f3af5faaaf413fd56c6aff85f9a8c63fd960",
            "a946fdc82e690db40d301a7768f218d20b4ffe5b0bc73d797599d77c1433700b",
        ),
        (
            "libtorrent-32k",
            32_768,
            "804b64904eaac45000a57b1e3a4117f6b5f80f9a",
            "53c92c6ed930ed503cb73f2976cf79f9b415608e98036b29ce7aa0eedfbac0ed",
        ),
        (
            "libtorrent-one-piece",
            65_536,
            "f530232bfb1871147ec173691d45e3986850319c",
            "79f5217b162ee04f27367f5bb3fce2c978b4db8add8234d740ee52d539a37135",
        ),
    ] {
        let torrent = torrent(name);
        let geometry = torrent.info.geometry;
        assert_eq!(geometry.piece_length(), piece_length, "{name}");
        assert_eq!(torrent.info_hash.to_string(), v1, "{name}");
        let full = torrent.info_hash_v2.unwrap();
        assert_eq!(full.to_string(), v2, "{name}");
        assert_eq!(full.truncated().to_string(), v2[..40], "{name}");
        let tree = torrent.info.tree().unwrap();
        assert_eq!(tree.root().to_string(), root, "{name}");
        for (piece, bytes) in geometry.indices().zip(content.chunks(piece_length as usize)) {
            assert_eq!(torrent.info.piece_hash(piece), Some(PieceHash::of(bytes)), "{name}");
            assert!(tree.piece_is(piece, &merkle::blocks(bytes)), "{name}");
            assert!(!tree.piece_is(piece, &merkle::blocks(&bytes[1..])), "{name}");
        }
        // what we make of the same content is the same torrent
        let pieces = content.chunks(piece_length as usize);
        let level = merkle::piece_level(40_000, piece_length);
        let nodes = pieces.clone().map(|piece| merkle::root(&merkle::blocks(piece), 0, level));
        let own = Info::new("image.bin", geometry, false, pieces.map(PieceHash::of).collect());
        let own = own.unwrap().with_tree(nodes.collect()).unwrap();
        let own = Metainfo::new(own, torrent.trackers.clone(), Vec::new(), None).unwrap();
        assert_eq!((own.info_hash, own.info_hash_v2), (torrent.info_hash, torrent.info_hash_v2));
        assert_eq!(Metainfo::parse(&own.to_bytes().unwrap()).unwrap(), own);
        assert_eq!(Metainfo::parse(&torrent.to_bytes().unwrap()).unwrap(), torrent, "{name}");
    }
    let v2_only = Metainfo::parse(&fixture("libtorrent-v2-only.torrent"));
    assert_eq!(v2_only, Err(MetainfoError::V2Only));
}

/// The handshake and the messages of a recorded peer; all bytes must be used.
fn conversation(bytes: &[u8]) -> (Handshake, Vec<Message<'_>>) {
    let (front, mut rest) = bytes.split_first_chunk::<HANDSHAKE_LEN>().unwrap();
    let mut messages = Vec::new();
    while let Some((message, used)) = Message::parse(rest).unwrap() {
        messages.push(message);
        rest = &rest[used..];
    }
    assert!(rest.is_empty(), "{} bytes left", rest.len());
    (Handshake::parse(front).unwrap(), messages)
}

#[test]
fn a_seeding_aria2c() {
    let bytes = fixture("aria2c-seeding");
    let (handshake, messages) = conversation(&bytes);
    assert_eq!(handshake.info_hash, torrent("mktorrent").info_hash);
    assert_eq!(handshake.features, Features { fast: true, extended: true, v2: false });
    assert_eq!(handshake.peer_id.role(), PeerRole::Foreign);
    let [Message::Extended { id: 0, payload }, rest @ ..] = messages.as_slice() else {
        panic!("no extension handshake first: {messages:?}");
    };
    let extended = ExtendedHandshake::parse(payload).unwrap();
    assert_eq!(extended.client.as_deref(), Some("aria2/1.36.0"));
    assert_eq!((extended.port, extended.extensions["ut_metadata"]), (Some(7100), 9));
    let content = content();
    let (piece, begin) = (PieceIndex(1), 7000);
    let data = &content[32_768 + 7000..][..232];
    let expected = [
        Message::HaveAll,
        Message::AllowedFast(PieceIndex(1)),
        Message::AllowedFast(PieceIndex(0)),
        Message::Unchoke,
        Message::Piece { piece, begin, data },
    ];
    assert_eq!(rest, expected);
}

#[test]
fn a_fetching_ctorrent() {
    let bytes = fixture("ctorrent-fetching");
    let (handshake, messages) = conversation(&bytes);
    assert_eq!(handshake.info_hash, torrent("mktorrent").info_hash);
    assert_eq!(handshake.features, Features::default());
    let request = |piece: u32, begin, length| {
        Message::Request(Block { piece: PieceIndex(piece), begin, length })
    };
    let expected = [
        Message::Interested,
        request(1, 0, 40_000 - 32_768),
        request(0, 0, BLOCK_LEN),
        request(0, BLOCK_LEN, BLOCK_LEN),
        Message::Have(PieceIndex(1)),
    ];
    assert_eq!(messages, expected);
    let geometry = torrent("mktorrent").info.geometry;
    for message in messages {
        assert!(!matches!(message, Message::Request(block) if !geometry.contains(block)));
    }
}

#[test]
fn replies_of_opentracker() {
    let entry = |address: &str| PeerEntry {
        address: address.parse::<SocketAddr>().unwrap(),
        peer_id: None,
    };
    let (first, second) = (entry("127.0.0.2:7001"), entry("127.0.0.2:7002"));
    for (name, incomplete, peers) in [
        ("opentracker-one-peer", 0, vec![first]),
        ("opentracker-two-peers", 1, vec![second, first]),
    ] {
        let reply = AnnounceResponse::parse(&fixture(name)).unwrap();
        let AnnounceResponse::Peers(reply) = reply else { panic!("{name}: {reply:?}") };
        assert_eq!((reply.complete, reply.incomplete), (1, incomplete), "{name}");
        assert_eq!(reply.peers, peers, "{name}");
        assert!(reply.min_interval.is_some_and(|least| least < reply.interval), "{name}");
    }
    assert_eq!(
        AnnounceResponse::parse(&fixture("opentracker-refusal")).unwrap(),
        AnnounceResponse::Failure(
            "Requested download is not authorized for use with this tracker.".into()
        )
    );
}

#[test]
fn a_scrape_of_opentracker() {
    let bytes = fixture("opentracker-scrape");
    let root = Value::parse(&bytes).unwrap();
    let files = root.get(b"files").unwrap();
    let counters = files.get(torrent("mktorrent").info_hash.as_bytes()).unwrap();
    for (key, count) in [(&b"complete"[..], 1), (b"downloaded", 0), (b"incomplete", 1)] {
        assert_eq!(counters.get(key).and_then(Value::as_unsigned), Some(count));
    }
}
