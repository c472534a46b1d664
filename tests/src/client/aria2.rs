//! aria2.

use std::path::Path;

use super::{Discovery, Launch, Offer, PORT, hook};
use crate::error::LabError;
use crate::node::Node;
use crate::process::Cmd;
use crate::tool::Tool;

/// aria2.
pub(super) const ARIA2: Tool = Tool::new("aria2c", "a foreign peer", "aria2", "aria2");

pub(super) fn leecher(
    node: &Node,
    offer: &Offer,
    discovery: Discovery,
) -> Result<Launch, LabError> {
    // its hook is called with arguments of its own
    let (script, done) = hook(node)?;
    let command = base(&node.scratch(), discovery)?
        .arg(format!("--on-bt-download-complete={}", script.display()))
        .arg(&offer.torrent);
    Ok(Launch::new(command.folder(node.scratch()), done))
}

pub(super) fn seeder(offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
    // without the check it takes a file that it has not made itself for an empty one
    Ok(base(folder, Discovery::Trackers)?
        .args(["--check-integrity=true", "--bt-hash-check-seed=true"])
        .arg(&offer.torrent))
}

fn base(folder: &Path, discovery: Discovery) -> Result<Cmd, LabError> {
    let lpd = format!("--bt-enable-lpd={}", discovery == Discovery::Multicast);
    let exchange = format!("--enable-peer-exchange={}", discovery == Discovery::Exchange);
    Ok(Cmd::new(ARIA2.find()?).arg(format!("--dir={}", folder.display())).args([
        // seeds without end; the default stops at as much as was fetched
        "--seed-ratio=0.0",
        // nobody to find that way in a lab, and the torrent is private (BEP 27)
        "--enable-dht=false",
        "--enable-dht6=false",
        &lpd,
        // it looks for a default route otherwise
        "--bt-lpd-interface=eth0",
        &exchange,
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
