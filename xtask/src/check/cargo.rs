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

/// Clippy on every target; warnings are errors.
pub(crate) fn clippy(tree: &Tree) -> anyhow::Result<Outcome> {
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--keep-going",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ];
    Ok(Outcome::of(problem(&mut cargo(tree, &args), "")?.into_iter().collect()))
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
    let text = String::from_utf8_lossy(&text);
    let mut lines: Vec<&str> = text.lines().take(KEPT_LINES).collect();
    let left_out = text.lines().count() - lines.len();
    let more = format!("… and {left_out} more lines");
    if left_out > 0 {
        lines.push(&more);
    }
    if !remedy.is_empty() {
        lines.push(remedy);
    }
    Ok(Some(format!("{}\n{}", lines.join("\n"), output.status)))
}
