//! `POST /api/v1/nodes/{id}/events`.

use std::time::Instant;

use proto::event::{EventBatch, EventError, MAX_BATCH_LEN};
use proto::node_id::NodeId;

use super::*;
use crate::app::{Notice, lock};
use crate::config::EventsWithoutToken;
use crate::nodes::Sender;

/// 204 when the events are on disk, also for those that were known already.
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
    let too_large = || problem(StatusCode::PAYLOAD_TOO_LARGE, &EventError::TooLarge.to_string());
    let bytes = match read_body(body, MAX_BATCH_LEN).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return too_large(),
        Err(response) => return response,
    };
    let batch = match EventBatch::parse(&bytes) {
        Ok(batch) => batch,
        Err(EventError::TooLarge) => return too_large(),
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let address = ends.peer.ip();
    let token = batch.token.as_deref().and_then(|token| app.tokens.check(node, token));
    if app.config.events_without_token == EventsWithoutToken::Refuse {
        let fits = |token| lock(&app.nodes).fits(node, &batch.boot_id, token);
        if !token.is_some_and(fits) {
            app.metrics.events_refused.add(1);
            let message = "these events do not carry the token of the node's boot script \
                           (beeswarm.token=), and bee-tracker runs with --events-without-token refuse";
            return problem(StatusCode::FORBIDDEN, message);
        }
    }
    if lock(&app.nodes).refuses(node, &batch.boot_id, token) {
        app.metrics.events_refused.add(1);
        let message =
            "this boot has shown its token (beeswarm.token=), and these events do not carry it";
        return problem(StatusCode::FORBIDDEN, message);
    }
    // what could not be stored soon is not taken: the node sends it again
    if let Some(Err(full)) = app.state.as_ref().map(|state| state.journal.check()) {
        return unavailable(&full);
    }
    let sender = Sender { addr: address, token };
    let (taken, pending) =
        app.change_nodes(|nodes| nodes.take(node, sender, batch, Instant::now()));
    app.metrics.events.add(u64::try_from(taken.events).unwrap_or(u64::MAX));
    if let Some(stage) = taken.stage {
        tracing::debug!(%node, stage, "node entered stage");
        app.notify(Notice::Node { node, address, stage });
    }
    if let Err(error) = pending.stored().await {
        return unavailable(&error);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
