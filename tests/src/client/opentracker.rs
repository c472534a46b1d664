//! opentracker, the tracker beside the foreign clients.

use std::fmt::Display;

use super::write;
use crate::error::LabError;
use crate::node::Node;
use crate::process::Cmd;
use crate::tool::Tool;

/// opentracker.
pub const OPENTRACKER: Tool =
    Tool::new("opentracker", "a foreign tracker, that of 2015", "opentracker", "opentracker");

/// opentracker on port 6969 of a node, for this torrent only.
///
/// # Errors
/// [`LabError::MissingTool`] when it is not installed, [`LabError::File`].
pub fn opentracker(node: &Node, info_hash: impl Display) -> Result<Cmd, LabError> {
    // Debian's serves none that is not listed, and reads the list as nobody
    let whitelist = node.scratch().join("whitelist");
    write(node, &whitelist, &format!("{info_hash}\n"))?;
    Ok(Cmd::new(OPENTRACKER.find()?)
        .args(["-p", "6969", "-P", "6969", "-d", "/", "-u", "nobody", "-w"])
        .arg(whitelist))
}
