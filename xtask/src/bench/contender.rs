//! Who takes part: how each contender is started as tracker, as seeder, as one of the crowd.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use lab::client::{Done, Foreign, Launch, curl, nginx, opentracker};
use lab::{Cmd, Node};

use super::content::Content;
use super::stage::ADMIN_IP;
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
    /// opentracker and transmission
    Transmission,
    /// opentracker and libtorrent-rasterbar
    Libtorrent,
    /// opentracker and rqbit
    Librqbit,
    /// no swarm: nginx on the admin host, curl on every node
    Nginx,
}

/// How a contender distributes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Ours,
    Foreign(Foreign),
    Http,
}

/// What runs on the admin host.
#[derive(Debug)]
pub(crate) struct Services {
    /// Where peers learn of each other; `None` for a contender that has no swarm.
    pub(crate) tracker: Option<Cmd>,
    /// The one that has the image from the start.
    pub(crate) seeder: Cmd,
}

/// What a build leaves in the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Symbols {
    /// Nothing: as they are shipped.
    Stripped,
    /// Names of functions, and frame pointers by which perf finds callers.
    Kept,
}

/// The folder of our programs: the one that was given, or where they are now built.
pub(crate) fn programs(given: Option<&Path>, symbols: Symbols) -> anyhow::Result<PathBuf> {
    match given {
        Some(folder) => {
            folder.canonicalize().with_context(|| format!("--programs {}", folder.display()))
        }
        None => build_programs(symbols),
    }
}

/// Builds our programs in release mode; the folder they are in.
fn build_programs(symbols: Symbols) -> anyhow::Result<PathBuf> {
    let mut cargo = workspace::cargo()?;
    let mut target = workspace::target();
    if symbols == Symbols::Kept {
        // a folder of its own: other flags would make cargo build everything again each time
        target = target.join("profiled");
        cargo.env("CARGO_PROFILE_RELEASE_STRIP", "none");
        cargo.env("RUSTFLAGS", "-C force-frame-pointers=yes");
    }
    let status = cargo
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--release", "--bins", "-p", "beeswarm-tracker", "-p", "beeswarm-seeder"])
        .args(["-p", "beeswarm-initrd-client"])
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "cargo build failed");
    Ok(target.join("release").canonicalize()?)
}

impl Client {
    /// Its name in tables and files.
    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Whether its nodes hand on what they have.
    pub(crate) fn has_swarm(self) -> bool {
        !matches!(self.kind(), Kind::Http)
    }

    fn kind(self) -> Kind {
        match self {
            Self::Beeswarm => Kind::Ours,
            Self::Ctorrent => Kind::Foreign(Foreign::Ctorrent),
            Self::Aria2 => Kind::Foreign(Foreign::Aria2),
            Self::Transmission => Kind::Foreign(Foreign::Transmission),
            Self::Libtorrent => Kind::Foreign(Foreign::Libtorrent),
            Self::Librqbit => Kind::Foreign(Foreign::Librqbit),
            Self::Nginx => Kind::Http,
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
        let (tracker, seeder) = match self.kind() {
            Kind::Ours => (
                Some(Cmd::new(programs.join("bee-tracker")).args(["--listen", "0.0.0.0:6969"])),
                Cmd::new(programs.join("bee-seeder"))
                    .args(["seed", "--listen", "0.0.0.0:6881", "--torrent"])
                    .arg(&content.offer.torrent)
                    .arg("--data")
                    .arg(image),
            ),
            Kind::Foreign(client) => (
                Some(opentracker(admin, content.info_hash)?),
                client.seeder(admin, &content.offer, &folder)?,
            ),
            Kind::Http => (None, nginx(admin, &folder)?),
        };
        Ok(Services { tracker, seeder })
    }

    /// One node's command: it fetches to [`target`], and goes on seeding if it can.
    pub(crate) fn node(
        self,
        node: &Node,
        programs: &Path,
        content: &Content,
    ) -> anyhow::Result<Launch> {
        Ok(match self.kind() {
            Kind::Foreign(client) => client.leecher(node, &content.offer)?,
            Kind::Http => curl(node, ADMIN_IP, &content.offer.file)?,
            Kind::Ours => {
                let command = Cmd::new(programs.join("bee-initrd-client"))
                    .args(["fetch", "--keep-seeding", "--json", "--listen", "0.0.0.0:6881"])
                    .arg("--torrent")
                    .arg(&content.offer.torrent)
                    .arg("--output")
                    .arg(target(node, content));
                Launch::new(command, Done::line("\"event\":\"complete\""))
            }
        })
    }
}

/// Where a node has its image, as the lab sees it.
pub(crate) fn target(node: &Node, content: &Content) -> PathBuf {
    node.scratch().join(&content.offer.file)
}
