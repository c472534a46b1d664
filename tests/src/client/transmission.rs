//! transmission, by its plainest front end: one torrent, one process.
//!
//! It always checks the whole of a file that it finds, and takes no word for it: a seeder starts when
//! that is done.
//!
//! Every ten seconds it decides whom it asks and whom it serves, and twice a second it answers what it
//! was asked; no setting changes that. Of an image that takes less than ten seconds hardly anything is
//! handed on.

use std::path::Path;

use serde_json::json;

use super::{Discovery, Launch, Offer, PORT, hook, write};
use crate::error::LabError;
use crate::node::Node;
use crate::process::Cmd;
use crate::tool::Tool;

/// transmission-cli.
pub(super) const TRANSMISSION: Tool =
    Tool::new("transmission-cli", "a foreign peer", "transmission-cli", "transmission-cli");

pub(super) fn leecher(
    node: &Node,
    offer: &Offer,
    discovery: Discovery,
) -> Result<Launch, LabError> {
    let (script, done) = hook(node)?;
    let command =
        base(node, &node.scratch(), discovery)?.arg("--finish").arg(script).arg(&offer.torrent);
    Ok(Launch::new(command, done))
}

pub(super) fn seeder(node: &Node, offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
    Ok(base(node, folder, Discovery::Trackers)?.arg(&offer.torrent))
}

fn base(node: &Node, folder: &Path, discovery: Discovery) -> Result<Cmd, LabError> {
    let config = node.scratch().join("transmission");
    write(node, &config.join("settings.json"), &settings(discovery).to_string())?;
    Ok(Cmd::new(TRANSMISSION.find()?)
        .arg("--config-dir")
        .arg(&config)
        .arg("--download-dir")
        .arg(folder)
        // it keeps nothing elsewhere, but looks its home up
        .env("HOME", &config)
        .folder(node.scratch()))
}

fn settings(discovery: Discovery) -> serde_json::Value {
    json!({
        "peer-port": PORT,
        "port-forwarding-enabled": false,
        // default 200 and 50
        "peer-limit-global": 1000,
        "peer-limit-per-torrent": 200,
        // default 8 or 14, for a home's uplink: its guide says to raise it with the uplink
        "upload-slots-per-torrent": 20,
        "speed-limit-down-enabled": false,
        "speed-limit-up-enabled": false,
        "alt-speed-enabled": false,
        "ratio-limit-enabled": false,
        "idle-seeding-limit-enabled": false,
        // the file is on a tmpfs: preallocation would only write it twice
        "preallocation": 0,
        "prefetch-enabled": false,
        "rename-partial-files": false,
        // plain TCP: uTP gives way to everything else (BEP 29), ciphers cost processor time
        "utp-enabled": false,
        "encryption": 0,
        // nobody to find that way in a lab, and the torrent is private (BEP 27)
        "dht-enabled": false,
        "lpd-enabled": discovery == Discovery::Multicast,
        "pex-enabled": discovery == Discovery::Exchange,
        "rpc-enabled": false,
        "scrape-paused-torrents-enabled": false,
        "message-level": 2,
    })
}
