//! Where things are in this repository, and the one place that writes to the terminal.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask is a folder of the repository")
}

/// Everything that demos and labs keep: caches, logs, the demo's store. Git ignores it.
pub(crate) fn lab_folder() -> PathBuf {
    root().join(".lab")
}

/// The cargo that runs us, at the repository's root. It ends, compilers and all, when we end.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = lab::contained(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))?;
    command.current_dir(root());
    Ok(command)
}

/// Writes a line to standard output. A closed pipe is no reason to stop.
pub(crate) fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Writes an error with its causes to standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    let _ = writeln!(io::stderr().lock(), "error: {error:#}");
}
