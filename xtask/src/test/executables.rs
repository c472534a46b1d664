//! One build of everything, and the test programs it made.
//!
//! Building and running are apart so that all crates are built once with the same features: a
//! `cargo test --package X` per crate would build many of them again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::check::tools;

/// A program made of tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Executable {
    /// Folder of its crate, as in the table of ARCHITECTURE.md.
    pub(crate) folder: String,
    /// Where that folder is.
    pub(crate) manifest_folder: PathBuf,
    /// Kind and name, such as `test fuzz_smoke`.
    pub(crate) name: String,
    /// The program.
    pub(crate) path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

/// Builds all programs and all tests of the workspace; the tests, sorted by crate.
///
/// # Errors
/// When something does not compile (the compiler has said what), or takes longer than `limit`.
pub(crate) fn build(limit: Duration) -> anyhow::Result<Vec<Executable>> {
    let mut command = tools::cargo();
    command.args(["build", "--workspace", "--all-targets", "--quiet"]);
    command.args(["--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let mut programs = Vec::new();
    let read = |out: ChildStdout| {
        for line in BufReader::new(out).lines() {
            let line = line.context("cannot read what cargo says")?;
            programs.extend(executable(&line)?);
        }
        anyhow::Ok(())
    };
    let ended = super::limited::run_reading(&mut command, limit, read)?;
    if let Some(text) = ended.problem() {
        anyhow::bail!("cargo build {text}");
    }
    ensure!(!programs.is_empty(), "cargo built no tests at all");
    programs.sort_by(|a, b| (&a.folder, &a.name).cmp(&(&b.folder, &b.name)));
    Ok(programs)
}

/// The test program that a line of cargo's output speaks of, if it does.
fn executable(line: &str) -> anyhow::Result<Option<Executable>> {
    let message: Message =
        serde_json::from_str(line).with_context(|| format!("unexpected line of cargo: {line}"))?;
    let Message { reason, manifest_path, target, profile, executable } = message;
    let (Some(manifest), Some(target), Some(path)) = (manifest_path, target, executable) else {
        return Ok(None);
    };
    if reason != "compiler-artifact" || !profile.is_some_and(|profile| profile.test) {
        return Ok(None);
    }
    let manifest_folder = manifest.parent().unwrap_or(Path::new("/")).to_owned();
    let folder = manifest_folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = format!("{} {}", target.kind.join(" "), target.name);
    Ok(Some(Executable { folder, manifest_folder, name, path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_test_programs_only() {
        let line = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/x/proto/Cargo.toml","extra":1,
                "target":{{"kind":["test"],"name":"fuzz_smoke"}},"profile":{{"test":{test}}},
                "executable":{executable}}}"#
            )
        };
        let found = executable(&line(true, r#""/t/fuzz_smoke-1""#)).unwrap().unwrap();
        assert_eq!((found.folder.as_str(), found.name.as_str()), ("proto", "test fuzz_smoke"));
        assert_eq!(executable(&line(false, r#""/t/bee""#)).unwrap(), None);
        assert_eq!(executable(&line(true, "null")).unwrap(), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#).unwrap(), None);
        assert!(executable("not json").is_err());
    }
}
