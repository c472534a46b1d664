//! libtorrent-rasterbar, by its Python binding: the library has no client of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Discovery, Done, Launch, Offer, PORT, write};
use crate::error::LabError;
use crate::node::Node;
use crate::process::Cmd;
use crate::tool::Tool;

/// The interpreter of the distribution: its package of the binding is for that one, whatever other
/// is first in `PATH`.
const PYTHON: &str = "/usr/bin/python3";

const LIBTORRENT: Tool = Tool::new(
    "libtorrent for python3",
    "a foreign peer",
    "python3-libtorrent",
    "rb_libtorrent-python3",
);

/// The client: settings, and why each is as it is, are in there.
const CLIENT: &str = include_str!("libtorrent.py");

/// The package, when the binding cannot be loaded.
pub(super) fn missing() -> Option<Tool> {
    let mut command = Command::new(PYTHON);
    command.args(["-c", "import libtorrent"]).stdin(Stdio::null()).stderr(Stdio::null());
    let there = command.status().is_ok_and(|status| status.success());
    (!there).then_some(LIBTORRENT)
}

pub(super) fn leecher(
    node: &Node,
    offer: &Offer,
    discovery: Discovery,
) -> Result<Launch, LabError> {
    let mut command = base(node, offer, &node.scratch())?.arg("leech");
    if discovery == Discovery::Multicast {
        command = command.env("LSD", "1");
    }
    Ok(Launch::waiting(command, Done::line("complete")))
}

pub(super) fn seeder(node: &Node, offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
    Ok(base(node, offer, folder)?.arg("seed"))
}

/// A seeder that reads what it has before it starts, and so can tell the hashes of blocks (BEP 52). One
/// that does not refuses to.
///
/// # Errors
/// As [`Foreign::seeder`](super::Foreign::seeder).
pub fn checked_seeder(node: &Node, offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
    Ok(seeder(node, offer, folder)?.env("CHECK", "1"))
}

/// A client that fetches from this peer and knows of the torrent no more than its info dictionary: it
/// asks the peer for the hashes of BEP 52, and says on standard error when they are wrong.
///
/// # Errors
/// As [`Foreign::leecher`](super::Foreign::leecher).
pub fn leecher_without_layers(
    node: &Node,
    offer: &Offer,
    peer: SocketAddr,
) -> Result<Launch, LabError> {
    let mut launch = leecher(node, offer, Discovery::Trackers)?;
    launch.command = launch.command.env("PEER", peer.to_string());
    Ok(launch)
}

fn base(node: &Node, offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
    // not under its own name, by which it would be imported
    let client = node.scratch().join("client.py");
    write(node, &client, CLIENT)?;
    Ok(Cmd::new(PYTHON).arg(client).arg(&offer.torrent).arg(folder).arg(PORT.to_string()))
}
