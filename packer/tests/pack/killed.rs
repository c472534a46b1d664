//! SIGKILL at every stage: the store holds what it held before, and the next packing works.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::support::{files, pack_image, packer, run, scratch, small_root, stderr, text};

#[test]
fn a_packer_killed_at_any_stage_leaves_the_old_state() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    pack_image(&root, &store, &["--publish"]);
    std::fs::write(root.join("etc/hostname"), "new\n").unwrap();
    let tar = dir.path().join("root.tar");
    run("tar", &["-cf", text(&tar), "-C", text(&root), "."]);
    let before: Vec<_> = files(&store).into_iter().filter(|p| !p.starts_with("tmp")).collect();

    // the contents of a directory are an overlay mount, which goes with the process
    let stages = [("unpack", &tar), ("contents", &root), ("secrets", &root), ("image", &root)];
    for (stage, source) in stages.into_iter().chain([("hash", &tar), ("store", &tar)]) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
            .args(["pack", "--json", "--image-only", "--name", "test", "--source"])
            .arg(source)
            .args(["--exclude", "usr/bin/no*", "--store"])
            .arg(&store)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let wanted = format!("{{\"event\":\"stage\",\"stage\":\"{stage}\"}}");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen = lines.map(Result::unwrap).any(|line| line == wanted);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen, "never came to {stage}");
        let after: Vec<_> = files(&store).into_iter().filter(|p| !p.starts_with("tmp")).collect();
        // killed while committing, the revision may be there, whole
        if stage != "store" {
            assert_eq!(after, before, "killed at {stage}");
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(text(&store)), "killed at {stage}: {mounts}");
        let output = packer(&["verify", "--store", text(&store)]);
        assert!(output.status.success(), "killed at {stage}: {}", stderr(&output));
    }
    pack_image(&tar, &store, &["--publish"]);
    let tmp: Vec<_> = files(&store.join("tmp"));
    assert_eq!(tmp, [".lock"].map(std::path::PathBuf::from), "leftovers");
}
