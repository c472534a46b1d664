//! Does what the steps of rollouts say: assigns, reboots, audits.
//!
//! Nothing is done before the disk has what it follows from: after a kill the next process knows at least as
//! much as the nodes have felt.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::node_id::NodeId;
use store::RevisionRef;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Action, Around, Moment, Rollout, Seen};
use crate::app::{App, Notice, lock};
use crate::assignments::Assignment;
use crate::nodes::node::{Node, Trust};
use crate::power::{Power, Subject};

/// How often rollouts are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Results that may wait to be taken.
const RESULTS: usize = 64;

/// What became of an action of a rollout.
type Done = (i64, Action, Result<(), String>);

/// Runs until `stop`. Actions that are under way then are cut, and repeated by the next process.
pub(crate) async fn run(app: Arc<App>, power: Arc<Power>, stop: CancellationToken) {
    let (sender, mut results) = mpsc::channel::<Done>(RESULTS);
    let mut tasks = JoinSet::new();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut todo: Vec<(i64, Action)> = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(done) = results.recv() => take(&app, done).await,
            _ = tick.tick() => {
                while tasks.try_join_next().is_some() {}
                // changes that do not fit into the queue would be lost
                if app.state.as_ref().is_none_or(|state| state.journal.check().is_err()) {
                    continue;
                }
                todo.extend(look(&app, &power));
                if app.queued().stored().await.is_err() {
                    // told on the page; what is to be done waits
                    continue;
                }
                for (id, action) in todo.drain(..) {
                    let Some(subject) = subject(&app, id, action) else { continue };
                    let (power, sender) = (power.clone(), sender.clone());
                    tasks.spawn(async move {
                        let result = match action {
                            Action::Reboot(_) => power.reboot(&subject).await,
                            Action::Audit(_) => power.audit(&subject).await,
                        };
                        let _ = sender.send((id, action, result)).await;
                    });
                }
            }
        }
    }
}

/// Steps all rollouts; gives what is to be done when that is on disk.
fn look(app: &App, power: &Power) -> Vec<(i64, Action)> {
    let moving = lock(&app.rollouts).moving();
    let mut todo = Vec::new();
    for (id, revision, members) in moving {
        let (seen, copies) = see(app, &revision, &members);
        let around =
            Around { seen: &seen, copies, at_once: power.at_once(), audit: power.auditor() };
        let (actions, _) = app.change_rollouts(|rollouts| {
            let Some(rollout) = rollouts.get_mut(id) else { return (Vec::new(), Vec::new()) };
            let before = rollout.phase;
            let step = rollout.step(&around, Moment::now());
            if rollout.phase != before {
                let (phase, reason) = (rollout.phase, &rollout.reason);
                tracing::info!(rollout = id, ?phase, reason, "rollout");
                app.notify(Notice::Rollout { id, phase, reason: reason.clone() });
            }
            // in this order: the disk never has a node that reboots and is not assigned
            assign(app, rollout, &step.assign);
            (step.actions.clone(), step.ops(rollout))
        });
        todo.extend(actions.into_iter().map(|action| (id, action)));
    }
    todo
}

fn assign(app: &App, rollout: &Rollout, places: &[usize]) {
    if places.is_empty() {
        return;
    }
    let of = |place: &usize| rollout.members.get(*place).map(|entry| entry.member.macs.clone());
    let nodes: Vec<NodeId> = places.iter().filter_map(of).flatten().collect();
    let plan = &rollout.plan;
    let told =
        Assignment { revision: plan.revision.clone(), kernel_args: plan.kernel_args.clone() };
    // waited for with everything else
    let _ = app.change_assignments(|table| ((), table.assign(&nodes, &told)));
}

/// What a rollout is told of a node that shows no boot token: anybody may have said what it says.
const UNPROVEN: &str = "it was heard, but without the token of its boot script (beeswarm.token=), so nothing that \
                        it says is believed: does it boot by this tracker's script, and does its image take tokens?";

/// What is known of the nodes, and how many of all nodes seed the revision.
fn see(app: &App, revision: &RevisionRef, members: &[Vec<NodeId>]) -> (Vec<Seen>, usize) {
    let now = Instant::now();
    let nodes = lock(&app.nodes);
    let runs = |node: &Node| node.revision.as_ref() == Some(revision);
    let proven = |node: &Node| node.trust == Trust::Token;
    let seeds = |node: &Node| node.stage == "seeding" && !node.old(now);
    let holds = |node: &&Node| runs(node) && proven(node) && seeds(node);
    let copies = nodes.iter().filter(holds).count();
    let seen = members.iter().map(|macs| {
        let Some(node) = macs.iter().find_map(|mac| nodes.get(*mac)) else {
            return Seen::default();
        };
        if node.trust == Trust::Without {
            return Seen {
                boot_id: node.boot_id.clone(),
                trouble: Some(UNPROVEN.to_owned()),
                ..Seen::default()
            };
        }
        let trouble = node.trouble(now);
        Seen {
            boot_id: node.boot_id.clone(),
            stage: node.stage,
            runs: runs(node),
            old: node.old(now),
            failed: node.failed.as_ref().map(|failed| failed.detail.clone()),
            audit: node.audit.as_ref().map(|audit| (audit.verdict, audit.text.clone())),
            trouble: trouble
                .map(|trouble| format!("{}: {}", trouble.cause.title(), trouble.detail)),
        }
    });
    (seen.collect(), copies)
}

async fn take(app: &App, (id, action, result): Done) {
    let ((), pending) = app.change_rollouts(|rollouts| {
        let Some(rollout) = rollouts.get_mut(id) else { return ((), Vec::new()) };
        let ops = rollout.acted(action, result, Moment::now()).ops(rollout);
        ((), ops)
    });
    if let Err(error) = pending.stored().await {
        tracing::debug!(%error, "what became of a reboot waits for the disk");
    }
}

/// Whom an action is for.
fn subject(app: &App, id: i64, action: Action) -> Option<Subject> {
    let (Action::Reboot(place) | Action::Audit(place)) = action;
    let member = {
        let mut rollouts = lock(&app.rollouts);
        rollouts.get_mut(id)?.members.get(place)?.member.clone()
    };
    let inventory = app.inventory();
    let entry = member.macs.iter().find_map(|mac| inventory.of(*mac));
    let (listed, bmc) = (entry.is_some(), entry.and_then(|entry| entry.bmc.clone()));
    let nodes = lock(&app.nodes);
    let address: Option<IpAddr> =
        member.macs.iter().find_map(|mac| nodes.get(*mac)).map(|node| node.addr);
    Some(Subject { name: member.name, listed, mac: *member.macs.first()?, address, bmc })
}
