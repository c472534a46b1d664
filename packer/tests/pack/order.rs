//! `--order`: the data of listed files lies first in the image. What proves it is an image of which all
//! data behind a point is gone: the listed files can still be read from it, and the others cannot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{events, pack_image, packer, run, scratch, stderr, text};

/// Bytes that mksquashfs compresses together.
const BLOCK: usize = 128 << 10;

/// Where the data begins in a squashfs: behind its superblock.
const SUPERBLOCK: usize = 96;

/// What no compressor makes smaller, another for each path.
fn noise(path: &str, length: usize) -> Vec<u8> {
    let seed = path.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

/// Listed, in this order: their names and sizes say that it is the list that counts.
const LISTED: [(&str, usize); 5] = [
    ("usr/zz/last by name", 3 * BLOCK),
    ("etc/small", 5_000),
    ("usr/bin/tool", BLOCK + 1000),
    ("usr/zz/lib.so", 200_000),
    ("etc/later", 100),
];

/// A root in which the listed files are a sixth of the data.
fn root(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    let write = |path: &str, length: usize| {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, noise(path, length)).unwrap();
    };
    LISTED.iter().for_each(|(path, length)| write(path, *length));
    (0..10).for_each(|n| write(&format!("usr/aa/big{n}"), 3 * BLOCK + 77 * n));
    (0..100).for_each(|n| write(&format!("usr/share/short{n:02}"), 3000 + n));
    root
}

/// `INODE TABLE START` of the superblock: the data ends there.
fn data_end(image: &[u8]) -> usize {
    u64::from_le_bytes(image[64..72].try_into().unwrap()).try_into().unwrap()
}

/// Whether `path` can be read when only the first `kept` bytes of the data are there.
fn readable(image: &[u8], kept: usize, path: &str, scratch: &Path) -> bool {
    let mut cut = image.to_vec();
    cut[SUPERBLOCK + kept..data_end(image)].fill(0);
    let file = scratch.join("cut.sfs");
    fs::write(&file, cut).unwrap();
    let output = Command::new("unsquashfs").arg("-cat").arg(&file).arg(path).output().unwrap();
    let length = LISTED.iter().find(|(listed, _)| *listed == path).map(|(_, length)| *length);
    let expected = noise(path, length.unwrap_or(3 * BLOCK + 77 * 9));
    output.stdout == expected
}

/// How many bytes from the beginning of the data on must be there for `path`.
fn needed(image: &[u8], path: &str, scratch: &Path) -> usize {
    let (mut few, mut enough) = (0, data_end(image) - SUPERBLOCK);
    assert!(readable(image, enough, path, scratch), "{path} is not in the image");
    while enough - few > 512 {
        let middle = few.midpoint(enough);
        if readable(image, middle, path, scratch) { enough = middle } else { few = middle }
    }
    enough
}

fn image_of(packed: &Value) -> Vec<u8> {
    fs::read(Path::new(packed["path"].as_str().unwrap()).join("rootimg.sfs")).unwrap()
}

fn list(dir: &Path, lines: &str) -> String {
    let file = dir.join("boot-order");
    fs::write(&file, lines).unwrap();
    text(&file).to_owned()
}

fn listed() -> String {
    LISTED.iter().fold("# recorded\n".to_owned(), |text, (path, _)| text + "/" + path + "\n")
}

#[test]
fn listed_files_occupy_the_first_bytes_of_the_image_in_their_order() {
    let dir = scratch();
    let (root, store) = (root(dir.path()), dir.path().join("store"));
    let order = list(dir.path(), &listed());
    let image = image_of(&pack_image(&root, &store, &["--order", &order]));
    // a block of short files is shared with others, and written when it is full
    let bound = LISTED.iter().map(|(_, length)| length).sum::<usize>() + BLOCK;
    let large: Vec<usize> = LISTED
        .iter()
        .map(|(path, length)| {
            let needed = needed(&image, path, dir.path());
            assert!(needed <= bound, "{path} needs {needed} bytes of the data, not {bound}");
            (*length > BLOCK, needed)
        })
        .filter_map(|(large, needed)| large.then_some(needed))
        .collect();
    assert!(large.is_sorted(), "{large:?}");
    assert!(!readable(&image, bound, "usr/aa/big9", dir.path()));
    assert!(data_end(&image) > 4 * bound);

    // without the list they lie where their names put them
    let plain = image_of(&pack_image(&root, &store, &[]));
    assert!(needed(&plain, "usr/zz/last by name", dir.path()) > 4 * bound);
}

#[test]
fn an_order_is_a_part_of_what_makes_an_image_the_same() {
    let dir = scratch();
    let root = root(dir.path());
    let copy = dir.path().join("copy of the root");
    run("cp", &["-a", text(&root), text(&copy)]);
    let order = list(dir.path(), &listed());
    let pack =
        |root: &Path, store: &str| pack_image(root, &dir.path().join(store), &["--order", &order]);
    let (first, second) = (pack(&root, "one"), pack(&copy, "two"));
    assert_eq!(first["revision"], second["revision"]);
    let manifest = Path::new(first["path"].as_str().unwrap()).join("manifest.json");
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let digest = run("sha256sum", &[&order]);
    assert_eq!(manifest["build"]["order"], digest.split(' ').next().unwrap());
    // the other way round is another image
    let mut lines: Vec<_> = listed().lines().map(str::to_owned).collect();
    lines.reverse();
    list(dir.path(), &lines.join("\n"));
    assert_ne!(pack(&root, "one")["info_hash"], first["info_hash"]);
}

#[test]
fn what_is_wrong_with_a_list_is_told() {
    let dir = scratch();
    let (root, store) = (root(dir.path()), dir.path().join("store"));
    let pack = |order: &str, further: &[&str]| {
        let mut args = vec!["pack", "--json", "--image-only", "--name", "test", "--order", order];
        args.extend(["--source", text(&root), "--store", text(&store)]);
        args.extend(further);
        packer(&args)
    };
    let order = list(dir.path(), "/etc/small\n/etc/../../etc/shadow\n");
    let refused = pack(&order, &[]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("boot-order, line 2"), "{}", stderr(&refused));
    assert!(!store.exists(), "a wrong list leaves no store behind");
    let gone = pack("/nowhere/list", &[]);
    assert!(gone.status.code() == Some(3) && stderr(&gone).contains("/nowhere/list"));

    let order = list(dir.path(), "/etc/small\n/etc/gone\n/usr/aa\n/run/x\n/var/log/y\n");
    let erofs = pack(&order, &["--format", "erofs"]);
    assert_eq!(erofs.status.code(), Some(3));
    assert!(stderr(&erofs).contains("takes no list"), "{}", stderr(&erofs));
    let told = pack(&order, &[]);
    assert!(told.status.success(), "{}", stderr(&told));
    let warning = events(&told).into_iter().find(|event| event["event"] == "warning").unwrap();
    let words = warning["text"].as_str().unwrap();
    assert!(words.contains("4 of 5 paths are no files of the image: /etc/gone"), "{words}");
}
