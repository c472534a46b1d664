//! Who takes part: how each contender is started as tracker, as seeder, as one of the crowd.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use lab::client::{Done, Foreign, Launch, Offer, opentracker};
use lab::{Cmd, Node};

use super::content::Content;
use crate::workspace;

/// A contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// bee-tracker, bee-seeder and bee-initrd-client
    Beeswarm,
    /// opentracker and ctorrent, the system of 2015
    Ctorrent,
    /// opentracker and aria2
    Aria2,
}

/// What runs on the admin host.
#[derive(Debug)]
pub(crate) struct Services {
    /// Where peers learn of each other; `None` for a contender that has no swarm.
    pub(crate) tracker: Option<Cmd>,
    /// The one that has the image from the start.
    pub(crate) seeder: Cmd,
}

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
    /// Its name in tables and files.
    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn foreign(self) -> Option<Foreign> {
        match self {
            Self::Beeswarm => None,
            Self::Ctorrent => Some(Foreign::Ctorrent),
            Self::Aria2 => Some(Foreign::Aria2),
        }
    }

    /// The commands for the admin host. The image is copied to its scratch folder, so that every
    /// contender reads it from memory and none can spoil the original.
    pub(crate) fn services(
        self,
        admin: &Node,
        programs: &Path,
        content: &Content,
    ) -> anyhow::Result<Services> {
        let folder = admin.scratch().join("seed");
        let image = folder.join(&content.offer.file);
        fs::create_dir_all(admin.outside(&folder))?;
        fs::copy(&content.image, admin.outside(&image)).context("copying the image")?;
        let Some(foreign) = self.foreign() else {
            let tracker = Cmd::new(programs.join("bee-tracker")).args(["--listen", "0.0.0.0:6969"]);
            let seeder = Cmd::new(programs.join("bee-seeder"))
                .args(["seed", "--listen", "0.0.0.0:6881", "--torrent"])
                .arg(&content.offer.torrent)
                .arg("--data")
                .arg(image);
            return Ok(Services { tracker: Some(tracker), seeder });
        };
        let tracker = opentracker(admin, content.info_hash)?;
        let seeder = foreign.seeder(admin, &content.offer, &folder)?;
        Ok(Services { tracker: Some(tracker), seeder })
    }

    /// One node's command: it fetches to [`target`], and goes on seeding.
    pub(crate) fn node(
        self,
        node: &Node,
        programs: &Path,
        content: &Content,
    ) -> anyhow::Result<Launch> {
        let Offer { torrent, .. } = &content.offer;
        if let Some(foreign) = self.foreign() {
            return Ok(foreign.leecher(node, &content.offer)?);
        }
        let command = Cmd::new(programs.join("bee-initrd-client"))
            .args(["fetch", "--keep-seeding", "--json", "--listen", "0.0.0.0:6881", "--torrent"])
            .arg(torrent)
            .arg("--output")
            .arg(target(node, content));
        Ok(Launch { command, done: Done::line("\"event\":\"complete\"") })
    }
}

/// Where a node has its image, as the lab sees it.
pub(crate) fn target(node: &Node, content: &Content) -> PathBuf {
    node.scratch().join(&content.offer.file)
}
