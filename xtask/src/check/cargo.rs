//! Checks that cargo and its companions do.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use super::tools;
use super::tree::Tree;
use crate::steps::Outcome;

/// Most lines of a tool's output that are repeated in the summary.
const KEPT_LINES: usize = 120;

/// `cargo fmt --check` on every crate, the fuzz targets too.
pub(crate) fn fmt(tree: &Tree) -> anyhow::Result<Outcome> {
    let mut problems = Vec::new();
    let mut ours = cargo(tree, &["fmt", "--all", "--check"]);
    problems.extend(problem(&mut ours, "remedy: cargo fmt --all")?);
    let mut fuzz = cargo(tree, &["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"]);
    problems.extend(problem(&mut fuzz, "remedy: cd fuzz && cargo fmt")?);
    Ok(Outcome::of(problems))
}

/// Clippy on every target; warnings are errors. They are not denied, because a crate that fails
/// hides what is wrong in those that depend on it: nothing may be said at all.
pub(crate) fn clippy(tree: &Tree) -> anyhow::Result<Outcome> {
    let args = ["clippy", "--workspace", "--all-targets", "--keep-going", "--quiet"];
    let output = cargo(tree, &args).output().context("cannot start cargo clippy")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.trim().is_empty() {
        return Ok(Outcome::of(Vec::new()));
    }
    Ok(Outcome::of(vec![format!("{}\n{}", shortened(&said), output.status)]))
}

/// rustdoc on everything, private items too; warnings are errors.
pub(crate) fn rustdoc(tree: &Tree) -> anyhow::Result<Outcome> {
    let args = ["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"];
    let mut command = cargo(tree, &args);
    command.env("RUSTDOCFLAGS", "--deny warnings");
    Ok(Outcome::of(problem(&mut command, "")?.into_iter().collect()))
}

/// The fuzz targets type-check; building them for real needs a nightly compiler.
pub(crate) fn fuzz(tree: &Tree) -> anyhow::Result<Outcome> {
    let args = ["check", "--quiet", "--no-default-features", "--manifest-path", "fuzz/Cargo.toml"];
    let mut command = cargo(tree, &args);
    command.env("CARGO_TARGET_DIR", target_folder(tree).join("fuzz"));
    Ok(Outcome::of(problem(&mut command, "")?.into_iter().collect()))
}

/// Where cargo builds: `CARGO_TARGET_DIR`, or `target` in the checkout.
pub(crate) fn target_folder(tree: &Tree) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => tree.root().join(folder),
        None => tree.root().join("target"),
    }
}

fn cargo(tree: &Tree, args: &[&str]) -> Command {
    let mut command = tools::cargo();
    command.args(args).current_dir(tree.root());
    command
}

/// Runs a command; its output, shortened, when it fails.
pub(crate) fn problem(command: &mut Command, remedy: &str) -> anyhow::Result<Option<String>> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if output.status.success() {
        return Ok(None);
    }
    let text = [output.stdout, output.stderr].concat();
    let mut text = shortened(&String::from_utf8_lossy(&text));
    if !remedy.is_empty() {
        text = format!("{text}\n{remedy}");
    }
    Ok(Some(format!("{text}\n{}", output.status)))
}

/// The first lines of a tool's output, and how many more there were.
fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let kept = lines.iter().take(KEPT_LINES).copied().collect::<Vec<_>>().join("\n");
    match lines.len().saturating_sub(KEPT_LINES) {
        0 => kept,
        more => format!("{kept}\n… and {more} more lines"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_is_cut_and_says_so() {
        assert_eq!(shortened("a\nb\n"), "a\nb");
        let long = "x\n".repeat(KEPT_LINES + 7);
        assert!(shortened(&long).ends_with("x\n… and 7 more lines"));
    }

    #[test]
    fn a_failure_is_told_with_its_remedy() {
        let sh =
            |script: &str| problem(Command::new("sh").args(["-c", script]), "do this").unwrap();
        assert_eq!(sh("echo fine"), None);
        let text = sh("echo wrong >&2; exit 3").unwrap();
        assert!(text.starts_with("wrong\ndo this") && text.contains('3'), "{text}");
    }
}
