//! Where and when a benchmark ran, and with what: a figure without that says nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

/// The contender that is a library, and its package.
const LIBTORRENT: (&str, &str) = ("libtorrent", "python3-libtorrent");

/// Machine, time and programs of a benchmark.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Facts {
    /// Processor model, processors and memory.
    pub(crate) machine: String,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Start, UTC.
    pub(crate) date: String,
    /// Revision of this repository.
    pub(crate) commit: String,
    /// The command line.
    pub(crate) command: String,
    /// Of each program its version, of each client its command lines.
    pub(crate) programs: Programs,
}

/// What ran.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Programs {
    /// Version of each program, by its file name.
    pub(crate) versions: BTreeMap<String, String>,
    /// Command lines of each client: tracker, seeder, a node.
    pub(crate) commands: BTreeMap<String, Vec<String>>,
}

impl Facts {
    /// Looks around.
    pub(crate) fn gather() -> Facts {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        Facts {
            machine: machine(&read("/proc/cpuinfo"), &read("/proc/meminfo"), cpus),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            date: first_line(&output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            commit: first_line(&output("git", &["describe", "--always", "--dirty"])),
            command: command_line(std::env::args().skip(1)),
            programs: Programs::default(),
        }
    }
}

/// Before the program that is meant.
const PINNED: &str = "taskset --cpu-list 0 ";

impl Programs {
    /// Notes the command lines of a client, the first time that it runs, and the programs' versions.
    /// Paths below `folders` are shortened: where they lie says nothing to others.
    pub(crate) fn note(&mut self, client: &str, commands: &[String], folders: &[(&Path, &str)]) {
        if self.commands.contains_key(client) {
            return;
        }
        for command in commands {
            let command = command.strip_prefix(PINNED).unwrap_or(command);
            let program = Path::new(command.split(' ').next().unwrap_or_default());
            let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.versions.entry(name).or_insert_with(|| version(program));
        }
        if client == LIBTORRENT.0 {
            // its program is an interpreter, whose version says little
            let version = package(LIBTORRENT.1);
            self.versions.insert(LIBTORRENT.0.to_owned(), version);
        }
        let commands = commands.iter().map(|command| shortened(command, folders)).collect();
        self.commands.insert(client.to_owned(), commands);
    }
}

/// The command with its program's name instead of its path.
fn shortened(command: &str, folders: &[(&Path, &str)]) -> String {
    let (program, rest) = command.split_once(' ').unwrap_or((command, ""));
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let command = format!("{name} {rest}");
    folders.iter().fold(command.trim_end().to_owned(), |command, (folder, name)| {
        command.replace(&format!("{}/", folder.display()), name)
    })
}

fn machine(cpuinfo: &str, meminfo: &str, cpus: usize) -> String {
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field(cpuinfo, "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let kib: Option<u64> = field(meminfo, "MemTotal")
        .and_then(|text| text.strip_suffix(" kB").and_then(|kib| kib.trim().parse().ok()));
    let memory =
        kib.map_or("unknown".to_owned(), |kib| format!("{:.0} GiB", kib as f64 / 1048576.0));
    format!("{model}, {cpus} processors, {memory} memory")
}

/// The version of the package that a program came with, or what the program says itself.
fn version(program: &Path) -> String {
    let path = found(program);
    // /bin may be a link to /usr/bin, and the package knows one of the names
    let other = Path::new("/").join(path.strip_prefix("/usr").unwrap_or(&path));
    for path in [&path, &other] {
        if let Some(name) = owner(&output("dpkg-query", &["--search", &path.to_string_lossy()])) {
            return package(name);
        }
    }
    let own = first_line(&output(&path.to_string_lossy(), &["--version"]));
    if own.is_empty() { "unknown".to_owned() } else { own }
}

/// Where a program is that may be given by its name alone; dpkg would look for that name anywhere in a path.
fn found(program: &Path) -> PathBuf {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&search).map(|folder| folder.join(program));
    places.find(|path| path.is_file()).unwrap_or_else(|| program.to_owned())
}

/// The package in an answer of `dpkg-query --search`.
fn owner(answer: &str) -> Option<&str> {
    let lines = answer.lines().filter(|line| !line.starts_with("diversion by "));
    lines.filter_map(|line| line.split_once(':')).map(|(name, _)| name).next()
}

/// Name and version of an installed package.
fn package(name: &str) -> String {
    first_line(&output("dpkg-query", &["--show", "--showformat=${Package} ${Version}", name]))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// What a program prints, or nothing.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    String::from_utf8_lossy(&output.map(|output| output.stdout).unwrap_or_default()).into_owned()
}

/// The arguments as they were given to `cargo xtask`.
fn command_line(args: impl Iterator<Item = String>) -> String {
    let mut args = args.peekable();
    let mut words = vec!["cargo xtask".to_owned()];
    while let Some(arg) = args.next() {
        // where results and programs lay is of no use elsewhere
        if arg == "--output" || arg == "--programs" {
            args.next();
        } else if !arg.starts_with("--output=") && !arg.starts_with("--programs=") {
            words.push(arg);
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_path_is_that_of_the_shell() {
        assert!(found(Path::new("sh")).is_absolute());
        assert_eq!(found(Path::new("/no/such")), Path::new("/no/such"));
        let answer = "diversion by dash from: /bin/sh\ndiversion by dash to: /bin/sh.distrib\n\
            dash: /bin/sh\n";
        assert_eq!(owner(answer), Some("dash"));
        assert_eq!(owner("diversion by dash from: /bin/sh\n"), None);
    }

    #[test]
    fn a_machine_in_a_line() {
        let line =
            machine("processor: 0\nmodel name\t: Fast CPU @ 2\n", "MemTotal: 4194304 kB\n", 2);
        assert_eq!(line, "Fast CPU @ 2, 2 processors, 4 GiB memory");
        assert_eq!(machine("", "", 1), "unknown processor, 1 processors, unknown memory");
    }

    #[test]
    fn paths_of_this_machine_are_left_out() {
        let folders = [(Path::new("/a/out"), "OUTPUT/"), (Path::new("/b/release"), "")];
        let line = shortened("/b/release/bee-seeder seed --torrent /a/out/image.torrent", &folders);
        assert_eq!(line, "bee-seeder seed --torrent OUTPUT/image.torrent");
        let args = ["bench", "swarm", "--output", "/tmp/x", "--nodes", "8", "--programs=/y"];
        let line = command_line(args.into_iter().map(str::to_owned));
        assert_eq!(line, "cargo xtask bench swarm --nodes 8");
    }

    #[test]
    fn commands_are_noted_once() {
        let mut programs = Programs::default();
        programs.note("a", &["/bin/sh -c x".to_owned()], &[]);
        programs.note("a", &["/bin/other".to_owned()], &[]);
        assert_eq!(programs.commands["a"], ["sh -c x"]);
        assert!(programs.versions.contains_key("sh") && !programs.versions.contains_key("other"));
    }

    #[test]
    fn the_kernel_has_a_release() {
        assert!(!Facts::gather().kernel.is_empty());
    }
}
