//! librqbit, by its program `rqbit`. No distribution has it: it is built with cargo, in a pinned
//! version, into cargo's target folder.

use std::env;
use std::path::{Path, PathBuf};

use super::{Done, Launch, Offer, PORT};
use crate::error::LabError;
use crate::node::Node;
use crate::process::Cmd;

/// The crate to build.
pub const CRATE: &str = "rqbit";

/// Its version.
pub const VERSION: &str = "9.1.0";

/// Its features: hashing and TLS by OpenSSL, which is its default. The others (a web page, which
/// needs npm, a database, metrics) have no part in a transfer.
pub const FEATURES: &str = "default-tls";

/// Where `cargo install --root` puts it, below cargo's target folder.
pub fn install_root(target: &Path) -> PathBuf {
    target.join("foreign").join(format!("{CRATE}-{VERSION}"))
}

/// The program.
///
/// # Errors
/// [`LabError::MissingRqbit`] when it has not been built.
pub fn find() -> Result<PathBuf, LabError> {
    let own = env::current_exe().unwrap_or_default();
    // target/debug/deps/test-1234 and target/debug/xtask → target
    own.ancestors()
        .map(|folder| install_root(folder).join("bin").join(CRATE))
        .find(|program| program.is_file())
        .ok_or(LabError::MissingRqbit { version: VERSION })
}

pub(super) fn leecher(node: &Node, offer: &Offer) -> Result<Launch, LabError> {
    let command = base(node, offer, &node.scratch())?;
    Ok(Launch::new(command, Done::line("torrent finished downloading")))
}

pub(super) fn seeder(node: &Node, offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
    // it hashes what is there, and seeds when all is right
    base(node, offer, folder)
}

fn base(node: &Node, offer: &Offer, folder: &Path) -> Result<Cmd, LabError> {
    Ok(Cmd::new(find()?)
        // the tracker's word is half an hour
        .args(["--tracker-refresh-interval", "3s"])
        .args(["--listen-port", &PORT.to_string(), "--ipv4-only"])
        // nobody to find that way in a lab, and the torrent is private (BEP 27)
        .args(["--disable-dht", "--disable-dht-persistence", "--disable-lsd"])
        .arg("--disable-upnp-port-forward")
        // default 128
        .args(["--peer-limit", "200"])
        .args(["download", "--disable-http-api", "--overwrite", "--output-folder"])
        .arg(folder)
        .arg(&offer.torrent)
        .env("HOME", node.scratch())
        .folder(node.scratch()))
}
