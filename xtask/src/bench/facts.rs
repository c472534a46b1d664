//! Where and when a benchmark ran, and with what: a figure without that says nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
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
            date: output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            commit: output("git", &["describe", "--always", "--dirty"]),
            command: command_line(std::env::args().skip(1)),
            programs: Programs::default(),
        }
    }
}

impl Programs {
    /// Notes the command lines of a client, the first time that it runs, and the programs' versions.
    /// Paths below `folders` are shortened: where they lie says nothing to others.
    pub(crate) fn note(&mut self, client: &str, commands: &[String], folders: &[(&Path, &str)]) {
        if self.commands.contains_key(client) {
            return;
        }
        for command in commands {
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
    let path = program.display().to_string();
    let owner = output("dpkg-query", &["--search", &path]);
    if let Some((name, _)) = owner.split_once(':') {
        let version = package(name);
        if !version.is_empty() {
            return version;
        }
    }
    let own = output(&path, &["--version"]);
    if own.is_empty() { "unknown".to_owned() } else { own }
}

/// Name and version of an installed package.
fn package(name: &str) -> String {
    output("dpkg-query", &["--show", "--showformat=${Package} ${Version}", name])
}

/// The first line of a program's output, or nothing.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let bytes = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().trim().to_owned()
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
