//! `/api/v1/mirrors`: where a node that wants to be a mirror gets kernel and initrd.

use std::time::{Duration, Instant};

use proto::mirrors::Mirrors;
use proto::node_id::NodeId;
use proto::query;
use store::RevisionRef;

use super::*;
use crate::app::lock;
use crate::nodes::mirror::{Asker, ENOUGH};

/// Mirrors named at once.
const NAMED: usize = 3;

/// How long one node has the admin host for itself.
const LEASE: Duration = Duration::from_secs(30);

/// When to ask again: while somebody fetches the first copy, and when there are mirrors enough.
const SOON_S: u32 = 5;
const LATER_S: u32 = 300;

/// `GET /api/v1/mirrors?node=MAC&revision=NAME@REV`
pub(super) async fn mirrors(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let (node, revision) = match read(&query.unwrap_or_default()) {
        Ok(read) => read,
        Err(message) => return problem(StatusCode::BAD_REQUEST, &message),
    };
    if !app.catalog().images.iter().any(|image| image.revision == revision) {
        let message = format!("{revision} is not published here");
        return problem(StatusCode::NOT_FOUND, &message);
    }
    if app.config.mirrors == crate::config::Mirrors::Off {
        // nobody would be sent there
        let none = Mirrors { retry_after_s: LATER_S, ..Mirrors::default() };
        return json(&none);
    }
    json(&answer(&app, Asker { node, addr: ends.peer.ip() }, &revision, Instant::now()))
}

fn answer(app: &App, asker: Asker, revision: &RevisionRef, now: Instant) -> Mirrors {
    let mut nodes = lock(&app.nodes);
    if nodes.mirrors_beside(asker, revision, now) >= ENOUGH {
        return Mirrors { retry_after_s: LATER_S, ..Mirrors::default() };
    }
    let found = nodes.mirrors(asker, revision, NAMED, now);
    drop(nodes);
    let folder = |at| format!("http://{at}/revisions/{}/{}", revision.name, revision.id);
    let sources: Vec<String> = found.into_iter().map(folder).collect();
    let origin = sources.is_empty() && lease(app, asker.node, revision, now);
    Mirrors { sources, origin, retry_after_s: SOON_S }
}

/// Whether this node may go to the admin host: one at a time, for each revision.
fn lease(app: &App, node: NodeId, revision: &RevisionRef, now: Instant) -> bool {
    let mut leases = lock(&app.mirror_leases);
    leases.retain(|_, (_, until)| *until > now);
    let (holder, until) = leases.entry(revision.clone()).or_insert_with(|| (node, now + LEASE));
    let mine = *holder == node;
    if mine {
        *until = now + LEASE;
    }
    mine
}

fn read(query: &str) -> Result<(NodeId, RevisionRef), String> {
    let (mut node, mut revision) = (None, None);
    for (key, value) in query::pairs(query) {
        let text = query::decode(value).and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| format!("{key} is not text"))?;
        match key {
            "node" => node = Some(text.parse().map_err(|e| format!("{e}"))?),
            "revision" => revision = Some(text.parse().map_err(|e| format!("{e}"))?),
            _ => {}
        }
    }
    match (node, revision) {
        (Some(node), Some(revision)) => Ok((node, revision)),
        _ => Err("expected ?node=MAC&revision=NAME@REV".to_owned()),
    }
}
