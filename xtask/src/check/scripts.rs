//! Shell scripts: syntax under the shell of the initrd, and shellcheck.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::cargo::problem;
use super::tree::Tree;
use crate::steps::Outcome;

/// Which shell a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    /// POSIX: dash in Debian's initrd.
    Sh,
    Bash,
}

/// Every POSIX script is read by dash, every bash script by bash.
pub(crate) fn syntax(tree: &Tree) -> anyhow::Result<Outcome> {
    let mut problems = Vec::new();
    for (path, shell) in scripts(tree)? {
        let program = if shell == Shell::Sh { "dash" } else { "bash" };
        let mut command = Command::new(program);
        command.arg("-n").arg(&path).current_dir(tree.root());
        problems.extend(problem(&mut command, "")?);
    }
    Ok(Outcome::of(problems))
}

/// shellcheck has nothing to say about any script.
pub(crate) fn shellcheck(tree: &Tree) -> anyhow::Result<Outcome> {
    let mut problems = Vec::new();
    for (path, shell) in scripts(tree)? {
        // dracut sources its hooks with /bin/sh, whatever that is: POSIX plus `local`
        let dialect = if shell == Shell::Sh { "dash" } else { "bash" };
        let mut command = Command::new("shellcheck");
        command.args(["--format", "gcc", "--shell", dialect]).arg(&path).current_dir(tree.root());
        problems.extend(problem(&mut command, "")?);
    }
    Ok(Outcome::of(problems))
}

/// All scripts: `*.sh`, and files without an ending that name a shell in their first line.
fn scripts(tree: &Tree) -> anyhow::Result<Vec<(PathBuf, Shell)>> {
    let mut scripts = Vec::new();
    let candidate =
        |path: &Path| path.extension().is_none() || path.extension().is_some_and(|e| e == "sh");
    for path in tree.files(candidate)? {
        let text = tree.read(&path)?.text;
        if let Some(shell) = shell_of(&path, &text) {
            scripts.push((path, shell));
        }
    }
    anyhow::ensure!(!scripts.is_empty(), "found no shell scripts; the dracut module has some");
    Ok(scripts)
}

fn shell_of(path: &Path, text: &str) -> Option<Shell> {
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix("#!") {
        Some(line) if line.contains("bash") => Some(Shell::Bash),
        Some(line) if line.ends_with("sh") || line.contains("sh ") => Some(Shell::Sh),
        _ => path.extension().map(|_| Shell::Sh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_which_shell() {
        for (path, first, shell) in [
            ("module-setup.sh", "#!/bin/bash", Some(Shell::Bash)),
            ("hook.sh", "#!/bin/sh", Some(Shell::Sh)),
            ("hook.sh", "# sourced", Some(Shell::Sh)),
            (".ci/run", "#!/usr/bin/env bash", Some(Shell::Bash)),
            ("Makefile", "all:", None),
            ("tool", "#!/usr/bin/python3", None),
        ] {
            assert_eq!(shell_of(Path::new(path), first), shell, "{path}: {first}");
        }
    }
}
