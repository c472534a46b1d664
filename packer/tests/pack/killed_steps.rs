//! SIGKILL at every system call by which a store is changed: what is there then is the old or the new state, whole,
//! and the same command works afterwards.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{files, pack_image, packer, run, small_root, stderr, text};

/// What changes a directory or makes a change last.
const CALLS: &str = "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,\
                     rmdir,fsync,fdatasync,syncfs,chmod,fchmod,fchmodat,ftruncate,copy_file_range";

/// No command takes so many.
const MOST: u32 = 500;

/// Runs `bee-packer`, which gets SIGKILL before its `number`-th change; whether it came that far.
fn killed_at(number: u32, args: &[&str], log: &Path) -> (bool, Output) {
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", text(log), "-e", &format!("trace={CALLS}")]);
    command.args(["-e", &format!("inject={CALLS}:signal=KILL:when={number}")]);
    let output = command.arg(env!("CARGO_BIN_EXE_bee-packer")).args(args).output().unwrap();
    // strace ends as its program did
    (output.status.signal() == Some(9), output)
}

/// Where the links of a store lead.
fn links(store: &Path) -> Vec<(PathBuf, PathBuf)> {
    let found = files(store).into_iter().filter_map(|path| {
        let target = fs::read_link(store.join(&path)).ok()?;
        Some((path, target))
    });
    found.collect()
}

/// What is to be seen of a store, without what is in the making, and what is only said about it.
fn seen(store: &Path) -> Vec<PathBuf> {
    let hidden = |path: &PathBuf| path.starts_with("tmp") || path.ends_with("history.jsonl");
    files(store).into_iter().filter(|path| !hidden(path)).collect()
}

#[test]
fn a_packer_killed_at_any_change_leaves_old_or_new() {
    // in memory: hundreds of changes are each brought to disk
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (root, before) = (small_root(dir.path()), dir.path().join("before"));
    let first = pack_image(&root, &before, &["--publish"]);
    fs::write(root.join("etc/hostname"), "second\n").unwrap();
    let second = pack_image(&root, &before, &["--publish"]);
    fs::write(root.join("etc/hostname"), "third\n").unwrap();
    let old = format!("test@{}", first["revision"].as_str().unwrap());
    let log = dir.path().join("log");
    let source = ["--name", "test", "--source", text(&root)];
    let plain = ["--image-only", "--no-build-facts", "--compression", "lz4", "--publish"];
    for (command, args) in [
        ("pack", [&source[..], &plain].concat()),
        ("publish", vec![&*old, "--channel", "testing"]),
        ("rollback", vec!["test"]),
        ("prune", vec!["test", "--keep", "0", "--ignore-nodes"]),
    ] {
        let store = dir.path().join("store");
        let fresh = || {
            let _ = fs::remove_dir_all(&store);
            run("cp", &["-a", text(&before), text(&store)]);
        };
        let args = [&[command][..], &args, &["--store", text(&store)]].concat();
        fresh();
        let output = packer(&args);
        assert!(output.status.success(), "{command}: {}", stderr(&output));
        let (after, links_after) = (seen(&store), links(&store));
        let mut number = 0;
        loop {
            number += 1;
            assert!(number < MOST, "{command} never ends");
            fresh();
            let (killed, output) = killed_at(number, &args, &log);
            if !killed {
                assert!(output.status.success(), "{command}: {}", stderr(&output));
                break;
            }
            for (link, target) in links(&store) {
                let known = links(&before).contains(&(link.clone(), target.clone()))
                    || links_after.contains(&(link.clone(), target.clone()))
                    // on its way to its place
                    || link.starts_with("tmp");
                assert!(known, "{command}, change {number}: {link:?} leads to {target:?}");
                let whole =
                    link.starts_with("tmp") || store.join(&link).join("manifest.json").exists();
                assert!(whole, "{command}, change {number}: {link:?} leads nowhere");
            }
            let output = packer(&["verify", "--store", text(&store)]);
            assert!(output.status.success(), "{command}, {number}: {}", stderr(&output));
            // going back once more is another thing to do
            if command != "rollback" || links(&store) != links_after {
                let output = packer(&args);
                assert!(output.status.success(), "{command}, {number}: {}", stderr(&output));
            }
            assert_eq!((seen(&store), links(&store)), (after.clone(), links_after.clone()));
        }
        assert!(number > 3, "{command} was killed {number} times only");
    }
    assert!(second["new"] == true);
}
