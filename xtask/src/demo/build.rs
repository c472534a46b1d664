//! Builds the programs, statically linked so that the same files run here, in the image and in the
//! initrd.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::steps::note;
use crate::workspace::{cargo, root};

const MUSL: &str = "x86_64-unknown-linux-musl";
const GNU: &str = "x86_64-unknown-linux-gnu";

/// The programs' files.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// `bee-packer`
    pub(crate) packer: PathBuf,
    /// `bee-tracker`
    pub(crate) tracker: PathBuf,
    /// `bee-seeder`
    pub(crate) seeder: PathBuf,
    /// `bee-initrd-client`
    pub(crate) client: PathBuf,
}

/// Builds all of them.
pub(crate) fn programs() -> Result<Programs> {
    let target = static_target();
    note(format_args!("target {target}"));
    let hosts = ["beeswarm-packer", "beeswarm-tracker", "beeswarm-seeder"];
    let mut built = cargo_build(target, "release", &hosts)?;
    built.extend(cargo_build(target, "initrd", &["beeswarm-initrd-client"])?);
    let mut take =
        |name: &str| built.remove(name).with_context(|| format!("cargo built no {name}"));
    Ok(Programs {
        packer: take("bee-packer")?,
        tracker: take("bee-tracker")?,
        seeder: take("bee-seeder")?,
        client: take("bee-initrd-client")?,
    })
}

/// musl where it is installed or can be added; otherwise the C library of this host, linked in.
fn static_target() -> &'static str {
    let rustup = |arguments: &[&str]| {
        let mut command = Command::new("rustup");
        command.current_dir(root()).args(arguments).stderr(Stdio::null()).output()
    };
    let installed = rustup(&["target", "list", "--installed"]);
    let listed = installed.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).lines().any(|line| line == MUSL)
    });
    if listed || rustup(&["target", "add", MUSL]).is_ok_and(|output| output.status.success()) {
        return MUSL;
    }
    note("the musl target is not there and cannot be added: linking glibc statically");
    GNU
}

/// One artefact as cargo reports it.
#[derive(Debug, Deserialize)]
struct Artefact {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

fn cargo_build(target: &str, profile: &str, packages: &[&str]) -> Result<HashMap<String, PathBuf>> {
    let mut command = cargo()?;
    command.args(["build", "--locked", "--profile", profile, "--target", target]);
    command.arg("--message-format=json-render-diagnostics");
    for package in packages {
        command.args(["--package", package]);
    }
    if target == GNU {
        let mut flags = env::var_os("RUSTFLAGS").unwrap_or_default();
        flags.push(OsString::from(" -C target-feature=+crt-static"));
        command.env("RUSTFLAGS", flags);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let output = child.and_then(|child| child.wait_with_output()).context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo build failed: see its output above");
    let mut programs = HashMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        // other messages have other shapes
        let Ok(artefact) = serde_json::from_slice::<Artefact>(line) else { continue };
        if let ("compiler-artifact", Some(file), Some(target)) =
            (artefact.reason.as_str(), artefact.executable, artefact.target)
        {
            programs.insert(target.name, file);
        }
    }
    if programs.is_empty() {
        bail!("cargo named no program that it built");
    }
    Ok(programs)
}
