//! `/api/v1/assignments`, `/api/v1/assign`, `/api/v1/unassign`, and `/api/v1/history`.

use proto::assign::{AssignOrder, Assigned, MAX_ORDER_LEN, UnassignOrder, Unassigned};
use proto::node_id::NodeId;
use serde::Serialize;
use store::RevisionRef;

use super::*;
use crate::app::lock;
use crate::assignments::Assignment;
use crate::boot::values::KernelArgs;

/// Lines of history in one answer.
const HISTORY: u32 = 500;

#[derive(Serialize)]
struct AssignmentView {
    node: NodeId,
    name: Option<String>,
    revision: String,
    kernel_args: String,
}

/// `GET /api/v1/assignments`: every node that does not follow its channel.
pub(super) async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    let inventory = app.inventory();
    let view = |(node, revision, kernel_args): (NodeId, &RevisionRef, &KernelArgs)| {
        let name = inventory.of(node).map(|entry| entry.name.to_string());
        let (revision, kernel_args) = (revision.to_string(), kernel_args.to_string());
        AssignmentView { node, name, revision, kernel_args }
    };
    let list: Vec<_> = lock(&app.assignments).iter().map(view).collect();
    json(&list)
}

/// `POST /api/v1/assign` with an [`AssignOrder`]: 200 when it is on disk.
pub(super) async fn assign(
    State(app): State<Arc<App>>,
    caller: access::Caller,
    body: Body,
) -> Response<Body> {
    let order: AssignOrder = match order(&app, &caller, body).await {
        Ok(order) => order,
        Err(response) => return response,
    };
    let (assignment, nodes) = match understood(&app, &order) {
        Ok(understood) => understood,
        Err((status, message)) => return problem(status, &message),
    };
    let (_, pending) = app.change_assignments(|table| ((), table.assign(&nodes, &assignment)));
    if let Err(error) = pending.stored().await {
        return unavailable(&error);
    }
    let revision = assignment.revision.to_string();
    tracing::info!(revision, nodes = nodes.len(), "nodes were told what to boot");
    json(&Assigned { revision, nodes })
}

/// `POST /api/v1/unassign` with an [`UnassignOrder`]: 200 when it is on disk.
pub(super) async fn unassign(
    State(app): State<Arc<App>>,
    caller: access::Caller,
    body: Body,
) -> Response<Body> {
    let order: UnassignOrder = match order(&app, &caller, body).await {
        Ok(order) => order,
        Err(response) => return response,
    };
    let nodes = match order.nodes.as_deref().map(|words| macs(&app, words)).transpose() {
        Ok(nodes) => nodes,
        Err(message) => return problem(StatusCode::BAD_REQUEST, &message),
    };
    let (freed, pending) = app.change_assignments(|table| table.unassign(nodes.as_deref()));
    if let Err(error) = pending.stored().await {
        return unavailable(&error);
    }
    tracing::info!(nodes = freed.len(), "nodes follow their channel again");
    json(&Unassigned { nodes: freed })
}

/// `GET /api/v1/history`: how channels moved while a tracker looked, newest first.
pub(super) async fn history(State(app): State<Arc<App>>) -> Response<Body> {
    match read_state(&app, |state| state.history(HISTORY)).await {
        Ok(Some(moves)) => json(&moves),
        Ok(None) => problem(StatusCode::NOT_FOUND, "this bee-tracker keeps no state (--state)"),
        Err(response) => response,
    }
}

pub(super) async fn order<T: serde::de::DeserializeOwned>(
    app: &App,
    caller: &access::Caller,
    body: Body,
) -> Result<T, Response<Body>> {
    access::admin(app, caller)?;
    let Some(bytes) = read_body(body, MAX_ORDER_LEN).await? else {
        let message = format!("an order has at most {MAX_ORDER_LEN} bytes");
        return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, &message));
    };
    if let Some(Err(full)) = app.state.as_ref().map(|state| state.journal.check()) {
        return Err(unavailable(&full));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| problem(StatusCode::BAD_REQUEST, &format!("not a valid order: {error}")))
}

type Refused = (StatusCode, String);

fn understood(app: &App, order: &AssignOrder) -> Result<(Assignment, Vec<NodeId>), Refused> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let nodes = macs(app, &order.nodes).map_err(bad)?;
    if nodes.is_empty() {
        return Err(bad("nodes names no node".to_owned()));
    }
    let kernel_args: KernelArgs = order.kernel_args.parse().map_err(|e| bad(format!("{e}")))?;
    let revision = revision(app, &order.revision)?;
    Ok((Assignment { revision, kernel_args }, nodes))
}

/// A revision that can be booted, by `NAME@REV`, or by `NAME` or `REV` when that can mean one only.
pub(super) fn revision(app: &App, text: &str) -> Result<RevisionRef, Refused> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let catalog = app.catalog();
    let revision: RevisionRef = match text.parse() {
        Ok(revision) => revision,
        Err(error) => {
            let named = catalog.images.iter().map(|image| &image.revision);
            let meant = |revision: &&RevisionRef| {
                revision.name.as_str() == text || revision.id.as_str() == text
            };
            let named: Vec<_> = named.filter(meant).collect();
            match named.as_slice() {
                [revision] => RevisionRef::clone(revision),
                [] => return Err(bad(format!("revision: {error}"))),
                several => {
                    let all: Vec<_> = several.iter().map(ToString::to_string).collect();
                    return Err(bad(format!("say which one: {}", all.join(", "))));
                }
            }
        }
    };
    match catalog.offer_told(&revision) {
        Ok(_) => Ok(revision),
        Err(_) if !catalog.images.iter().any(|image| image.revision == revision) => {
            let message = format!("{revision} is not published: bee-packer publish --store …");
            Err((StatusCode::NOT_FOUND, message))
        }
        Err(reason) => Err((StatusCode::CONFLICT, reason)),
    }
}

/// Addresses, and names of the inventory: a node may boot from any of its cards.
fn macs(app: &App, words: &[String]) -> Result<Vec<NodeId>, String> {
    let inventory = app.inventory();
    let mut nodes = Vec::new();
    for word in words {
        match (word.parse(), inventory.named(word)) {
            (Ok(mac), _) => nodes.push(mac),
            (_, Some(entry)) => nodes.extend(&entry.macs),
            (Err(error), None) => return Err(format!("{error}, nor a name in the inventory")),
        }
    }
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}
