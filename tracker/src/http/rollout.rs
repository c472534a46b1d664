//! `/api/v1/rollouts`, and what is below it.

use proto::rollout::RolloutOrder;

use super::*;
use crate::app::{Notice, lock};
use crate::rollout::{Moment, Refused, order};

/// `GET /api/v1/rollouts`: the newest last.
pub(super) async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    let all: Vec<_> = lock(&app.rollouts).all().iter().map(|rollout| rollout.view()).collect();
    json(&all)
}

/// `GET /api/v1/rollouts/{id}`: by number, or `last`.
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response<Body> {
    let view = lock(&app.rollouts).find(&id).map(|rollout| rollout.view());
    match view {
        Ok(view) => json(&view),
        Err(refused) => not(&refused),
    }
}

/// `POST /api/v1/rollouts` with a [`RolloutOrder`]: 200 when it is on disk.
pub(super) async fn start(
    State(app): State<Arc<App>>,
    caller: access::Caller,
    body: Body,
) -> Response<Body> {
    let order: RolloutOrder = match assign::order(&app, &caller, body).await {
        Ok(order) => order,
        Err(response) => return response,
    };
    if app.power.is_none() {
        let message = "this bee-tracker cannot reboot nodes: its configuration file has no [reimage]. Set power \
                       there, or let nodes take the revision with bee-packer reimage --at-next-boot";
        return problem(StatusCode::CONFLICT, message);
    }
    let mut refused = None;
    let revise = |text: &str| {
        assign::revision(&app, text).map_err(|(status, message)| {
            refused = Some(status);
            message
        })
    };
    let (plan, members) = match order::understand(&app, &order, revise, Moment::now()) {
        Ok(understood) => understood,
        Err(message) => return problem(refused.unwrap_or(StatusCode::BAD_REQUEST), &message),
    };
    let revision = plan.revision.to_string();
    let nodes = members.len();
    match stored(&app, |rollouts| rollouts.start(plan, members, Moment::now())).await {
        Ok(view) => {
            tracing::info!(rollout = view.id, revision, nodes, "nodes are to be reimaged");
            json(&view)
        }
        Err(response) => response,
    }
}

/// `POST /api/v1/rollouts/{id}/stop`
pub(super) async fn stop(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: access::Caller,
) -> Response<Body> {
    change(&app, &caller, "stopped", |rollouts| rollouts.stop(&id)).await
}

/// `POST /api/v1/rollouts/{id}/resume`
pub(super) async fn resume(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: access::Caller,
) -> Response<Body> {
    change(&app, &caller, "resumed", |rollouts| rollouts.resume(&id, Moment::now())).await
}

type Changed = Result<(proto::rollout::Rollout, Vec<crate::state::Op>), Refused>;

async fn change(
    app: &App,
    caller: &access::Caller,
    what: &'static str,
    change: impl FnOnce(&mut crate::rollout::Rollouts) -> Changed,
) -> Response<Body> {
    if let Err(response) = access::admin(app, caller) {
        return response;
    }
    if let Some(Err(full)) = app.state.as_ref().map(|state| state.journal.check()) {
        return unavailable(&full);
    }
    match stored(app, change).await {
        Ok(view) => {
            tracing::info!(rollout = view.id, what, "rollout");
            json(&view)
        }
        Err(response) => response,
    }
}

/// Makes a change and waits for the disk; the answer that says why it was not made otherwise.
async fn stored(
    app: &App,
    change: impl FnOnce(&mut crate::rollout::Rollouts) -> Changed,
) -> Result<proto::rollout::Rollout, Response<Body>> {
    let (changed, pending) = app.change_rollouts(|rollouts| match change(rollouts) {
        Ok((view, ops)) => (Ok(view), ops),
        Err(refused) => (Err(refused), Vec::new()),
    });
    let view = changed.map_err(|refused| not(&refused))?;
    pending.stored().await.map_err(|error| unavailable(&error))?;
    app.notify(Notice::Rollout { id: view.id, phase: view.phase, reason: view.reason.clone() });
    Ok(view)
}

fn not(refused: &Refused) -> Response<Body> {
    let status = match refused {
        Refused::Never | Refused::Unknown(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    };
    problem(status, &refused.to_string())
}
