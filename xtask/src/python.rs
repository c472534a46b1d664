//! Tools from PyPI, in a virtual environment of their own below cargo's target folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lab::tool::Tool;

use crate::test::limited;
use crate::workspace;

/// What is installed, each in one version: a newer one may find something else. The package of axe-core is
/// its script, ready for a browser.
const PACKAGES: [&str; 4] = [
    "schemathesis==4.32.5",
    "prometheus-client==0.26.0",
    "axe-core-python==0.1.0",
    "sushy-tools==2.2.0",
];

/// Makes the environment.
const PYTHON: Tool = Tool::new("python3", "tools from PyPI", "python3-venv", "python3");

/// Longest time for the installation.
const LIMIT: Duration = Duration::from_secs(10 * 60);

fn folder() -> PathBuf {
    workspace::target().join("foreign/python")
}

/// Says what is in the folder; written last.
fn stamp() -> PathBuf {
    folder().join("beeswarm-packages")
}

/// Whether all of it is there.
pub(crate) fn is_there() -> bool {
    fs::read_to_string(stamp()).is_ok_and(|text| text == PACKAGES.join("\n"))
}

/// What has to be there to install it.
pub(crate) fn missing() -> Option<Tool> {
    (!is_there() && PYTHON.find().is_err()).then_some(PYTHON)
}

/// One of its programs.
///
/// # Errors
/// When it is not installed; the text says how.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    if !is_there() {
        bail!("{} are not installed: `cargo xtask test --install` does it", PACKAGES.join(", "));
    }
    Ok(folder().join("bin").join(name))
}

/// axe-core's script.
///
/// # Errors
/// When it is not installed; the text says how.
pub(crate) fn axe_core() -> anyhow::Result<PathBuf> {
    let output = Command::new(program("python3")?)
        .args(["-c", "import axe_core_python as a; print(a.__path__[0])"])
        .output()
        .context("cannot start python3")?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(PathBuf::from(folder).join("axe.min.js"))
}

/// Installs it, unless it is there.
///
/// # Errors
/// When there is no Python with `venv`, or PyPI cannot be reached.
pub(crate) fn build() -> anyhow::Result<()> {
    if is_there() {
        return Ok(());
    }
    workspace::say(format_args!("installing {} from PyPI, once", PACKAGES.join(", ")));
    let folder = folder();
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let mut make = Command::new(PYTHON.find()?);
    make.args(["-m", "venv"]).arg(&folder);
    let mut install = Command::new(folder.join("bin/python3"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
    for command in [&mut make, &mut install] {
        if let Some(problem) = limited::run(command, LIMIT)?.problem() {
            bail!("{command:?}: {problem}");
        }
    }
    fs::write(stamp(), PACKAGES.join("\n")).context("cannot note what is installed")
}
