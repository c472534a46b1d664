//! publish, rollback, prune, list, inspect, verify.

use std::fs;
use std::path::Path;

use crate::support::{events, pack_image, packer, scratch, small_root, stderr, text};

fn ok(args: &[&str]) -> String {
    let output = packer(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn revisions_are_published_rolled_back_and_pruned() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let at = ["--store", text(&store)];
    let mut revisions = Vec::new();
    for version in ["1", "2", "3"] {
        fs::write(root.join("etc/version"), version).unwrap();
        let packed = pack_image(&root, &store, &[]);
        revisions.push(format!("test@{}", packed["revision"].as_str().unwrap()));
        // a name alone is its newest revision
        let said = ok(&["publish", "test", at[0], at[1]]);
        assert!(said.contains(revisions.last().unwrap()), "{said}");
    }
    let said = ok(&["rollback", "test", at[0], at[1]]);
    assert!(said.starts_with(&format!("channel stable boots {}", revisions[1])), "{said}");
    let testing = ["publish", &revisions[0], "--channel", "testing", at[0], at[1]];
    ok(&testing);

    let in_use = packer(&["unpublish", &revisions[1], at[0], at[1]]);
    assert_eq!(in_use.status.code(), Some(3), "{}", stderr(&in_use));
    assert!(stderr(&in_use).contains("channel stable boots"), "{}", stderr(&in_use));

    let refused = packer(&["prune", "test", "--keep", "0", at[0], at[1]]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--tracker-url"), "{}", stderr(&refused));
    let said = ok(&["prune", "test", "--keep", "0", "--ignore-nodes", at[0], at[1]]);
    assert!(said.contains(&format!("kept {}: channel stable boots it", revisions[1])), "{said}");
    let list = ok(&["list", at[0], at[1]]);
    assert!(list.contains(&format!("{}  booted by testing", revisions[0])), "{list}");
    assert!(list.contains(&format!("{}  booted by stable", revisions[1])), "{list}");
    assert!(!list.contains(&revisions[2]), "{list}");
    let nothing = packer(&["rollback", "nothing", at[0], at[1]]);
    assert_eq!(nothing.status.code(), Some(3), "{}", stderr(&nothing));
}

#[test]
fn inspect_shows_manifest_and_torrent() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let further = [
        "--publish",
        "--tracker",
        "http://10.0.0.1:6969",
        "--tracker",
        "http://10.0.0.2:6969",
        "--web-seed",
        "http://10.0.0.1/{info_hash}/",
    ];
    let packed = pack_image(&root, &store, &further);
    let output = packer(&["inspect", "test", "--json", "--store", text(&store)]);
    let events = events(&output);
    let hash = packed["info_hash"].as_str().unwrap();
    assert_eq!(events[0]["manifest"]["info_hash"], hash);
    assert_eq!(events[1]["info_hash"], hash);
    assert_eq!(events[1]["private"], false);
    let tiers =
        serde_json::json!([["http://10.0.0.1:6969/announce"], ["http://10.0.0.2:6969/announce"]]);
    assert_eq!(events[1]["trackers"], tiers);
    assert_eq!(events[1]["web_seeds"][0], format!("http://10.0.0.1/{hash}/"));

    let torrent = Path::new(packed["path"].as_str().unwrap()).join("rootimg.torrent");
    assert!(ok(&["inspect", text(&torrent)]).contains(hash));
    let bytes = fs::read(&torrent).unwrap();
    let corrupt = dir.path().join("corrupt.torrent");
    for (broken, word) in
        [(&bytes[..bytes.len() / 2], "pack the image again"), (b"<html>", "neither")]
    {
        fs::write(&corrupt, broken).unwrap();
        let output = packer(&["inspect", text(&corrupt)]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}

#[test]
fn verify_names_every_damage() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    fs::write(root.join("usr/bin/random"), &fs::read("/proc/self/exe").unwrap()[..300_000])
        .unwrap();
    let packed = pack_image(&root, &store, &["--publish"]);
    assert!(ok(&["verify", "--store", text(&store)]).contains("whole"));
    let path = Path::new(packed["path"].as_str().unwrap());

    let damaged = |file: &str, change: &dyn Fn(&mut Vec<u8>), words: &[&str]| {
        let file = path.join(file);
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        fs::write(&file, bad).unwrap();
        let output = packer(&["verify", "test", "--store", text(&store)]);
        assert_eq!(output.status.code(), Some(6), "{file:?}: {}", stderr(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        for word in words {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        fs::write(&file, good).unwrap();
    };
    damaged(
        "rootimg.sfs",
        &|b| b[70_000] ^= 1,
        &["1 pieces differ", "at byte 65536", "has pieces root"],
    );
    damaged("rootimg.sfs", &|b| b.truncate(4096), &["rootimg.sfs: has 4096 bytes"]);
    damaged("rootimg.torrent", &|b| b.truncate(40), &["rootimg.torrent"]);
    damaged("manifest.json", &|b| b.push(b' '), &["manifest.json", "altered after"]);
    assert!(ok(&["verify", "--store", text(&store)]).contains("whole"));
}
