//! Programs that checks call, and the packages that bring them.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::bail;
use lab::tool::Tool;

use crate::workspace::{self, call};

/// A program and how to get it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    /// From the distribution.
    System(Tool),
    /// From rustup: the cargo subcommand and the component.
    Rustup {
        /// Program in `PATH`.
        program: &'static str,
        /// Name for `rustup component add`.
        component: &'static str,
    },
}

pub(crate) const CARGO_FMT: Program =
    Program::Rustup { program: "cargo-fmt", component: "rustfmt" };
pub(crate) const CARGO_CLIPPY: Program =
    Program::Rustup { program: "cargo-clippy", component: "clippy" };
pub(crate) const DASH: Program =
    Program::System(Tool::new("dash", "syntax of the initrd's hooks", "dash", "dash"));
pub(crate) const SHELLCHECK: Program =
    Program::System(Tool::new("shellcheck", "shell scripts", "shellcheck", "ShellCheck"));
pub(crate) const SYSTEMD_ANALYZE: Program =
    Program::System(Tool::new("systemd-analyze", "units", "systemd", "systemd"));

impl Program {
    /// The tool of the distribution, when it is not there.
    pub(crate) fn missing_tool(&self) -> Option<Tool> {
        match self {
            Program::System(tool) if tool.find().is_err() => Some(*tool),
            _ => None,
        }
    }

    /// What to say when it is not there; `None` when it is.
    pub(crate) fn missing_message(&self) -> Option<String> {
        match self {
            Program::System(tool) => tool.find().err().map(|_| {
                format!(
                    "{} is missing (needed for: {}); Debian: apt-get install {}; Fedora: dnf install {}",
                    tool.program, tool.why, tool.debian, tool.fedora
                )
            }),
            Program::Rustup { program, component } => {
                let found = Tool::new(program, "", "", "").find().is_ok();
                (!found).then(|| {
                    format!("{program} is missing; install it with: rustup component add {component}")
                })
            }
        }
    }
}

/// The cargo that started this program, at the repository's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command
}

/// Whether this runs in continuous integration (`CI=true`).
pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Installs what is missing: with apt-get as root on Debian and its kin, with rustup for Rust's own.
///
/// # Errors
/// When something is missing and cannot be installed here.
pub(crate) fn install_missing(programs: &[Program]) -> anyhow::Result<()> {
    let mut packages = BTreeSet::new();
    for program in programs.iter().filter(|program| program.missing_message().is_some()) {
        match program {
            Program::System(tool) => drop(packages.insert(tool.debian)),
            Program::Rustup { component, .. } => {
                call(Command::new("rustup").args(["component", "add", component]))?;
            }
        }
    }
    install_packages(&packages)
}

/// Installs Debian packages, if there are any to install.
///
/// # Errors
/// When this is not root or not Debian (the text says what to do), or apt-get fails.
pub(crate) fn install_packages(packages: &BTreeSet<&str>) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.iter().copied().collect::<Vec<_>>();
    if !nix::unistd::geteuid().is_root() {
        bail!("not root: cannot install {}; try: sudo apt-get install {0}", names.join(" "));
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("no apt-get here: install {} with this system's package manager", names.join(" "));
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        call(command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(args))
    };
    apt(&["update"])?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&[&install[..], &names[..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_names_its_package() {
        let tool = Tool::new("no-such-program", "nothing at all", "some-deb", "some-rpm");
        let text = Program::System(tool).missing_message().unwrap();
        assert!(text.contains("apt-get install some-deb"), "{text}");
        let rust = Program::Rustup { program: "no-such-program", component: "thing" };
        assert!(rust.missing_message().unwrap().contains("rustup component add thing"));
    }

    #[test]
    fn a_present_tool_has_no_message() {
        let tool = Tool::new("sh", "tests", "dash", "bash");
        assert_eq!(Program::System(tool).missing_message(), None);
    }
}
