//! rqbit, the one foreign client that no distribution has: built with cargo, once per version.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lab::client::rqbit::{CRATE, FEATURES, VERSION, find, install_root};
use lab::tool::Tool;

use crate::check::tools;
use crate::test::limited;
use crate::workspace;

/// Finds OpenSSL for the build.
const PKG_CONFIG: Tool = Tool::new("pkg-config", "rqbit's build", "pkg-config", "pkgconf");

/// OpenSSL, likewise. It has no program of its own.
const OPENSSL: Tool = Tool::new("openssl/ssl.h", "rqbit's build", "libssl-dev", "openssl-devel");

/// Longest time for the build: it takes ten minutes of processor time.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// What its build needs from the distribution and is not there; nothing when it is built.
pub(crate) fn missing() -> Vec<Tool> {
    if find().is_ok() {
        return Vec::new();
    }
    let header = Path::new("/usr/include").join(OPENSSL.program).exists();
    let mut missing: Vec<Tool> = (!header).then_some(OPENSSL).into_iter().collect();
    missing.extend(PKG_CONFIG.find().is_err().then_some(PKG_CONFIG));
    missing
}

/// Builds it into cargo's target folder, unless it is there.
///
/// # Errors
/// When cargo cannot build it; what is wrong has been printed by then.
pub(crate) fn build() -> anyhow::Result<()> {
    if find().is_ok() {
        return Ok(());
    }
    workspace::say(format_args!("building {CRATE} {VERSION}, once"));
    let target = workspace::target();
    let root = install_root(&target);
    // a folder of its own: the workspace's is another cargo's, and this much need not be kept
    let build = target.join("foreign").join("build");
    let mut command = workspace::cargo()?;
    command.args(["install", CRATE, "--locked", "--quiet", "--version", VERSION, "--root"]);
    command.arg(&root).args(["--no-default-features", "--features", FEATURES, "--target-dir"]);
    command.arg(&build);
    if tools::in_ci() {
        // nothing is measured there, and it is built anew each time
        command.envs([
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
            ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
        ]);
    }
    if let Some(problem) = limited::run(&mut command, LIMIT)?.problem() {
        bail!("cargo install {CRATE} --version {VERSION}: {problem}");
    }
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
    find()?;
    Ok(())
}
