//! What runs in the cluster, as the tracker answers it: `GET /api/v1/usage`.

use serde::{Deserialize, Serialize};

/// Path of the answer below the tracker's origin.
pub const USAGE_PATH: &str = "/api/v1/usage";

/// Longest answer that is read, in bytes: thousands of revisions.
pub const MAX_USAGE_LEN: u64 = 4 << 20;

/// Seconds after its start from which on a tracker has heard of every node that seeds: they announce
/// every 90 seconds at the latest when nothing happens.
pub const SETTLED_AFTER_S: u64 = 200;

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds since the tracker started.
    pub uptime_s: u64,
    /// For so many seconds it has forgotten no node that it heard, over restarts if it keeps a state. Of nodes
    /// that booted before it may know nothing. `None`: an older tracker, which does not say.
    #[serde(default)]
    pub remembers_s: Option<u64>,
    /// Every revision that somebody uses or is to use.
    pub revisions: Vec<RevisionUse>,
}

/// Who uses one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionUse {
    /// Name of the image.
    pub name: String,
    /// Id of the revision.
    pub revision: String,
    /// Nodes that were last heard booting or running it.
    pub nodes: u32,
    /// Of those, the ones that have it mounted or seed it.
    pub up: u32,
    /// Peers that fetch or seed it now, without admin hosts.
    pub peers: u32,
    /// Nodes that were told to boot it at their next boot, or booted it for that reason.
    pub assigned: u32,
    /// Of those, the ones that have not asked for it yet.
    pub pending: u32,
}

impl RevisionUse {
    /// Whether its files must stay.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.nodes > 0 || self.peers > 0 || self.assigned > 0
    }
}

impl Usage {
    /// Whether the tracker has had the time to hear of all nodes since it started.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.uptime_s >= SETTLED_AFTER_S
    }

    /// Seconds for which it is known to have heard of every boot.
    #[must_use]
    pub fn remembers_s(&self) -> u64 {
        self.remembers_s.unwrap_or(self.uptime_s)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// The parser's text.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_back_and_fields_of_a_newer_tracker_are_passed_over() {
        let text = r#"{"uptime_s":199,"new":1,"revisions":[{"name":"debian",
            "revision":"0123456789ab","nodes":2,"up":1,"peers":0,"assigned":3,"pending":2}]}"#;
        let usage = Usage::parse(text.as_bytes()).unwrap();
        assert!(usage.revisions[0].in_use() && !usage.is_settled());
        // an older one, which may have no state
        assert_eq!(usage.remembers_s(), 199);
        let again = serde_json::to_vec(&usage).unwrap();
        assert_eq!(Usage::parse(&again), Ok(usage));
        assert!(Usage::parse(b"<html>").is_err());
    }
}
