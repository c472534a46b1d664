//! Images with a dm-verity tree behind them. That the tree is veritysetup's is tested beside the code that
//! makes it, what a kernel does with it in machines (`cargo xtask demo`).

use std::fs;
use std::path::{Path, PathBuf};

use proto::manifest::Manifest;
use serde_json::Value;

use crate::support::{Mounted, events, pack_image, packer, run, scratch, small_root, stderr, text};

/// The image of a revision, and what its manifest says.
fn revision(packed: &Value) -> (PathBuf, Manifest) {
    let path = Path::new(packed["path"].as_str().unwrap());
    let manifest = fs::read(path.join("manifest.json")).unwrap();
    (path.join("rootimg.sfs"), Manifest::parse(&manifest).unwrap())
}

#[test]
fn the_tree_lies_behind_an_image_that_is_mounted_as_before() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    for format in ["squashfs", "erofs"] {
        let (plain, without) = revision(&pack_image(&root, &store, &["--format", format]));
        assert_eq!(without.verity, None);
        let packed = pack_image(&root, &store, &["--format", format, "--verity"]);
        let (image, manifest) = revision(&packed);
        let verity = manifest.verity.unwrap();
        assert_eq!(packed["image_bytes_read_back"], 0, "{packed}");
        assert_eq!(packed["verity"]["root_hash"], verity.root_hash.to_string());
        let (plain, bytes) = (fs::read(plain).unwrap(), fs::read(&image).unwrap());
        assert_eq!(verity.hash_offset(), plain.len() as u64);
        assert!(bytes.starts_with(&plain), "{format}: the image itself is another");
        assert_eq!(bytes[plain.len()..][..8], *b"verity\0\0");
        let mounted = Mounted::new(&image, dir.path().join(format));
        assert_eq!(fs::read_to_string(mounted.0.join("etc/hostname")).unwrap(), "node\n");
        let (offset, hash) = (verity.hash_offset(), verity.root_hash);
        let option = format!("--hash-offset={offset}");
        run("veritysetup", &["verify", text(&image), text(&image), &hash.to_string(), &option]);

        let reference = format!("test@{}", packed["revision"].as_str().unwrap());
        let shown = packer(&["inspect", &reference, "--store", text(&store)]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(&format!("verity     {hash}")), "{shown}");
    }
    let verified = packer(&["verify", "--json", "--store", text(&store)]);
    assert!(verified.status.success(), "{}", stderr(&verified));
    assert_eq!(events(&verified).iter().filter(|event| event["whole"] == true).count(), 4);
}

#[test]
fn one_root_gives_one_tree_wherever_it_is_packed() {
    let dir = scratch();
    let root = small_root(dir.path());
    let copy = dir.path().join("a copy");
    run("cp", &["-a", text(&root), text(&copy)]);
    let first = pack_image(&root, &dir.path().join("one"), &["--verity"]);
    let second = pack_image(&copy, &dir.path().join("two"), &["--verity"]);
    assert_eq!(first["revision"], second["revision"]);
    assert_eq!(first["verity"], second["verity"]);
}

#[test]
fn a_flag_with_a_value_is_no_flag() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let base = ["pack", "--image-only", "--name", "test", "--source", text(&root)];
    let output = packer(&[&base[..], &["--store", text(&store), "--verity=yes"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--verity"), "{}", stderr(&output));
    assert!(!store.exists());
}
