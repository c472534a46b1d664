//! `/api/v1/usage`: who runs which revision. `bee-packer prune` and `status` ask for it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use proto::usage::{RevisionUse, Usage};
use store::RevisionRef;

use super::*;
use crate::app::lock;
use crate::state::unix_ms;

/// Stages of a node that stands on its image.
const UP: [&str; 3] = ["mount", "handover", "seeding"];

/// `GET /api/v1/usage`
pub(super) async fn usage(State(app): State<Arc<App>>) -> Response<Body> {
    draw(&app, |app| json(&gather(app))).await.unwrap_or_else(|refused| refused)
}

pub(super) fn gather(app: &App) -> Usage {
    let catalog = app.catalog();
    let mut table = BTreeMap::<RevisionRef, RevisionUse>::new();
    let mut at = |reference: &RevisionRef, change: &dyn Fn(&mut RevisionUse)| {
        let none = || RevisionUse {
            name: reference.name.to_string(),
            revision: reference.id.to_string(),
            nodes: 0,
            up: 0,
            peers: 0,
            assigned: 0,
            pending: 0,
        };
        change(table.entry(reference.clone()).or_insert_with(none));
    };
    let mut runs = BTreeMap::new();
    let nodes = lock(&app.nodes);
    let since = nodes.complete_since();
    for node in nodes.all() {
        // it may run what it ran all the same
        if let Some(ran) = node.ran.as_ref().and_then(|ran| ran.revision.as_ref())
            && Some(ran) != node.revision.as_ref()
        {
            at(ran, &|row| row.nodes += 1);
        }
        let Some(reference) = &node.revision else { continue };
        runs.extend(node.macs.iter().map(|mac| (*mac, reference.clone())));
        let up = UP.contains(&node.stage);
        at(reference, &|row| {
            row.nodes += 1;
            row.up += u32::from(up);
        });
    }
    drop(nodes);
    for (node, reference, _) in lock(&app.assignments).iter() {
        let pending = runs.get(&node) != Some(reference);
        at(reference, &|row| {
            row.assigned += 1;
            row.pending += u32::from(pending);
        });
    }
    for image in &catalog.images {
        let peers = u32::try_from(app.torrents.nodes(&image.info_hash)).unwrap_or(u32::MAX);
        at(&image.revision, &|row| row.peers += peers);
    }
    let uptime_s = app.started.elapsed().as_secs();
    let ago = |since: i64| u64::try_from(unix_ms(SystemTime::now()) - since).unwrap_or(0) / 1000;
    Usage {
        uptime_s,
        remembers_s: Some(since.map_or(uptime_s, ago)),
        revisions: table.into_values().collect(),
    }
}
