//! `/api/v1/nodes`, `/api/v1/nodes/{id}`, its events, and `/api/v1/swarm`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::body::to_bytes;
use proto::event::{Event, EventBatch, EventError, MAX_BATCH_LEN, Sources, Stall};
use proto::hash::InfoHash;
use proto::node_id::NodeId;
use serde::Serialize;
use store::RevisionRef;

use super::*;
use crate::app::{Notice, lock};
use crate::nodes::node::Node;

/// A node in the list. Rates are bytes per second, times milliseconds.
#[derive(Serialize)]
struct NodeView<'a> {
    id: NodeId,
    address: IpAddr,
    boot_id: Option<&'a str>,
    stage: &'static str,
    percent: f64,
    rate: u64,
    upload_rate: u64,
    peers: u32,
    sources: Sources,
    stall: Option<&'a Stall>,
    waits: Option<&'a str>,
    failed: Option<&'a str>,
    image: Option<&'a str>,
    revision: Option<&'a str>,
    boots: u32,
    /// Since the node was last heard.
    last_seen_ms: u64,
    /// Stage and milliseconds since the node's kernel started, in order.
    stage_times: Vec<StageTime>,
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
    events: Vec<EventView<'a>>,
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

fn view(node: &Node, now: Instant) -> NodeView<'_> {
    let revision: Option<&RevisionRef> = node.revision.as_ref();
    NodeView {
        id: node.id,
        address: node.addr,
        boot_id: node.boot_id.as_deref(),
        stage: node.stage,
        percent: node.percent,
        rate: node.rate(now),
        upload_rate: node.progress.upload_rate,
        peers: node.progress.peers,
        sources: node.sources,
        stall: node.stall.as_ref(),
        waits: node.waits.as_deref(),
        failed: node.failed.as_deref(),
        image: revision.map(|r| r.name.as_str()),
        revision: revision.map(|r| r.id.as_str()),
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
    let nodes = lock(&app.nodes);
    let now = Instant::now();
    let list: Vec<_> = nodes.all().into_iter().map(|node| view(node, now)).collect();
    json(&list)
}

/// `GET /api/v1/nodes/{id}`
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response<Body> {
    let id: NodeId = match id.parse() {
        Ok(id) => id,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("{error}")),
    };
    let nodes = lock(&app.nodes);
    let Some(node) = nodes.get(id) else {
        return problem(StatusCode::NOT_FOUND, &format!("node {id} was not heard"));
    };
    let now = Instant::now();
    let events = node.timeline.entries().iter().map(|entry| EventView {
        event: &entry.event,
        received_ms_ago: milliseconds(now.saturating_duration_since(entry.received)),
    });
    json(&TimelineView { node: view(node, now), events: events.collect() })
}

/// `POST /api/v1/nodes/{id}/events`: 204, also for what is known already.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(id): Path<String>,
    body: Body,
) -> Response<Body> {
    let node: NodeId = match id.parse() {
        Ok(node) => node,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("{error}")),
    };
    let bytes = match tokio::time::timeout(BODY_DEADLINE, to_bytes(body, MAX_BATCH_LEN)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) if too_long(&error) => {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, &EventError::TooLarge.to_string());
        }
        Ok(Err(error)) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(_) => return problem(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    let batch = match EventBatch::parse(&bytes) {
        Ok(batch) => batch,
        Err(EventError::TooLarge) => {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, &EventError::TooLarge.to_string());
        }
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let address = ends.peer.ip();
    let taken = lock(&app.nodes).take(node, address, batch, Instant::now());
    app.metrics.events.add(u64::try_from(taken.events).unwrap_or(u64::MAX));
    if let Some(stage) = taken.stage {
        tracing::debug!(%node, stage, "node entered stage");
        app.notify(Notice::Node { node, address, stage });
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[derive(Serialize)]
struct SwarmView {
    torrents: Vec<TorrentView>,
}

#[derive(Serialize)]
struct TorrentView {
    info_hash: InfoHash,
    image: Option<String>,
    revision: Option<String>,
    seeds: usize,
    leechers: usize,
    /// Peers that finished since the tracker started.
    completed: u64,
}

/// `GET /api/v1/swarm`: the published torrents, and without a store the announced ones.
pub(super) async fn swarm(State(app): State<Arc<App>>) -> Response<Body> {
    let torrents = page::torrents(&app)
        .into_iter()
        .map(|row| TorrentView {
            info_hash: row.info_hash,
            image: row.revision.as_ref().map(|r| r.name.to_string()),
            revision: row.revision.as_ref().map(|r| r.id.to_string()),
            seeds: row.counts.seeds,
            leechers: row.counts.leechers,
            completed: row.counts.completed,
        })
        .collect();
    json(&SwarmView { torrents })
}
