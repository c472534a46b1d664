//! Commands of the host that must leave nothing behind when they are cut short.

use std::ffi::OsStr;
use std::process::Command;

use crate::error::LabError;
use crate::tool::{SETPRIV, UNSHARE};

/// A command for `program` that runs in mount and PID namespaces of its own and dies with the
/// calling thread: its mounts and every process it started then go too.
///
/// # Errors
/// [`LabError::MissingTool`] when `unshare` or `setpriv` is not installed.
pub fn contained(program: impl AsRef<OsStr>) -> Result<Command, LabError> {
    let mut command = Command::new(SETPRIV.find()?);
    command.args(["--pdeathsig", "KILL"]).arg(UNSHARE.find()?);
    command.args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
    command.args(["--propagation", "private", "--"]).arg(program);
    Ok(command)
}
