//! What the tests of the packer share: running the program, small roots, mounted images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A scratch directory that allows device nodes and extended attributes; needs root.
pub(crate) fn scratch() -> TempDir {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes device nodes and mounts: run as root"
    );
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// `bee-packer` with these arguments.
pub(crate) fn packer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(args)
        // where it keeps the logs of what failed
        .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

/// `bee-packer pack --image-only --json`; the `complete` event.
pub(crate) fn pack_image(source: &Path, store: &Path, further: &[&str]) -> Value {
    let mut args = vec!["pack", "--json", "--image-only", "--name", "test"];
    args.extend(["--source", source.to_str().unwrap(), "--store", store.to_str().unwrap()]);
    args.extend(further);
    complete(&packer(&args))
}

/// The `complete` event of a run that succeeded.
pub(crate) fn complete(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    events(output).pop().expect("events")
}

/// Every line of stdout as JSON.
pub(crate) fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a program of the host, which must succeed.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output =
        output.unwrap_or_else(|e| panic!("cannot run {program}, which this test needs: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The smallest tree that is taken for a root.
pub(crate) fn small_root(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/hostname"), "node\n").unwrap();
    fs::write(root.join("usr/bin/tool"), vec![7; 100_000]).unwrap();
    root
}

/// Bytes that no compressor makes fewer.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| byte()).collect()
}

/// An image that is mounted through a loop device, and unmounted on drop.
#[derive(Debug)]
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    pub(crate) fn new(image: &Path, at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        run("mount", &["-o", "loop,ro", text(image), text(&at)]);
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // -d: the loop device goes with it
        run("umount", &["-d", text(&self.0)]);
    }
}

/// A tmpfs that is unmounted on drop.
#[derive(Debug)]
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    pub(crate) fn new(at: PathBuf, size: &str) -> Self {
        fs::create_dir(&at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", text(&at)]);
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &[text(&self.0)]);
    }
}

/// Files below `dir`, relative, in order.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    fn walk(dir: &Path, base: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(base).unwrap().to_owned());
            if path.symlink_metadata().unwrap().is_dir() {
                walk(&path, base, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

/// Nothing of a failed or killed packing is visible, and nothing of it stays.
pub(crate) fn assert_store_is_clean(store: &Path) {
    if store.exists() {
        let left: Vec<_> = files(store).into_iter().map(|p| p.display().to_string()).collect();
        let expected = ["channels", "published", "revisions", "store.json", "tmp", "tmp/.lock"];
        assert_eq!(left, expected);
    }
}

/// What a program that succeeded printed.
pub(crate) fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}
