//! SIGKILL at every system call by which a store is changed: what is there then is the old or the new state, whole,
//! and the same command works afterwards.
//!
//! strace counts each kind of call by itself, and so it does each thread. A first run writes down what is called;
//! then each call of it has a run in which it is the last one.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{complete, files, pack_image, packer, run, small_root, stderr, text};

/// What changes a directory, or makes a change last. Each of them is a place to die at.
const CHANGES: &str = "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,\
                       rmdir,fsync,fdatasync,syncfs,chmod,fchmod,fchmodat,utimensat,copy_file_range";

/// What fills files, also in mksquashfs, which the packer outlives. Some of each kind are enough: what is
/// written to is a draft at all of them.
const CONTENT: &str = "write,writev,pwrite64,ftruncate,openat";

/// Of each kind of [`CONTENT`]: the first, the last, and some between them.
const SOME: usize = 8;

/// A call to die at.
#[derive(Debug)]
struct Point {
    call: String,
    /// Which one of its kind, from 1.
    number: usize,
}

fn traced(further: &[&str], log: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", text(log)]).args(further);
    command.arg(env!("CARGO_BIN_EXE_bee-packer")).args(args).output().unwrap()
}

/// Runs the command, which must succeed, and says where it could die: at its changes, and at other calls.
fn points(args: &[&str], log: &Path) -> (Vec<Point>, Vec<Point>) {
    let output = traced(&["-e", &format!("trace={CHANGES},{CONTENT}")], log, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    let written = fs::read_to_string(log).unwrap();
    // thread and call; a call that another thread's came between has two lines
    let calls: Vec<(&str, &str)> = written
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(thread, call)| (thread, call.trim_start()))
        .filter(|(_, call)| call.contains('(') && !call.starts_with("<..."))
        .collect();
    let named =
        |call: &str, name: &str| call.strip_prefix(name).is_some_and(|c| c.starts_with('('));
    let (packer, _) = *calls.first().expect("strace writes down calls");
    let mut changes = Vec::new();
    for name in CHANGES.split(',') {
        let all: Vec<_> = calls.iter().filter(|(_, call)| named(call, name)).collect();
        // the count would be another thread's
        assert!(
            all.iter().all(|(thread, _)| *thread == packer),
            "{name} is not the packer's: {all:?}"
        );
        changes.extend((1..=all.len()).map(|number| Point { call: name.to_owned(), number }));
    }
    let mut others = Vec::new();
    for name in CONTENT.split(',') {
        let mut numbers = Vec::new();
        let threads: std::collections::BTreeSet<_> =
            calls.iter().map(|(thread, _)| thread).collect();
        for thread in threads {
            let of_thread = calls.iter().filter(|(t, call)| t == thread && named(call, name));
            let fills = |call: &str| name != "openat" || call.contains("O_CREAT");
            numbers
                .extend((1..).zip(of_thread).filter(|(_, (_, call))| fills(call)).map(|(n, _)| n));
        }
        numbers.sort_unstable();
        numbers.dedup();
        let Some(last) = numbers.len().checked_sub(1) else { continue };
        let mut chosen: Vec<usize> = (0..SOME).map(|n| numbers[last * n / (SOME - 1)]).collect();
        chosen.dedup();
        others.extend(chosen.into_iter().map(|number| Point { call: name.to_owned(), number }));
    }
    (changes, others)
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

/// What nodes are to boot.
fn assigned(store: &Path) -> Option<Vec<u8>> {
    fs::read(store.join("assignments.json")).ok()
}

/// A command, the store before it, and the store that it makes of that.
struct Case<'a> {
    args: Vec<&'a str>,
    before: &'a Path,
    store: &'a Path,
    links_before: Vec<(PathBuf, PathBuf)>,
    links_after: Vec<(PathBuf, PathBuf)>,
    seen_after: Vec<PathBuf>,
    assigned_after: Option<Vec<u8>>,
}

impl Case<'_> {
    fn fresh(&self) {
        let _ = fs::remove_dir_all(self.store);
        run("cp", &["-a", text(self.before), text(self.store)]);
    }

    /// Whether the command died at this call, or at what it needs. What is there then must be good.
    fn dies_at(&self, point: &Point, log: &Path) -> bool {
        self.fresh();
        let Point { call, number } = point;
        let (trace, inject) =
            (format!("trace={call}"), format!("inject={call}:signal=KILL:when={number}"));
        let output = traced(&["-e", &trace, "-e", &inject], log, &self.args);
        if output.status.success() {
            return false;
        }
        // strace ends as its program did; one whose mksquashfs was killed says so
        let is_killed = output.status.signal() == Some(9) || output.status.code() == Some(4);
        let words = format!("{} at {point:?}", self.args[0]);
        assert!(is_killed, "{words}: {}", stderr(&output));
        for (link, target) in links(self.store) {
            // on its way to its place
            if link.starts_with("tmp") {
                continue;
            }
            let known = (link.clone(), target.clone());
            let is_known = self.links_before.contains(&known) || self.links_after.contains(&known);
            assert!(is_known, "{words}: {link:?} leads to {target:?}");
            let whole = self.store.join(&link).join("manifest.json").exists();
            assert!(whole, "{words}: {link:?} leads nowhere");
        }
        let known = [assigned(self.before), self.assigned_after.clone()];
        assert!(known.contains(&assigned(self.store)), "{words}: nodes are to boot something else");
        let output = packer(&["verify", "--store", text(self.store)]);
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        let history = fs::read_to_string(self.store.join("history.jsonl")).unwrap();
        for line in history.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect(&words);
        }
        // going back once more is another thing to do
        if self.args[0] != "rollback" || links(self.store) != self.links_after {
            let output = packer(&self.args);
            assert!(output.status.success(), "{words}: {}", stderr(&output));
        }
        assert_eq!(seen(self.store), self.seen_after, "{words}");
        assert_eq!(links(self.store), self.links_after, "{words}");
        assert_eq!(assigned(self.store), self.assigned_after, "{words}");
        true
    }
}

/// Kills the command at each of its changes, each time with the store as it is `before`.
fn kill_at_each_change(args: &[&str], before: &Path) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (log, store) = (dir.path().join("log"), dir.path().join("store"));
    let mut case = Case {
        args: [args, &["--store", text(&store)]].concat(),
        before,
        store: &store,
        links_before: links(before),
        links_after: Vec::new(),
        seen_after: Vec::new(),
        assigned_after: None,
    };
    case.fresh();
    let (changes, others) = points(&case.args, &log);
    (case.seen_after, case.links_after) = (seen(&store), links(&store));
    case.assigned_after = assigned(&store);
    for point in &changes {
        assert!(case.dies_at(point, &log), "{args:?} outlives {point:?}");
    }
    let is_rename = |point: &Point| point.call.starts_with("rename");
    assert!(changes.iter().any(is_rename), "{args:?} renames nothing: {changes:?}");
    assert!(changes.len() >= 4, "{args:?}: {changes:?}");
    let deadly = others.iter().filter(|point| case.dies_at(point, &log)).count();
    assert!(deadly > 0, "{args:?} outlives all of {others:?}");
}

#[test]
fn a_packer_killed_at_any_change_leaves_old_or_new() {
    // in memory: hundreds of changes are each brought to disk
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (root, before) = (small_root(dir.path()), dir.path().join("before"));
    let first = pack_image(&root, &before, &["--publish"]);
    fs::write(root.join("etc/hostname"), "second\n").unwrap();
    pack_image(&root, &before, &["--publish"]);
    fs::write(root.join("etc/hostname"), "third\n").unwrap();
    let old = format!("test@{}", first["revision"].as_str().unwrap());
    let key = dir.path().join("key");
    complete(&packer(&["keygen", "--json", "--empty-password", "--sign-key", text(&key)]));
    let source = ["--name", "test", "--source", text(&root)];
    let plain = ["--image-only", "--no-build-facts", "--compression", "lz4", "--publish"];
    for args in [
        &[&["pack"], &source[..], &plain].concat()[..],
        &["publish", &*old, "--channel", "testing"],
        &["rollback", "test"],
        &["sign", &*old, "--empty-password", "--sign-key", text(&key)],
        &["unpublish", &*old],
        &["prune", "test", "--keep", "0", "--ignore-nodes"],
    ] {
        kill_at_each_change(args, &before);
    }
}

#[test]
fn what_nodes_are_to_boot_is_told_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (root, before) = (small_root(dir.path()), dir.path().join("before"));
    let boot = dir.path().join("boot");
    fs::write(&boot, "kernel").unwrap();
    let at = ["--store", text(&before)];
    let pack = |version: &str, further: &[&str]| {
        fs::write(root.join("etc/version"), version).unwrap();
        let source = ["pack", "--json", "--name", "test", "--source", text(&root)];
        let boot = ["--kernel", text(&boot), "--keep-initrd", text(&boot)];
        let packed = complete(&packer(&[&source[..], &boot, &at, further].concat()));
        format!("test@{}", packed["revision"].as_str().unwrap())
    };
    let first = pack("1", &["--publish"]);
    // seeded from its first node on
    let second = pack("2", &[]);
    let next = ["reimage", "--at-next-boot"];
    let (one, two) = (["--nodes", "52:54:00:00:00:01"], ["--nodes", "52:54:00:00:00:02"]);
    kill_at_each_change(&[&next[..], &[&second], &one].concat(), &before);
    for (revision, node) in [(&first, one), (&second, two)] {
        complete(&packer(&[&next[..], &["--json", revision], &node, &at].concat()));
    }
    kill_at_each_change(&[&next[..], &[&second], &one].concat(), &before);
    kill_at_each_change(&[&["unassign"][..], &one].concat(), &before);
    kill_at_each_change(&["unassign", "--all"], &before);
    kill_at_each_change(&[&next[..], &[&second, "--all"]].concat(), &before);
}
