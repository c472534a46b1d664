//! aria2.

use std::path::Path;

use super::{Launch, Offer, PORT, hook};
use crate::error::LabError;
use crate::node::Node;
use crate::process::Cmd;
use crate::tool::Tool;

/// aria2.
pub(super) const ARIA2: Tool = Tool::new("aria2c", "a foreign peer", "aria2", "aria2");

pub(super) fn leecher(node: &Node, offer: &Offer) -> Result<Launch, LabError> {
    // its hook is called with arguments of its own
    let (script, done) = hook(node)?;
    let command = base(&node.scratch())?
        .arg(format!("--on-bt-download-complete={}", script.display()))
        .arg(&offer.torrent);
    Ok(Launch::new(command.folder(node.scratch()), done))
}

pub(super) fn seeder(offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
    // without the check it takes a file that it has not made itself for an empty one
    Ok(base(folder)?
        .args(["--check-integrity=true", "--bt-hash-check-seed=true"])
        .arg(&offer.torrent))
}

fn base(folder: &Path) -> Result<Cmd, LabError> {
    Ok(Cmd::new(ARIA2.find()?).arg(format!("--dir={}", folder.display())).args([
        // seeds without end; the default stops at as much as was fetched
        "--seed-ratio=0.0",
        // nobody to find that way in a lab, and the torrent is private (BEP 27)
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
        &format!("--listen-port={PORT}"),
        "--allow-overwrite=true",
        // the file is on a tmpfs: preallocation would only write it twice
        "--file-allocation=none",
        // default 55
        "--bt-max-peers=100",
        // default 50K: below that rate it asks for peers beyond its limit
        "--bt-request-peer-speed-limit=0",
        // the tracker's word is half an hour
        "--bt-tracker-interval=3",
        "--summary-interval=0",
    ]))
}
