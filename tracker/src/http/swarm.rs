//! `/api/v1/swarm` and `/api/v1/exchanges`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proto::hash::InfoHash;
use proto::node_id::NodeId;
use serde::Serialize;

use super::*;
use crate::fleet::exchange::{Edge, Exchanges, Party};

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
    /// What fetching nodes told of their pieces; null when none did.
    pieces: Option<PiecesView>,
}

#[derive(Serialize)]
struct PiecesView {
    total: u32,
    /// Whether the numbers of copies are lower bounds.
    at_least: bool,
    /// Number of pieces by copies.
    by_copies: BTreeMap<u32, u32>,
    /// Copies of the rarest piece.
    rarest: Option<u32>,
}

/// `GET /api/v1/swarm`: the published torrents, and without a store the announced ones.
pub(super) async fn swarm(State(app): State<Arc<App>>) -> Response<Body> {
    draw(&app, |app| json(&view(app))).await.unwrap_or_else(|refused| refused)
}

fn view(app: &App) -> SwarmView {
    let exchanges = Exchanges::of(app);
    let torrents = page::torrents(app)
        .into_iter()
        .map(|row| {
            let revision = row.revision.as_ref();
            let pieces = revision.and_then(|of| exchanges.availability(of, row.counts.seeds));
            TorrentView {
                info_hash: row.info_hash,
                image: revision.map(|r| r.name.to_string()),
                revision: revision.map(|r| r.id.to_string()),
                seeds: row.counts.seeds,
                leechers: row.counts.leechers,
                completed: row.counts.completed,
                pieces: pieces.map(|of| PiecesView {
                    total: of.pieces,
                    at_least: of.at_least,
                    rarest: of.rarest().map(|(copies, _)| copies),
                    by_copies: of.by_copies,
                }),
            }
        })
        .collect();
    SwarmView { torrents }
}

/// What one gave to another, in verified bytes of the receiver's present boot.
#[derive(Serialize)]
struct EdgeView {
    /// `admin`, `node`, `host` (an address that is no node's), or `others` (not named by the receiver).
    from: &'static str,
    from_node: Option<NodeId>,
    from_address: Option<IpAddr>,
    to: NodeId,
    bytes: u64,
}

impl From<Edge> for EdgeView {
    fn from(edge: Edge) -> Self {
        let (from, from_node, from_address) = match edge.from {
            Party::Admin => ("admin", None, None),
            Party::Node(_, _, id) => ("node", Some(id), None),
            Party::Host(ip) => ("host", None, Some(ip)),
            Party::Group(..) | Party::Others => ("others", None, None),
        };
        Self { from, from_node, from_address, to: edge.to, bytes: edge.bytes }
    }
}

/// `GET /api/v1/exchanges`: who gave how much to whom.
pub(super) async fn exchanges(State(app): State<Arc<App>>) -> Response<Body> {
    let all = |app: &Arc<App>| -> Vec<EdgeView> {
        Exchanges::of(app).edges().into_iter().map(EdgeView::from).collect()
    };
    draw(&app, move |app| json(&all(app))).await.unwrap_or_else(|refused| refused)
}
