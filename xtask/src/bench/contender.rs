//! How each client is started: as tracker, as seeder, as one of the crowd.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use lab::Cmd;
use lab::tool::Tool;

use super::Client;
use super::content::Content;
use crate::workspace;

const OPENTRACKER: Tool = Tool::new(
    "opentracker",
    "the tracker of the 2015 system, for the benchmark",
    "opentracker",
    "opentracker",
);
const CTORRENT: Tool = Tool::new(
    "ctorrent",
    "the client of the 2015 system, for the benchmark",
    "ctorrent",
    "ctorrent",
);
const ARIA2: Tool = Tool::new("aria2c", "a client to compare with", "aria2", "aria2");

/// Builds our programs in release mode; the folder they are in.
pub(crate) fn build_programs() -> anyhow::Result<PathBuf> {
    let status = workspace::cargo()?
        .args(["build", "--release", "--bins", "-p", "beeswarm-tracker", "-p", "beeswarm-seeder"])
        .args(["-p", "beeswarm-initrd-client"])
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "cargo build failed");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let target = workspace::root().join(target);
    Ok(target.join("release").canonicalize()?)
}

impl Client {
    /// The tracker's command. `whitelist` holds the info-hash, readable for everybody.
    pub(crate) fn tracker(self, programs: &Path, whitelist: &Path) -> anyhow::Result<Cmd> {
        Ok(match self {
            Self::Beeswarm => {
                Cmd::new(programs.join("bee-tracker")).args(["--listen", "0.0.0.0:6969"])
            }
            Self::Ctorrent | Self::Aria2 => Cmd::new(OPENTRACKER.find()?)
                .args(["-p", "6969", "-P", "6969", "-d", "/", "-u", "nobody", "-w"])
                .arg(whitelist),
        })
    }

    /// The seeder's command; the complete image lies at `content.image`.
    pub(crate) fn seeder(self, programs: &Path, content: &Content) -> anyhow::Result<Cmd> {
        let (torrent, image) = (&content.torrent, &content.image);
        Ok(match self {
            Self::Beeswarm => Cmd::new(programs.join("bee-seeder"))
                .arg("seed")
                .arg("--torrent")
                .arg(torrent)
                .arg("--data")
                .arg(image)
                .args(["--listen", "0.0.0.0:6881"]),
            Self::Ctorrent => Cmd::new(CTORRENT.find()?)
                .args(["-f", "-e", "100", "-p", "6881", "-s"])
                .arg(image)
                .arg(torrent),
            Self::Aria2 => aria2()?
                .arg(folder_flag(image))
                .args(["--check-integrity=true", "--bt-hash-check-seed=true"])
                .arg(torrent),
        })
    }

    /// One node's command: it fetches to `target`, and goes on seeding.
    pub(crate) fn node(
        self,
        programs: &Path,
        content: &Content,
        target: &Path,
        done: &Path,
    ) -> anyhow::Result<Cmd> {
        let torrent = &content.torrent;
        Ok(match self {
            Self::Beeswarm => Cmd::new(programs.join("bee-initrd-client"))
                .arg("fetch")
                .arg("--torrent")
                .arg(torrent)
                .arg("--output")
                .arg(target)
                .args(["--keep-seeding", "--json", "--listen", "0.0.0.0:6881"]),
            Self::Ctorrent => Cmd::new(CTORRENT.find()?)
                .args(["-e", "100", "-p", "6881", "-X"])
                .arg(format!("touch {}", done.display()))
                .arg("-s")
                .arg(target)
                .arg(torrent),
            Self::Aria2 => {
                // aria2 calls its hook with arguments of its own; the node's folder is its cwd
                aria2()?.arg(folder_flag(target)).arg(hook_flag(done)).arg(torrent)
            }
        })
    }
}

fn aria2() -> anyhow::Result<Cmd> {
    Ok(Cmd::new(ARIA2.find()?).args([
        "--seed-ratio=0.0",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
        "--listen-port=6881",
        "--allow-overwrite=true",
        "--file-allocation=none",
        "--bt-max-peers=100",
        "--bt-request-peer-speed-limit=0",
        "--bt-tracker-interval=3",
        "--summary-interval=0",
    ]))
}

fn folder_flag(file: &Path) -> String {
    format!("--dir={}", file.parent().unwrap_or(Path::new("/")).display())
}

fn hook_flag(done: &Path) -> String {
    format!("--on-bt-download-complete={}", done.with_extension("sh").display())
}
