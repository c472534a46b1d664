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

// No other flag, on purpose. Its notes ask for an upload limit (-U), from which it would learn how many
// peers to serve at a time: given the rate of the link it was slower (3 runs each: 1.8 to 3.6 times the
// ideal, against 1.4 to 1.5). More wanted peers (-m) and longer requests (-z) changed nothing. Its runs
// fall into two groups ten seconds apart: that is how often it decides whom to serve.

/// Hours for which it goes on seeding: longer than any test.
const SEEDING_HOURS: &str = "100";

fn base() -> Result<Cmd, LabError> {
    Ok(Cmd::new(CTORRENT.find()?).args(["-e", SEEDING_HOURS, "-p", &PORT.to_string()]))
}
