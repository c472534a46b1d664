//! What the tracker knows about the nodes: its API, read.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Node, http};
use proto::event::{Refusal, Sources, Stall};
use serde::Deserialize;

use super::cluster;

/// How long an answer may take. The host's processors are busy with QEMU.
const LIMIT: Duration = Duration::from_secs(10);

/// A node in the tracker's list; fields that the demo does not use are left out.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Seen {
    /// MAC address.
    pub(crate) id: String,
    /// Stage of the boot.
    pub(crate) stage: String,
    /// Verified share of the image.
    pub(crate) percent: f64,
    /// Bytes per second received.
    pub(crate) rate: u64,
    /// Connected peers.
    pub(crate) peers: u32,
    /// Where its bytes came from.
    pub(crate) sources: Sources,
    /// Why nothing moves.
    pub(crate) stall: Option<Stall>,
    /// Why it was given nothing to boot.
    pub(crate) waits: Option<String>,
    /// Why it cannot go on.
    pub(crate) failed: Option<String>,
}

/// One node's history.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct History {
    /// In order.
    pub(crate) events: Vec<Entry>,
}

/// One event; its other fields depend on the stage.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    /// Stage of the boot.
    pub(crate) stage: String,
    /// `handover`: peak memory of the client beyond the image, in bytes.
    pub(crate) peak_memory: Option<u64>,
    /// `seeding`: the block device.
    pub(crate) device: Option<String>,
    /// `seeding`: the user.
    pub(crate) user: Option<String>,
    /// `verify`: where the bytes came from.
    pub(crate) sources: Option<Sources>,
    /// `failed`: cause and remedy.
    pub(crate) message: Option<String>,
    /// `failed`: what was refused.
    pub(crate) refused: Option<Refusal>,
    /// `verify`: seconds from the first request to the last verified piece.
    pub(crate) seconds: Option<f64>,
}

impl History {
    /// The last event of a stage.
    pub(crate) fn last(&self, stage: &str) -> Option<&Entry> {
        self.events.iter().rev().find(|entry| entry.stage == stage)
    }
}

/// All nodes by MAC address.
pub(crate) fn nodes(admin: &Node) -> Result<HashMap<String, Seen>> {
    let list: Vec<Seen> = ask(admin, "/api/v1/nodes")?;
    Ok(list.into_iter().map(|seen| (seen.id.clone(), seen)).collect())
}

/// The history of the node with this MAC address.
pub(crate) fn history(admin: &Node, mac: &str) -> Result<History> {
    ask(admin, &format!("/api/v1/nodes/{mac}"))
}

fn ask<T: for<'a> Deserialize<'a>>(admin: &Node, path: &str) -> Result<T> {
    let reply = http::get(admin, cluster::tracker(), path, LIMIT)?;
    ensure!(reply.status == 200, "the tracker answered {path} with status {}", reply.status);
    serde_json::from_slice(&reply.body).with_context(|| format!("the tracker's answer to {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nodes_is_read() {
        let text = r#"[{"id":"52:54:00:be:00:01","address":"10.87.1.2","boot_id":null,
            "stage":"fetch","percent":12.5,"rate":1000,"upload_rate":5,"peers":3,
            "sources":{"admin":1,"peers":2,"web":3},"stall":null,"waits":null,"failed":null,
            "image":"demo","revision":"abc","boots":1,"last_seen_ms":3,"stage_times":[]}]"#;
        let list: Vec<Seen> = serde_json::from_str(text).unwrap();
        assert_eq!(list[0].sources.total(), 6);
    }

    #[test]
    fn the_last_event_of_a_stage_is_found() {
        let text = r#"{"events":[
            {"seq":1,"uptime_ms":5,"stage":"seeding","device":"/dev/loop0","user":"a","uploaded":0},
            {"seq":2,"uptime_ms":6,"stage":"seeding","device":"/dev/loop0","user":"b","uploaded":9}]}"#;
        let history: History = serde_json::from_str(text).unwrap();
        assert_eq!(history.last("seeding").unwrap().user.as_deref(), Some("b"));
        assert!(history.last("verify").is_none());
    }
}
