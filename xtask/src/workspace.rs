//! Where things are in this repository, and the one place that writes to the terminal.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::tool::SETPRIV;
use nix::unistd::geteuid;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask is a folder of the repository")
}

/// Everything that demos and labs keep: caches, logs, the demo's store. Git ignores it.
pub(crate) fn lab_folder() -> PathBuf {
    root().join(".lab")
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from))
}

/// The cargo that runs us, at the repository's root. It ends, compilers and all, when we end.
///
/// Under sudo it runs as the user who called sudo: root's files in that user's build folder would
/// make their next build fail.
pub(crate) fn cargo() -> Result<Command> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let variable = |name| env::var(name).ok();
    let mut command = match caller(variable("SUDO_UID"), variable("SUDO_GID")) {
        Some((user, group)) if geteuid().is_root() => {
            let mut command = lab::contained(SETPRIV.find()?)?;
            command.arg(format!("--reuid={user}")).arg(format!("--regid={group}"));
            command.arg("--init-groups").arg(cargo);
            command
        }
        _ => lab::contained(cargo)?,
    };
    command.current_dir(root());
    Ok(command)
}

/// User and group that called sudo, unless that was root.
fn caller(user: Option<String>, group: Option<String>) -> Option<(u32, u32)> {
    let user = user?.parse().ok()?;
    let group = group?.parse().ok()?;
    (user != 0).then_some((user, group))
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started, or does not succeed.
pub(crate) fn call(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::caller;

    #[test]
    fn only_a_user_who_called_sudo_counts() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(caller(text("1000"), text("100")), Some((1000, 100)));
        assert_eq!(caller(text("0"), text("0")), None);
        assert_eq!(caller(None, text("100")), None);
        assert_eq!(caller(text("x"), text("100")), None);
    }
}
