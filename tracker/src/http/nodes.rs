//! `/api/v1/nodes`, `/api/v1/nodes/{id}`, and `/api/v1/stalled`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::event::audit::{Finding, Verdict};
use proto::event::{Event, Sources, Stall};
use proto::node_id::NodeId;
use serde::Serialize;
use store::RevisionRef;

use super::*;
use crate::app::lock;
use crate::fleet::{Fleet, Stalled};
use crate::inventory::{Inventory, Word};
use crate::nodes::node::{Node, Trust};
use crate::nodes::trouble::{Cause, Trouble};
use crate::state::EndedBoot;

/// Nodes that are copied while their table is locked once.
const AT_ONCE: usize = 256;

/// A node in the list, a copy. Rates are bytes per second, times milliseconds.
#[derive(Serialize)]
struct NodeView<'a> {
    id: NodeId,
    /// Name, rack and group of the inventory.
    name: Option<&'a str>,
    rack: Option<&'a str>,
    group: Option<&'a str>,
    macs: Vec<NodeId>,
    uuid: Option<String>,
    /// Whether the events of this boot carry its token; null before the first one.
    authenticated: Option<bool>,
    address: IpAddr,
    boot_id: Option<String>,
    stage: &'static str,
    percent: f64,
    rate: u64,
    upload_rate: u64,
    peers: u32,
    sources: Sources,
    stall: Option<Stall>,
    waits: Option<String>,
    failed: Option<String>,
    /// Which of these it is, or what its silence means; null when it gets on.
    trouble: Option<TroubleView>,
    /// What its hardware audit came to; null when none was heard in this boot.
    audit: Option<AuditView>,
    image: Option<String>,
    revision: Option<String>,
    boots: u32,
    /// Since the node was last heard.
    last_seen_ms: u64,
    /// Stage and milliseconds since the node's kernel started, in order.
    stage_times: Vec<StageTime>,
}

#[derive(Serialize)]
struct TroubleView {
    cause: Cause,
    detail: String,
    remedy: &'static str,
}

#[derive(Serialize)]
struct AuditView {
    verdict: Verdict,
    text: String,
}

impl From<Trouble> for TroubleView {
    fn from(trouble: Trouble) -> Self {
        let Trouble { cause, detail } = trouble;
        Self { cause, detail, remedy: cause.remedy() }
    }
}

#[derive(Serialize)]
struct StageTime {
    stage: &'static str,
    uptime_ms: u64,
}

#[derive(Serialize)]
struct TimelineView<'a> {
    #[serde(flatten)]
    node: NodeView<'a>,
    /// What the audit looked at.
    audit_findings: &'a [Finding],
    /// What its console showed last; null when it did not say so in this boot.
    console: Option<ConsoleView<'a>>,
    events: Vec<EventView<'a>>,
    /// Newest first; empty without a state directory.
    past_boots: Vec<EndedBoot>,
}

#[derive(Serialize)]
struct ConsoleView<'a> {
    /// Oldest first.
    lines: &'a [String],
    uptime_ms: u64,
    received_ms_ago: u64,
}

#[derive(Serialize)]
struct EventView<'a> {
    #[serde(flatten)]
    event: &'a Event,
    received_ms_ago: u64,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn view<'a>(node: &Node, inventory: &'a Inventory, now: Instant) -> NodeView<'a> {
    let revision: Option<&RevisionRef> = node.revision.as_ref();
    let entry = inventory.of(node.id);
    NodeView {
        id: node.id,
        name: entry.map(|entry| entry.name.as_str()),
        rack: entry.and_then(|entry| entry.rack.as_ref()).map(Word::as_str),
        group: entry.and_then(|entry| entry.group.as_ref()).map(Word::as_str),
        macs: node.macs.clone(),
        uuid: node.uuid.clone(),
        authenticated: match node.trust {
            Trust::Silent => None,
            trust => Some(trust == Trust::Token),
        },
        address: node.addr,
        boot_id: node.boot_id.clone(),
        stage: node.stage,
        percent: node.percent,
        rate: node.rate(now),
        upload_rate: node.progress.upload_rate,
        peers: node.progress.peers,
        sources: node.sources,
        stall: node.stall.clone(),
        waits: node.waits.clone(),
        failed: node.failed.as_ref().map(|failed| failed.detail.clone()),
        trouble: node.trouble(now).map(TroubleView::from),
        audit: node
            .audit
            .as_ref()
            .map(|audit| AuditView { verdict: audit.verdict, text: audit.text.clone() }),
        image: revision.map(|r| r.name.to_string()),
        revision: revision.map(|r| r.id.to_string()),
        boots: node.boots,
        last_seen_ms: milliseconds(now.saturating_duration_since(node.heard)),
        stage_times: node
            .timeline
            .stage_times()
            .into_iter()
            .map(|(stage, uptime_ms)| StageTime { stage, uptime_ms })
            .collect(),
    }
}

/// `GET /api/v1/nodes`
pub(super) async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    draw(&app, all).await.unwrap_or_else(|refused| refused)
}

/// All of them, copied in parts and written in between: events of nodes wait for the lock.
fn all(app: &Arc<App>) -> Response<Body> {
    let inventory = app.inventory();
    let now = Instant::now();
    let ids: Vec<NodeId> = lock(&app.nodes).all().iter().map(|node| node.id).collect();
    let mut body = String::from("[");
    for part in ids.chunks(AT_ONCE) {
        let views: Vec<NodeView<'_>> = {
            let nodes = lock(&app.nodes);
            // one that was united with another meanwhile is that other
            let there = part.iter().filter_map(|id| nodes.get(*id).filter(|node| node.id == *id));
            there.map(|node| view(node, &inventory, now)).collect()
        };
        for view in views {
            match serde_json::to_string(&view) {
                Ok(text) if body.len() > 1 => body.extend([",", &text]),
                Ok(text) => body.push_str(&text),
                Err(error) => return failed(&error),
            }
        }
    }
    body.push(']');
    answer(StatusCode::OK, "application/json", body)
}

/// `GET /api/v1/nodes/{id}`: by any address of the node, or its name in the inventory.
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response<Body> {
    let inventory = app.inventory();
    let macs = match (id.parse::<NodeId>(), inventory.named(&id)) {
        (Ok(mac), _) => vec![mac],
        (_, Some(entry)) => entry.macs.clone(),
        (Err(error), None) => {
            let message = format!("{error}, nor a name in the inventory");
            return problem(StatusCode::BAD_REQUEST, &message);
        }
    };
    let home = {
        let nodes = lock(&app.nodes);
        macs.iter().find_map(|mac| nodes.get(*mac)).map(|node| node.id)
    };
    let Some(home) = home else {
        return problem(StatusCode::NOT_FOUND, &format!("node {id} was not heard"));
    };
    let past_boots = match read_state(&app, move |state| state.past_boots(home)).await {
        Ok(boots) => boots.unwrap_or_default(),
        Err(response) => return response,
    };
    let nodes = lock(&app.nodes);
    let Some(node) = nodes.get(home) else {
        return problem(StatusCode::NOT_FOUND, &format!("node {id} was not heard"));
    };
    let now = Instant::now();
    let events = node.timeline.entries().iter().map(|entry| EventView {
        event: &entry.event,
        received_ms_ago: milliseconds(now.saturating_duration_since(entry.received)),
    });
    let console = node.timeline.console().map(|(console, entry)| ConsoleView {
        lines: &console.lines,
        uptime_ms: entry.event.uptime_ms,
        received_ms_ago: milliseconds(now.saturating_duration_since(entry.received)),
    });
    json(&TimelineView {
        audit_findings: node.audit.as_ref().map(|a| a.findings.as_slice()).unwrap_or_default(),
        console,
        events: events.collect(),
        node: view(node, &inventory, now),
        past_boots,
    })
}

/// A node that needs somebody's eye.
#[derive(Serialize)]
struct StalledView {
    id: NodeId,
    /// In the inventory, or its address.
    name: String,
    stage: &'static str,
    #[serde(flatten)]
    trouble: TroubleView,
    /// Since its last word; null when it never said one.
    last_seen_ms: Option<u64>,
}

/// `GET /api/v1/stalled`: who needs somebody's eye, also those that were assigned a revision and never
/// heard; those longest silent come first.
pub(super) async fn stalled(State(app): State<Arc<App>>) -> Response<Body> {
    let view = |stalled: Stalled| StalledView {
        id: stalled.id,
        name: stalled.name,
        stage: stalled.stage,
        trouble: stalled.trouble.into(),
        last_seen_ms: stalled.heard.map(milliseconds),
    };
    let all = move |app: &Arc<App>| {
        json(&Fleet::of(app).stalled.into_iter().map(view).collect::<Vec<_>>())
    };
    draw(&app, all).await.unwrap_or_else(|refused| refused)
}
