//! A source or an overlay that changes while it is packed: refused, with the names of what changed.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{assert_store_is_clean, run, scratch, small_root, text};

/// Packs, and calls `change` when the image is begun; exit code and stderr.
fn pack_while(root: &Path, store: &Path, further: &[&str], change: impl FnOnce()) -> (i32, String) {
    let search = std::env::var("PATH").unwrap();
    pack_when("\"image\"", text(root), store, &search, further, change)
}

/// Packs with programs of the search path, and calls `change` at the first event with `word` in it; exit code
/// and stderr.
fn pack_when(
    word: &str,
    source: &str,
    store: &Path,
    search: &str,
    further: &[&str],
    change: impl FnOnce(),
) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(["pack", "--json", "--image-only", "--name", "test", "--source", source])
        .args(["--store", text(store)])
        .args(further)
        .env("PATH", search)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = |line: &std::io::Result<String>| line.as_ref().unwrap().contains(word);
    assert!(lines.any(|line| begun(&line)), "{word} never came");
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

#[test]
fn an_overlay_that_changes_is_refused() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for overlay in [&first, &second] {
        fs::create_dir_all(overlay.join("etc")).unwrap();
        fs::create_dir_all(overlay.join(".git")).unwrap();
        fs::write(overlay.join("etc/site"), "site\n").unwrap();
    }
    let overlays = ["--overlay", text(&first), "--overlay", text(&second)];
    // which means files of the source
    let further = [&overlays[..], &["--exclude", "etc/new"]].concat();
    for (changed, file) in [(&first, "etc/site"), (&second, "etc/site"), (&second, "etc/new")] {
        let change = || fs::write(changed.join(file), "other\n").unwrap();
        let (code, errors) = pack_while(&root, &store, &further, change);
        assert_eq!(code, 3, "{errors}");
        let words = format!("the overlay {} was changed while it was packed", changed.display());
        for word in [&*words, "1 files of it", &format!("    /{file}\n"), "a snapshot or copy\n"] {
            assert!(errors.contains(word), "{word:?} is not in: {errors}");
        }
        assert_store_is_clean(&store);
    }
    // what is not packed may change: git itself writes to its folder when it is only asked
    let other = || fs::write(second.join(".git/index"), "x").unwrap();
    let (code, errors) = pack_while(&root, &store, &further, other);
    assert_eq!(code, 0, "{errors}");
}

/// A tar and a container image of which a part is still being written. A `gzip` that waits for the change
/// stands for a file that is large.
#[test]
fn a_file_that_changes_while_it_is_unpacked_is_refused() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let path_of = |name: &str| dir.path().join(name);
    run("tar", &["-cf", text(&path_of("root.tar")), "-C", text(&root), "."]);
    let layout = path_of("layout");
    let tagged = format!("{}:v1", layout.display());
    run("umoci", &["init", "--layout", text(&layout)]);
    run("umoci", &["new", "--image", &tagged]);
    run("umoci", &["raw", "add-layer", "--image", &tagged, text(&path_of("root.tar"))]);
    run("tar", &["-cf", text(&path_of("image.tar")), "-C", text(&layout), "."]);
    let (looked, changed) = (path_of("looked"), path_of("changed"));
    let programs = path_of("programs");
    fs::create_dir(&programs).unwrap();
    let gzip = run("which", &["gzip"]);
    let script = format!(
        "#!/bin/sh\nif ! mkdir {} 2>/dev/null; then while ! test -e {}; do sleep 0.02; done; fi\n\
         exec {} \"$@\"\n",
        text(&looked),
        text(&changed),
        gzip.trim()
    );
    fs::write(programs.join("gzip"), script).unwrap();
    run("chmod", &["0755", text(&programs.join("gzip"))]);
    let search = format!("{}:{}", text(&programs), std::env::var("PATH").unwrap());
    let append = |path: &Path| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, &[0; 512]).unwrap();
    };
    // cut off, it is damaged, too: the cause is told, not the consequence
    let cut = |path: &Path| {
        fs::File::options().write(true).open(path).unwrap().set_len(300).unwrap();
    };
    // what is not said to be an image is looked into before
    for (name, kind, is_looked_into) in
        [("root.tar.gz", "", true), ("image.tar.gz", "oci-archive:", false)]
    {
        for change in [&append as &dyn Fn(&Path), &cut] {
            let path = path_of(name);
            run("gzip", &["-kf", text(&path.with_extension(""))]);
            let _ = fs::remove_file(&changed);
            let _ = fs::remove_dir(&looked);
            if !is_looked_into {
                fs::create_dir(&looked).unwrap();
            }
            let change = || {
                change(&path);
                fs::write(&changed, "").unwrap();
            };
            let source = format!("{kind}{}", path.display());
            let (code, errors) = pack_when("\"unpack\"", &source, &store, &search, &[], change);
            assert_eq!(code, 3, "{errors}");
            for word in [text(&path), "was changed while it was unpacked", "pack it again"] {
                assert!(errors.contains(word), "{word:?} is not in: {errors}");
            }
            assert_store_is_clean(&store);
        }
    }
}
