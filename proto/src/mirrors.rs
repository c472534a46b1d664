//! Where a running node that serves kernel and initrd to others gets them itself:
//! `GET /api/v1/mirrors?node=MAC&revision=NAME@REV` of the tracker.

use serde::{Deserialize, Serialize};

/// Path of the answer below the tracker's origin.
pub const MIRRORS_PATH: &str = "/api/v1/mirrors";

/// Longest answer that is read, in bytes.
pub const MAX_MIRRORS_LEN: u64 = 16 << 10;

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mirrors {
    /// Folders of the revision on nodes that have it, nearest first, without trailing slash.
    pub sources: Vec<String>,
    /// Whether the host that the manifest came from may be asked, behind them: one node at a time may,
    /// and only while no node has the files.
    pub origin: bool,
    /// When to ask again, in seconds, after none of them had it or none was named.
    pub retry_after_s: u32,
}
