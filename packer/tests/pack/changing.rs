//! A source that changes while it is packed: refused, with the names of what changed.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{assert_store_is_clean, scratch, small_root, text};

/// Packs, and calls `change` when the image is begun; exit code and stderr.
fn pack_while(root: &Path, store: &Path, further: &[&str], change: impl FnOnce()) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(["pack", "--json", "--image-only", "--name", "test", "--source", text(root)])
        .args(["--store", text(store)])
        .args(further)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = |line: &std::io::Result<String>| line.as_ref().unwrap().contains("\"image\"");
    assert!(lines.any(|line| begun(&line)), "the image was never begun");
    change();
    // to the end, so that nothing waits for a reader
    let _ = lines.count();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    (child.wait().unwrap().code().unwrap(), errors)
}

#[test]
fn a_source_that_changes_is_refused() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    fs::create_dir_all(root.join("var/log")).unwrap();
    let change = || {
        fs::write(root.join("etc/hostname"), "other\n").unwrap();
        fs::write(root.join("etc/new"), "new\n").unwrap();
    };
    for further in [&[][..], &["--no-build-facts"]] {
        let _ = fs::remove_file(root.join("etc/new"));
        let (code, errors) = pack_while(&root, &store, further, change);
        assert_eq!(code, 3, "{errors}");
        for word in ["2 files of it", "/etc/hostname", "/etc/new", "snapshot", "--exclude"] {
            assert!(errors.contains(word), "{word:?} is not in: {errors}");
        }
        assert_store_is_clean(&store);
    }
    // what is not packed may change
    let log = || fs::write(root.join("var/log/messages"), "hello\n").unwrap();
    let (code, errors) = pack_while(&root, &store, &["--exclude", "var/log/*"], log);
    assert_eq!(code, 0, "{errors}");
}
