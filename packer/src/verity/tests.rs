//! The tree beside what veritysetup makes.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// An image of this many blocks without repeats.
fn image(dir: &Path, blocks: u32) -> PathBuf {
    let path = dir.join(format!("image-{blocks}"));
    let words = (0..blocks * 1024).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    std::fs::write(&path, words.collect::<Vec<u8>>()).unwrap();
    path
}

fn veritysetup(args: &[&str]) -> (bool, String) {
    let output = Command::new("veritysetup")
        .args(args)
        .output()
        .expect("veritysetup must be installed for this test: cryptsetup-bin");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
}

/// `Key:   value` in what veritysetup prints.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).trim()
}

fn uuid(verity: &Verity) -> String {
    let hex = verity.root_hash.to_string();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-")
}

/// Sizes at which the number of levels, or how full they are, changes.
const SIZES: [u32; 8] = [1, 2, 127, 128, 129, 1000, 128 * 128, 128 * 128 + 1];

/// Writes the tree of a file behind it.
fn append(path: &Path) -> Verity {
    let tree = of_file(path, u64::MAX).unwrap();
    let mut file = File::options().append(true).open(path).unwrap();
    io::Write::write_all(&mut file, &tree.bytes).unwrap();
    tree.verity
}

#[test]
fn veritysetup_writes_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for blocks in SIZES {
        let ours = image(dir.path(), blocks);
        let theirs = dir.path().join("theirs");
        std::fs::copy(&ours, &theirs).unwrap();
        let verity = append(&ours);
        assert_eq!(length_with_tree(u64::from(blocks) * 4096), Some(verity.length()));
        assert_eq!(verity.data_blocks(), u64::from(blocks));
        assert_eq!(std::fs::metadata(&ours).unwrap().len(), verity.length(), "{blocks} blocks");
        let (offset, count) = (verity.hash_offset().to_string(), blocks.to_string());
        let path = theirs.to_str().unwrap();
        let (done, text) = veritysetup(&[
            "format",
            "--data-block-size=4096",
            "--hash-block-size=4096",
            "--hash=sha256",
            &format!("--salt={VERITY_SALT}"),
            &format!("--uuid={}", uuid(&verity)),
            &format!("--data-blocks={count}"),
            &format!("--hash-offset={offset}"),
            path,
            path,
        ]);
        assert!(done, "{text}");
        assert_eq!(value(&text, "Root hash"), verity.root_hash.to_string(), "{blocks} blocks");
        let (ours, mut theirs) = (std::fs::read(&ours).unwrap(), std::fs::read(&theirs).unwrap());
        // it leaves out what is zero at the end of the file
        theirs.resize(theirs.len().next_multiple_of(4096), 0);
        assert!(ours == theirs, "the bytes of {blocks} blocks differ");
    }
}

#[test]
fn veritysetup_reads_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), 300);
    let verity = append(&image);
    let (path, offset) =
        (image.to_str().unwrap(), format!("--hash-offset={}", verity.hash_offset()));
    let (done, dump) = veritysetup(&["dump", path, &offset]);
    assert!(done, "{dump}");
    for (key, expected) in [
        ("UUID", uuid(&verity)),
        ("Hash type", "1".into()),
        ("Data blocks", "300".into()),
        ("Hash blocks", "4".into()),
        ("Hash algorithm", "sha256".into()),
        ("Salt", VERITY_SALT.to_string()),
    ] {
        assert!(value(&dump, key).starts_with(&expected), "{key}: {dump}");
    }
    let root = verity.root_hash.to_string();
    let verify = || veritysetup(&["verify", path, path, &root, &offset]);
    let (done, text) = verify();
    assert!(done, "{text}");
    assert!(fits(&image, &verity).unwrap());
    // a bit of the data, and one of the tree
    let good = std::fs::read(&image).unwrap();
    for at in [4096 * 299 + 17, usize::try_from(verity.hash_offset()).unwrap() + 4096 * 3 + 5] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&image, &bad).unwrap();
        let (done, text) = verify();
        assert!(!done, "byte {at}: {text}");
        assert!(!fits(&image, &verity).unwrap());
    }
}

#[test]
fn parts_of_whole_blocks_give_the_tree_of_the_whole() {
    let bytes: Vec<u8> = (0..=250_u8).cycle().take(70 * BLOCK + 100).collect();
    let tree = |part: usize| Tree::over(bytes.chunks(part).flat_map(leaves).collect()).unwrap();
    let whole = tree(bytes.len());
    // what is short is as if it were filled up
    assert_eq!(whole.verity.data_blocks(), 71);
    for part in [BLOCK, 3 * BLOCK, (BATCH + 1) * BLOCK] {
        let other = tree(part);
        assert_eq!((other.verity, &other.bytes), (whole.verity, &whole.bytes));
    }
    assert_eq!(whole.verity.length(), (71 * BLOCK + whole.bytes.len()) as u64);
    assert!(Tree::over(Vec::new()).is_none());
    assert_eq!((length_with_tree(0), length_with_tree(u64::MAX)), (None, None));
}
