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
mod opentracker;

pub use aria2::ARIA2;
pub use ctorrent::CTORRENT;
pub use done::Done;
pub use opentracker::{OPENTRACKER, opentracker};

/// Port for peers, the same on every node.
const PORT: &str = "6881";

/// A torrent of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The torrent, at a path that is the same inside and outside of the lab.
    pub torrent: PathBuf,
    /// The file's name in the torrent.
    pub file: String,
}

/// A program that is ready to be started, and how one learns that it has the file.
#[derive(Debug)]
pub struct Launch {
    /// The command. Its standard output may be what [`Launch::done`] reads.
    pub command: Cmd,
    /// When it is complete.
    pub done: Done,
}

/// A foreign BitTorrent client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Foreign {
    /// The client of the 2015 system.
    Ctorrent,
    /// aria2.
    Aria2,
}

impl Foreign {
    /// Every client.
    pub const ALL: [Foreign; 2] = [Foreign::Ctorrent, Foreign::Aria2];

    /// The program that has to be installed.
    pub const fn tool(self) -> Tool {
        match self {
            Foreign::Ctorrent => CTORRENT,
            Foreign::Aria2 => ARIA2,
        }
    }

    /// A client that fetches to the node's scratch folder and then seeds until it is stopped. What
    /// it needs beside the torrent is written to that folder now.
    ///
    /// # Errors
    /// [`LabError::MissingTool`] when it is not installed, [`LabError::File`].
    pub fn leecher(self, node: &Node, offer: &Offer) -> Result<Launch, LabError> {
        match self {
            Foreign::Ctorrent => ctorrent::leecher(node, offer),
            Foreign::Aria2 => aria2::leecher(node, offer),
        }
    }

    /// A client that has the file in `folder` (as the lab sees it) and seeds it until it is stopped.
    ///
    /// # Errors
    /// As [`Foreign::leecher`].
    pub fn seeder(self, node: &Node, offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
        let _ = node;
        match self {
            Foreign::Ctorrent => ctorrent::seeder(offer, folder),
            Foreign::Aria2 => aria2::seeder(offer, folder),
        }
    }
}

/// A program that says by making a file that it is called: hooks of clients take one.
fn hook(node: &Node, name: &str) -> Result<(PathBuf, Done), LabError> {
    let mark = node.scratch().join(name);
    let script = mark.with_extension("sh");
    let text = format!("#!/bin/sh\n: >'{}'\n", mark.display());
    let outside = node.outside(&script);
    fs::write(&outside, text).map_err(LabError::file("write", &outside))?;
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755))
        .map_err(LabError::file("make executable", &outside))?;
    Ok((script, Done::file(node.outside(&mark))))
}
