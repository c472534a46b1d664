//! The base root: a tar that mmdebstrap makes, kept for the next time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::RootError;
use super::recipe::Recipe;
use crate::contain::contained;
use crate::tool::Tool;

/// Builds a Debian root.
pub const MMDEBSTRAP: Tool =
    Tool::new("mmdebstrap", "builds the nodes' Debian root", "mmdebstrap", "mmdebstrap");

/// Files that no node needs. Copyright files stay.
const EXCLUDED: [&str; 6] = [
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/i18n/*",
];

/// What is removed or changed once all packages are in; `$1` is the root. The kernel package brings
/// an initrd of its own, the caches are of no use, and neither the host's name nor an identity may
/// be shared by all nodes: an empty machine-id means a fresh one at each boot without the questions
/// of a first boot, and ssh host keys are made at boot.
pub(super) const TRIM: &str = r#"
set -e
rm -rf "$1"/boot/initrd.img-* "$1"/initrd.img* "$1"/boot/System.map-*
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/cache/debconf/*-old
rm -rf "$1"/var/log/*.log "$1"/var/log/apt/* "$1"/usr/share/i18n
rm -f "$1"/etc/ssh/ssh_host_*_key "$1"/etc/ssh/ssh_host_*_key.pub
rm -f "$1"/etc/hostname "$1"/etc/resolv.conf
: >"$1"/etc/machine-id
"#;

/// A base root in the cache.
#[derive(Debug, Clone)]
pub struct Base {
    tar: PathBuf,
    fresh: bool,
}

impl Base {
    /// Takes the recipe's root from `cache`, or builds it there. mmdebstrap's log goes to
    /// `logs/mmdebstrap.log`.
    ///
    /// # Errors
    /// [`RootError::Bootstrap`] with the end of the log; a missing mmdebstrap; file errors.
    pub fn get(recipe: &Recipe, cache: &Path, logs: &Path) -> Result<Base, RootError> {
        let tar = cache.join(format!("root-{}-{}.tar", recipe.suite, recipe.key()));
        if tar.is_file() {
            return Ok(Base { tar, fresh: false });
        }
        fs::create_dir_all(cache).map_err(RootError::file("create", cache))?;
        let unfinished = tar.with_extension("tar.part");
        let log = logs.join("mmdebstrap.log");
        let log_file = File::create(&log).map_err(RootError::file("create", &log))?;
        let mut command = contained(MMDEBSTRAP.find()?)?;
        command.args(["--mode=root", "--format=tar", "--variant=minbase"]);
        command.arg(format!("--include={}", recipe.packages.join(",")));
        for path in EXCLUDED {
            command.arg(format!("--dpkgopt=path-exclude={path}"));
        }
        command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
        command.arg("--aptopt=Acquire::Languages \"none\"");
        for setting in &recipe.sources.settings {
            command.arg(format!("--aptopt={setting}"));
        }
        command.arg(format!("--customize-hook={TRIM}"));
        command.arg(&recipe.suite).arg(&unfinished).args(&recipe.sources.lines);
        // kernel packages: no initrd, ours is made when the image is packed
        command
            .env("INITRD", "No")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
        let status = command.status().map_err(RootError::file("run", MMDEBSTRAP.program))?;
        if !status.success() {
            // what is left is of no use; a failure to remove it changes nothing
            let _ = fs::remove_file(&unfinished);
            let tail = tail(&log);
            return Err(RootError::Bootstrap { suite: recipe.suite.clone(), log, tail });
        }
        fs::rename(&unfinished, &tar).map_err(RootError::file("rename", &unfinished))?;
        Ok(Base { tar, fresh: true })
    }

    /// The tar.
    pub fn tar(&self) -> &Path {
        &self.tar
    }

    /// Whether it was built just now.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
