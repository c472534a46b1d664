//! Hybrid torrents (BEP 3 and BEP 52), as libtorrent reads and makes them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{events, noise, pack_image, packer, run, scratch, small_root, stderr, text};

/// What libtorrent reads from a torrent, and what it makes of the image beside it. The distribution's
/// interpreter: the binding is for that one.
const READ: &str = r#"
import json, os, sys
try:
    import libtorrent as lt
except ImportError:
    sys.exit("this test needs libtorrent for python3: install python3-libtorrent")
folder = sys.argv[1]
info = lt.torrent_info(os.path.join(folder, "rootimg.torrent"))
files = lt.file_storage()
files.add_file("rootimg.sfs", os.path.getsize(os.path.join(folder, "rootimg.sfs")))
own = lt.create_torrent(files, info.piece_length())
lt.set_piece_hashes(own, folder)
own = lt.bdecode(lt.bencode(own.generate()))
with open(os.path.join(folder, "rootimg.torrent"), "rb") as file:
    ours = lt.bdecode(file.read())
def hashes(info):
    both = info.info_hashes()
    return [str(both.v1), str(both.v2), str(info.files().root(0)), both.has_v1() and both.has_v2()]
same = [ours[b"info"][b"file tree"] == own[b"info"][b"file tree"], ours[b"piece layers"] == own[b"piece layers"]]
layer = sum(map(len, ours[b"piece layers"].values()))
own = lt.torrent_info(own)
print(json.dumps({"ours": hashes(info), "own": hashes(own), "pieces": info.num_pieces(), "same": same, "layer": layer}))
"#;

fn read(packed: &Value) -> Value {
    let path = packed["path"].as_str().unwrap();
    serde_json::from_str(&run("/usr/bin/python3", &["-c", READ, path])).unwrap()
}

#[test]
fn libtorrent_makes_the_same_torrent() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    // of one piece; of pieces of one block; of several
    for (length, pieces) in [(1, 1), (700_000, 40), (34_000_000, 1000)] {
        fs::write(root.join("usr/bin/tool"), noise(length)).unwrap();
        let packed = pack_image(&root, &store, &[]);
        let read = read(&packed);
        assert_eq!(read["ours"], read["own"], "{read}");
        assert_eq!(read["ours"][3], true, "{read}");
        assert_eq!(
            read["same"],
            serde_json::json!([true, true]),
            "file tree, piece layers: {read}"
        );
        // a file of one piece has no layer
        let layer = if pieces == 1 { 0 } else { read["pieces"].as_u64().unwrap() * 32 };
        assert_eq!(read["layer"], layer, "{read}");
        assert!(read["pieces"].as_u64() >= Some(pieces), "{read}");
        assert_eq!(read["ours"][0], packed["info_hash"]);
        let manifest = Path::new(packed["path"].as_str().unwrap()).join("manifest.json");
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        assert_eq!(manifest["v2"]["info_hash"], read["ours"][1]);
        assert_eq!(manifest["v2"]["pieces_root"], read["ours"][2]);
        let reference = format!("test@{}", packed["revision"].as_str().unwrap());
        let shown = packer(&["inspect", &reference, "--json", "--store", text(&store)]);
        let torrent = events(&shown).into_iter().find(|e| e["event"] == "torrent").unwrap();
        assert_eq!(torrent["info_hash_v2"], read["ours"][1]);
        assert_eq!(torrent["pieces_root"], read["ours"][2]);
        let shown = packer(&["inspect", &reference, "--store", text(&store)]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.matches(read["ours"][1].as_str().unwrap()).count(), 2, "{shown}");
    }
    let verified = packer(&["verify", "--store", text(&store)]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[test]
fn bep_3_alone_when_asked_for() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let plain = pack_image(&root, &store, &["--torrent", "v1"]);
    let path = Path::new(plain["path"].as_str().unwrap());
    let torrent = fs::read(path.join("rootimg.torrent")).unwrap();
    assert!(!torrent.windows(9).any(|part| part == b"file tree"));
    assert!(!fs::read_to_string(path.join("manifest.json")).unwrap().contains("v2"));
    assert_ne!(pack_image(&root, &store, &[])["info_hash"], plain["info_hash"]);
    let verified = packer(&["verify", "--store", text(&store)]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}
