//! What programs ask of the kernel, as `strace -f -y` writes it down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{stderr, text};

/// What [`own`] must see besides.
pub(crate) const STARTS: &str = "execve,clone,clone3,fork,vfork";

/// A system call that succeeded.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) thread: u32,
    pub(crate) name: String,
    arguments: String,
    /// What it returned; for most calls a number of bytes.
    pub(crate) result: u64,
    /// When it was begun and when it was over, counted in lines: calls of several threads overlap.
    pub(crate) began: usize,
    pub(crate) ended: usize,
}

impl Call {
    /// Its paths, in order; relative ones as they are.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let mut base = None;
        let mut paths = Vec::new();
        for part in parts(&self.arguments) {
            match part {
                Part::Descriptor(of) => base = Some(of),
                Part::Text(path) => {
                    paths.push(base.take().map_or(path.into(), |b| Path::new(b).join(path)))
                }
            }
        }
        paths
    }

    /// What its open files are, in order.
    pub(crate) fn descriptors(&self) -> Vec<PathBuf> {
        let of = |part| match part {
            Part::Descriptor(of) => Some(PathBuf::from(of)),
            Part::Text(_) => None,
        };
        parts(&self.arguments).into_iter().filter_map(of).collect()
    }

    /// Whether a flag or another word is among its arguments.
    pub(crate) fn says(&self, word: &str) -> bool {
        self.arguments.split(['|', ',', ' ']).any(|flag| flag == word)
    }

    /// An argument as it is written, by its place; for calls without texts.
    pub(crate) fn argument(&self, place: usize) -> &str {
        self.arguments.split(", ").nth(place).unwrap_or_default()
    }
}

enum Part<'a> {
    /// `3</path>`: the path.
    Descriptor(&'a str),
    /// `"/path"`, or what is written: no path of these tests has a character that strace would escape.
    Text(&'a str),
}

fn parts(arguments: &str) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    let mut rest = arguments;
    while let Some(at) = rest.find(['<', '"']) {
        let inner = &rest[at + 1..];
        let mut escaped = false;
        let is_end = |c: char| {
            let ends = if rest[at..].starts_with('<') { c == '>' } else { c == '"' && !escaped };
            escaped = c == '\\' && !escaped;
            ends
        };
        let Some(end) = inner.find(is_end) else { break };
        let part = if rest[at..].starts_with('<') { Part::Descriptor } else { Part::Text };
        found.push(part(&inner[..end]));
        rest = &inner[end + 1..];
    }
    found
}

/// Runs `bee-packer` and writes down these calls of it and of the programs that it runs. `shell` is done
/// before, in a mount namespace of its own.
pub(crate) fn traced(
    shell: &str,
    calls: &str,
    log: &Path,
    arguments: &[&str],
) -> (Output, Vec<Call>) {
    let strace = ["strace", "-f", "-y", "-qq", "-e", &format!("trace={calls}"), "-o", text(log)];
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", &format!("{shell}\nexec \"$0\" \"$@\"")])
        .args(strace)
        .arg(env!("CARGO_BIN_EXE_bee-packer"))
        .args(arguments)
        .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?} (this test needs strace): {}", stderr(&output));
    let calls = parse(&fs::read_to_string(log).unwrap());
    assert!(!calls.is_empty(), "strace has written nothing down");
    (output, calls)
}

/// Those of the traced program itself, all its threads, without the programs that it runs.
pub(crate) fn own(calls: &[Call]) -> Vec<&Call> {
    // the first is strace's, which becomes the program
    let first = calls.first().filter(|call| call.name == "execve").expect("execve is traced");
    let mut replaced = BTreeMap::new();
    for call in calls.iter().skip(1).filter(|call| call.name == "execve") {
        replaced.entry(call.thread).or_insert(call.began);
    }
    let mut threads = BTreeSet::from([u64::from(first.thread)]);
    let is_own = |threads: &BTreeSet<u64>, call: &Call| {
        let is_program = replaced.get(&call.thread).is_none_or(|at| call.began < *at);
        threads.contains(&u64::from(call.thread)) && is_program
    };
    let mut begun: Vec<&Call> = calls.iter().collect();
    begun.sort_by_key(|call| call.began);
    for call in &begun {
        if STARTS.split(',').any(|name| name == call.name) && is_own(&threads, call) {
            threads.insert(call.result);
        }
    }
    begun.retain(|call| is_own(&threads, call));
    begun
}

/// In the order in which they were over.
fn parse(log: &str) -> Vec<Call> {
    let mut open: BTreeMap<u32, (usize, &str)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (number, line) in log.lines().enumerate() {
        let Some((thread, line)) = line.split_once(' ') else { continue };
        let (thread, line) = (thread.parse().unwrap(), line.trim_start());
        if let Some(begun) = line.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (number, begun));
            continue;
        }
        let (began, whole) = match line.strip_prefix("<... ") {
            Some(resumed) => {
                let (began, begun) = open.remove(&thread).unwrap_or_else(|| panic!("{line}"));
                let (_, rest) = resumed.split_once(" resumed>").unwrap();
                (began, format!("{begun}{rest}"))
            }
            None => (number, line.to_owned()),
        };
        // signals have neither; of what failed nothing has come
        let Some((name, rest)) = whole.split_once('(') else { continue };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { continue };
        let number_of = result.split([' ', '<']).next().unwrap_or_default();
        // addresses, of mmap
        let result = if number_of.starts_with("0x") { Some(0) } else { number_of.parse().ok() };
        let Some(result) = result else { continue };
        let arguments = arguments.trim_end().trim_end_matches(')').to_owned();
        calls.push(Call { thread, name: name.to_owned(), arguments, result, began, ended: number });
    }
    calls
}

#[test]
fn calls_are_read_as_strace_writes_them() {
    let log = "7  openat(AT_FDCWD</a>, \"b\\\"<c\", O_RDWR|O_CREAT, 0644) = 3</a/b>\n\
               7  write(3</a/b>, \"<x> \\\\\"..., 99 <unfinished ...>\n\
               8  fsync(3</a/b>) = 0\n\
               7  <... write resumed>)          = 99\n\
               8  rename(\"/a/b\", \"/a/c\") = -1 ENOENT (No such file or directory)\n\
               8  --- SIGCHLD {si_signo=SIGCHLD} ---\n";
    let calls = parse(log);
    let names: Vec<_> = calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["openat", "fsync", "write"]);
    assert_eq!(calls[0].paths(), [Path::new("/a/b\\\"<c")]);
    assert!(calls[0].says("O_CREAT") && !calls[0].says("O_TRUNC"));
    let write = &calls[2];
    assert_eq!((write.thread, write.result, write.began, write.ended), (7, 99, 1, 3));
    assert_eq!(write.descriptors(), [Path::new("/a/b")]);
    assert_eq!(calls[1].began, 2);
}
