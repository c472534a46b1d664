//! Rollouts: nodes are rebooted into a revision batch by batch. Pure state, the clock comes from outside.
//!
//! ```text
//!  waiting ─▶ due ─▶ rebooting ─▶ booting ─▶ (auditing) ─▶ up
//!    ▲                   └───────────┴────────────┴──────▶ failed, and why
//!    └──────────────────────── resume ───────────────────────┘
//! ```
//!
//! `step` says what is to be done now; `driver` does it, when the disk has it. ARCHITECTURE.md, "Reimaging in
//! batches", has the rules.

pub(crate) mod driver;
pub(crate) mod order;
mod step;

use std::time::{Instant, SystemTime};

use proto::rollout::{Member, MemberState, Phase, Rollout as View};
use store::RevisionRef;

use crate::boot::values::KernelArgs;
use crate::state::{Op, RolloutRow, unix_ms};
pub(crate) use step::{Action, Around, Seen};

/// Rollouts that are remembered.
pub(crate) const KEPT: usize = 20;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    pub(crate) unix_ms: i64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), unix_ms: unix_ms(SystemTime::now()) }
    }
}

/// What was ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) revision: RevisionRef,
    pub(crate) kernel_args: KernelArgs,
    /// Nodes of a batch, at least one.
    pub(crate) batch: usize,
    pub(crate) max_failed: usize,
    pub(crate) min_copies: usize,
    pub(crate) patience_s: u64,
}

/// A node in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) member: Member,
    /// The boot that it must leave: only another one counts.
    pub(crate) before: Option<String>,
    /// Since when it is in its state, or since when this process looks.
    pub(crate) since: Instant,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rollout {
    pub(crate) id: i64,
    pub(crate) started_ms: i64,
    pub(crate) plan: Plan,
    pub(crate) phase: Phase,
    pub(crate) reason: String,
    pub(crate) held: Option<String>,
    pub(crate) copies: usize,
    pub(crate) members: Vec<Entry>,
}

impl Rollout {
    /// From the disk. Who was in the middle of something is where it can go on from.
    fn restore(row: RolloutRow, now: Instant) -> Self {
        let mut members = row.members;
        members.sort_by_key(|(place, ..)| *place);
        let entry = |(_, mut member, before): (usize, Member, Option<String>)| {
            let before = match member.state {
                // nobody knows whether it was done
                MemberState::Rebooting => {
                    member.state = MemberState::Due;
                    before
                }
                MemberState::Auditing => {
                    member.state = MemberState::Booting;
                    None
                }
                _ => before,
            };
            Entry { member, before, since: now }
        };
        Self {
            id: row.id,
            started_ms: row.started_ms,
            plan: row.plan,
            phase: row.phase,
            reason: row.reason,
            held: None,
            copies: 0,
            members: members.into_iter().map(entry).collect(),
        }
    }

    /// Itself without nodes, as it is stored.
    fn head(&self) -> Op {
        Op::PutRollout(Box::new(RolloutRow {
            id: self.id,
            started_ms: self.started_ms,
            plan: self.plan.clone(),
            phase: self.phase,
            reason: self.reason.clone(),
            members: Vec::new(),
        }))
    }

    /// A node, as it is stored.
    fn row(&self, place: usize) -> Option<Op> {
        let entry = self.members.get(place)?;
        let (member, before) = (Box::new(entry.member.clone()), entry.before.clone());
        Some(Op::PutMember { rollout: self.id, place, member, before })
    }

    pub(crate) fn view(&self) -> View {
        View {
            id: self.id,
            revision: self.plan.revision.to_string(),
            phase: self.phase,
            reason: self.reason.clone(),
            held: self.held.clone(),
            started_ms: self.started_ms,
            batch: self.plan.batch,
            max_failed: self.plan.max_failed,
            min_copies: self.plan.min_copies,
            copies: self.copies,
            patience_s: self.plan.patience_s,
            nodes: self.members.iter().map(|entry| entry.member.clone()).collect(),
        }
    }

    /// Whether there is something to look at.
    fn moves(&self) -> bool {
        self.phase != Phase::Done
    }
}

/// Why an order about a rollout is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("rollout {0} is running: wait for its end, or stop it with bee-packer reimage --stop")]
    Running(i64),
    #[error("no rollout was ordered yet")]
    Never,
    #[error("there is no rollout {0}: bee-packer reimage --status names the last one")]
    Unknown(String),
    #[error("rollout {0} is not running")]
    NotRunning(i64),
    #[error("rollout {0} is done, and no node has failed: there is nothing to resume")]
    Finished(i64),
}

/// All that are remembered, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Rollouts(Vec<Rollout>);

impl Rollouts {
    pub(crate) fn restore(rows: Vec<RolloutRow>) -> Self {
        let now = Instant::now();
        let mut all: Vec<_> = rows.into_iter().map(|row| Rollout::restore(row, now)).collect();
        all.sort_by_key(|rollout| rollout.id);
        Self(all)
    }

    pub(crate) fn all(&self) -> &[Rollout] {
        &self.0
    }

    /// By number, or `last`.
    pub(crate) fn find(&self, which: &str) -> Result<&Rollout, Refused> {
        let at = self.place(which)?;
        self.0.get(at).ok_or_else(|| Refused::Unknown(which.to_owned()))
    }

    fn place(&self, which: &str) -> Result<usize, Refused> {
        let last = self.0.len().checked_sub(1).ok_or(Refused::Never)?;
        if which == "last" {
            return Ok(last);
        }
        let unknown = || Refused::Unknown(which.chars().take(20).collect());
        let id: i64 = which.parse().map_err(|_| unknown())?;
        self.0.iter().position(|rollout| rollout.id == id).ok_or_else(unknown)
    }

    fn running(&self) -> Option<i64> {
        let running = self.0.iter().find(|rollout| rollout.phase == Phase::Running);
        running.map(|rollout| rollout.id)
    }

    /// Begins one; nothing is done before the next step.
    pub(crate) fn start(
        &mut self,
        plan: Plan,
        members: Vec<Member>,
        now: Moment,
    ) -> Result<(View, Vec<Op>), Refused> {
        if let Some(id) = self.running() {
            return Err(Refused::Running(id));
        }
        let id = self.0.last().map_or(1, |last| last.id + 1);
        let entry = |member| Entry { member, before: None, since: now.instant };
        let rollout = Rollout {
            id,
            started_ms: now.unix_ms,
            plan,
            phase: Phase::Running,
            reason: String::new(),
            held: None,
            copies: 0,
            members: members.into_iter().map(entry).collect(),
        };
        let mut ops = vec![rollout.head()];
        ops.extend((0..rollout.members.len()).filter_map(|place| rollout.row(place)));
        if self.0.len() >= KEPT {
            ops.push(Op::DropRollout(self.0.remove(0).id));
        }
        let view = rollout.view();
        self.0.push(rollout);
        Ok((view, ops))
    }

    /// Begins no batch and reboots nobody from now on.
    pub(crate) fn stop(&mut self, which: &str) -> Result<(View, Vec<Op>), Refused> {
        let at = self.place(which)?;
        let rollout = &mut self.0[at];
        if rollout.phase != Phase::Running {
            return Err(Refused::NotRunning(rollout.id));
        }
        rollout.phase = Phase::Stopped;
        rollout.held = None;
        "stopped by the admin".clone_into(&mut rollout.reason);
        Ok((rollout.view(), vec![rollout.head()]))
    }

    /// Goes on, and tries those again that failed.
    pub(crate) fn resume(&mut self, which: &str, now: Moment) -> Result<(View, Vec<Op>), Refused> {
        let at = self.place(which)?;
        if let Some(id) = self.running() {
            return Err(Refused::Running(id));
        }
        let rollout = &mut self.0[at];
        let failed = |entry: &Entry| entry.member.state == MemberState::Failed;
        if rollout.phase == Phase::Done && !rollout.members.iter().any(failed) {
            return Err(Refused::Finished(rollout.id));
        }
        rollout.phase = Phase::Running;
        rollout.reason.clear();
        let mut ops = vec![rollout.head()];
        for place in 0..rollout.members.len() {
            if failed(&rollout.members[place]) {
                rollout.set(place, MemberState::Waiting, String::new(), now);
                ops.extend(rollout.row(place));
            }
        }
        Ok((rollout.view(), ops))
    }

    /// Those that have to be looked at.
    pub(crate) fn moving(&self) -> Vec<(i64, RevisionRef, Vec<Vec<proto::node_id::NodeId>>)> {
        let moving = self.0.iter().filter(|rollout| rollout.moves());
        moving
            .map(|rollout| {
                let macs = rollout.members.iter().map(|entry| entry.member.macs.clone());
                (rollout.id, rollout.plan.revision.clone(), macs.collect())
            })
            .collect()
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut Rollout> {
        self.0.iter_mut().find(|rollout| rollout.id == id)
    }
}

#[cfg(test)]
#[path = "rollout/tests.rs"]
mod tests;
