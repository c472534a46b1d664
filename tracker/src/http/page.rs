//! The status page: rendered here, read without JavaScript, fetched again every two seconds.

use std::time::{Duration, Instant};

use proto::event::Sources;
use proto::hash::InfoHash;
use proto::node_id::NodeId;
use store::RevisionRef;

use super::*;
use crate::app::lock;
use crate::catalog::Catalog;
use crate::inventory::Inventory;
use crate::nodes::node::{Node, Trust};
use crate::torrents::Counts;

mod html;
mod render;

/// Rows of nodes on the page; the rest is in the API. Those in trouble come first.
const MAX_ROWS: usize = 1000;

/// What the page shows.
struct View {
    /// How the reader reached this tracker.
    tracker: String,
    uptime: Duration,
    /// Number of nodes by stage, in the order of a boot.
    stages: Vec<(&'static str, usize)>,
    nodes: usize,
    troubled: usize,
    /// Bytes per second over all nodes.
    rate: u64,
    sources: Sources,
    rows: Vec<Row>,
    torrents: Vec<TorrentRow>,
    catalog: Arc<Catalog>,
    problems: Vec<String>,
    has_store: bool,
}

/// One node.
struct Row {
    id: NodeId,
    name: Option<String>,
    /// Its events carry no token.
    unproved: bool,
    address: String,
    stage: &'static str,
    percent: f64,
    rate: u64,
    peers: u32,
    sources: Sources,
    revision: Option<RevisionRef>,
    heard: Duration,
    trouble: Option<String>,
    silent: bool,
}

/// One torrent.
pub(super) struct TorrentRow {
    pub(super) info_hash: InfoHash,
    pub(super) revision: Option<RevisionRef>,
    pub(super) counts: Counts,
}

/// `GET /`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
) -> Response<Body> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let tracker = host.map_or_else(|| ends.local.to_string(), str::to_owned);
    let mut response =
        answer(StatusCode::OK, "text/html; charset=utf-8", render::page(&gather(&app, tracker)));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    let policy = HeaderValue::from_static(policy);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn gather(app: &App, tracker: String) -> View {
    let now = Instant::now();
    let mut view = View {
        tracker,
        uptime: app.started.elapsed(),
        stages: crate::nodes::node::STAGES.iter().map(|stage| (*stage, 0)).collect(),
        nodes: 0,
        troubled: 0,
        rate: 0,
        sources: Sources::default(),
        rows: Vec::new(),
        torrents: torrents(app),
        catalog: app.catalog(),
        problems: app.problems(),
        has_store: app.config.store.is_some(),
    };
    let inventory = app.inventory();
    {
        let nodes = lock(&app.nodes);
        let mut all = nodes.all();
        view.nodes = all.len();
        for node in &all {
            match view.stages.iter_mut().find(|(stage, _)| *stage == node.stage) {
                Some((_, count)) => *count += 1,
                None => view.stages.push((node.stage, 1)),
            }
            view.troubled += usize::from(node.troubled(now));
            view.rate = view.rate.saturating_add(node.rate(now));
            view.sources.admin = view.sources.admin.saturating_add(node.sources.admin);
            view.sources.peers = view.sources.peers.saturating_add(node.sources.peers);
            view.sources.web = view.sources.web.saturating_add(node.sources.web);
        }
        all.sort_by_key(|node| !node.troubled(now));
        view.rows = all.into_iter().take(MAX_ROWS).map(|node| row(node, &inventory, now)).collect();
    }
    view
}

fn row(node: &Node, inventory: &Inventory, now: Instant) -> Row {
    let stalled = node.stall.as_ref().map(|stall| {
        let cause = serde_json::to_value(stall.cause).ok();
        let cause = cause.as_ref().and_then(|cause| cause.as_str()).unwrap_or("stalled");
        format!("{cause}: {}", stall.detail)
    });
    let silent = node.silent(now);
    let failed = node.failed.as_ref().map(|message| format!("failed: {message}"));
    Row {
        id: node.id,
        name: inventory.of(node.id).map(|entry| entry.name.to_string()),
        unproved: node.trust == Trust::Without,
        address: node.addr.to_string(),
        stage: node.stage,
        percent: node.percent,
        rate: node.rate(now),
        peers: node.progress.peers,
        sources: node.sources,
        revision: node.revision.clone(),
        heard: now.saturating_duration_since(node.heard),
        trouble: failed.or(stalled).or_else(|| node.waits.clone()).or_else(|| {
            silent.map(|for_how_long| {
                let time = html::duration(for_how_long);
                format!("silent for {time}: switched off, crashed, or cut off from this host")
            })
        }),
        silent: silent.is_some(),
    }
}

/// Published torrents, whether announced or not, and the announced ones when there is no store.
pub(super) fn torrents(app: &App) -> Vec<TorrentRow> {
    let catalog = app.catalog();
    let announced = app.torrents.all();
    let mut rows: Vec<_> = catalog
        .images
        .iter()
        .map(|image| {
            let known = announced.iter().find(|(hash, _)| *hash == image.info_hash);
            let none = Counts { seeds: 0, leechers: 0, completed: 0 };
            TorrentRow {
                info_hash: image.info_hash,
                revision: Some(image.revision.clone()),
                counts: known.map_or(none, |(_, counts)| *counts),
            }
        })
        .collect();
    let foreign = announced.into_iter().filter(|(h, _)| catalog.by_info_hash(h).is_none());
    rows.extend(foreign.map(|(info_hash, counts)| TorrentRow {
        info_hash,
        revision: None,
        counts,
    }));
    rows
}
