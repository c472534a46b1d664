//! Programs that nobody here wrote: how each is started on a node of a lab, tuned as its own guide
//! says, and how one learns that it has the file.
//!
//! Tests let them fetch from us and us from them; the benchmark measures them beside us. Beside each
//! setting that is not the program's default stands why: a peer that is beaten because it was set up
//! badly is no result.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::node::Node;
use crate::process::Cmd;
use crate::tool::Tool;

mod aria2;
mod ctorrent;
mod done;
mod launch;
pub mod libtorrent;
mod nginx;
mod opentracker;
pub mod rqbit;
mod transmission;

pub use done::Done;
pub use launch::Launch;
pub use nginx::{CURL, NGINX, curl, nginx};
pub use opentracker::{OPENTRACKER, opentracker};

/// Port for peers, the same on every node.
const PORT: u16 = 6881;

/// A torrent of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The torrent, at a path that is the same inside and outside of the lab.
    pub torrent: PathBuf,
    /// The file's name in the torrent.
    pub file: String,
}

/// How a client may find peers beside the torrent's trackers; our images allow none when private
/// (BEP 27).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// Not at all.
    Trackers,
    /// Peers tell of each other (BEP 11).
    Exchange,
    /// Multicast on the segment (BEP 14).
    Multicast,
}

/// A foreign BitTorrent client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Foreign {
    /// The client of the 2015 system.
    Ctorrent,
    /// aria2.
    Aria2,
    /// transmission.
    Transmission,
    /// libtorrent-rasterbar.
    Libtorrent,
    /// librqbit, with its program `rqbit`.
    Librqbit,
}

impl Foreign {
    /// Every client.
    pub const ALL: [Foreign; 5] = [
        Foreign::Ctorrent,
        Foreign::Aria2,
        Foreign::Transmission,
        Foreign::Libtorrent,
        Foreign::Librqbit,
    ];

    /// The package to install, when the client is not there. librqbit is in no distribution: see
    /// [`rqbit`].
    pub fn missing(self) -> Option<Tool> {
        let tool = match self {
            Foreign::Ctorrent => ctorrent::CTORRENT,
            Foreign::Aria2 => aria2::ARIA2,
            Foreign::Transmission => transmission::TRANSMISSION,
            Foreign::Libtorrent => return libtorrent::missing(),
            Foreign::Librqbit => return None,
        };
        tool.find().is_err().then_some(tool)
    }

    /// A client that fetches to the node's scratch folder and then seeds until it is stopped. What
    /// it needs beside the torrent is written to that folder now.
    ///
    /// # Errors
    /// [`LabError::MissingTool`] when it is not installed, [`LabError::File`].
    pub fn leecher(self, node: &Node, offer: &Offer) -> Result<Launch, LabError> {
        self.leecher_by(node, offer, Discovery::Trackers)
    }

    /// The same, with another way to find peers. ctorrent and librqbit know none that can be had
    /// without a distributed hash table: they are as [`Foreign::leecher`] starts them.
    ///
    /// # Errors
    /// As [`Foreign::leecher`].
    pub fn leecher_by(
        self,
        node: &Node,
        offer: &Offer,
        discovery: Discovery,
    ) -> Result<Launch, LabError> {
        match self {
            Foreign::Ctorrent => ctorrent::leecher(node, offer),
            Foreign::Aria2 => aria2::leecher(node, offer, discovery),
            Foreign::Transmission => transmission::leecher(node, offer, discovery),
            Foreign::Libtorrent => libtorrent::leecher(node, offer, discovery),
            Foreign::Librqbit => rqbit::leecher(node, offer),
        }
    }

    /// A client that has the file in `folder` (as the lab sees it) and seeds it until it is stopped.
    ///
    /// # Errors
    /// As [`Foreign::leecher`].
    pub fn seeder(self, node: &Node, offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
        match self {
            Foreign::Ctorrent => ctorrent::seeder(offer, folder),
            Foreign::Aria2 => aria2::seeder(offer, folder),
            Foreign::Transmission => transmission::seeder(node, offer, folder),
            Foreign::Libtorrent => libtorrent::seeder(node, offer, folder),
            Foreign::Librqbit => rqbit::seeder(node, offer, folder),
        }
    }
}

/// Writes a file for a program on a node, and the folder around it; the path is as the lab sees it.
fn write(node: &Node, path: &Path, text: &str) -> Result<(), LabError> {
    let outside = node.outside(path);
    if let Some(folder) = outside.parent() {
        fs::create_dir_all(folder).map_err(LabError::file("create", folder))?;
    }
    fs::write(&outside, text).map_err(LabError::file("write", outside))
}

/// A program that says by making a file that it is called: hooks of clients take one.
fn hook(node: &Node) -> Result<(PathBuf, Done), LabError> {
    let mark = node.scratch().join("done");
    let script = node.scratch().join("done.sh");
    write(node, &script, &format!("#!/bin/sh\n: >'{}'\n", mark.display()))?;
    let outside = node.outside(&script);
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755))
        .map_err(LabError::file("make executable", outside))?;
    Ok((script, Done::file(node.outside(&mark))))
}
