//! ctorrent, the client of the 2015 system.

use std::path::Path;

use super::{Launch, Offer, PORT, hook};
use crate::error::LabError;
use crate::node::Node;
use crate::process::Cmd;
use crate::tool::Tool;

/// ctorrent.
pub(super) const CTORRENT: Tool =
    Tool::new("ctorrent", "a foreign peer, the client of 2015", "ctorrent", "ctorrent");

pub(super) fn leecher(node: &Node, offer: &Offer) -> Result<Launch, LabError> {
    let (script, done) = hook(node)?;
    let command = base()?.arg("-X").arg(script).arg("-s").arg(node.scratch().join(&offer.file));
    Ok(Launch::new(command.arg(&offer.torrent).folder(node.scratch()), done))
}

pub(super) fn seeder(offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
    // -f: it takes our word that the file is complete, and starts at once
    Ok(base()?.arg("-f").arg("-s").arg(folder.join(&offer.file)).arg(&offer.torrent))
}

/// Hours for which it goes on seeding: longer than any test.
const SEEDING_HOURS: &str = "100";

fn base() -> Result<Cmd, LabError> {
    Ok(Cmd::new(CTORRENT.find()?).args(["-e", SEEDING_HOURS, "-p", &PORT.to_string()]))
}
