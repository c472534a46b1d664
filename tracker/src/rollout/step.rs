//! What is to be done with a rollout now.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::event::audit::Verdict;
use proto::rollout::{MemberState, Phase};

use super::{Moment, Rollout};
use crate::power::Auditor;
use crate::state::Op;

/// Nodes that the reason of a stop names.
const NAMED: usize = 5;

/// What the tracker knows of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The boot it is in; `None`: in its firmware, or never heard.
    pub(crate) boot_id: Option<String>,
    /// What it does.
    pub(crate) stage: &'static str,
    /// Whether it was told to boot, or said it boots, the rollout's revision.
    pub(crate) runs: bool,
    /// Not heard for longer than a seeder is silent.
    pub(crate) old: bool,
    /// Why it has given up.
    pub(crate) failed: Option<String>,
    /// What it said in this boot of its hardware.
    pub(crate) audit: Option<(Verdict, String)>,
    /// What else is wrong with it.
    pub(crate) trouble: Option<String>,
}

impl Seen {
    fn seeds(&self) -> bool {
        self.stage == "seeding" && self.runs && !self.old
    }
}

/// Everything that a step depends on.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    /// The rollout's nodes, in its order.
    pub(crate) seen: &'a [Seen],
    /// Nodes that seed the revision, whether they are in the rollout or not.
    pub(crate) copies: usize,
    /// Power actions, and audits, at one time.
    pub(crate) at_once: usize,
    /// Who says that a node that came up is sound.
    pub(crate) audit: Auditor,
}

/// What is to be done with a node, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Reboot(usize),
    Audit(usize),
}

/// What a step changed, and what has to be done when that is on disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) actions: Vec<Action>,
    /// Nodes that boot the revision from now on.
    pub(crate) assign: Vec<usize>,
    places: BTreeSet<usize>,
    head: bool,
}

impl Step {
    /// As it is stored.
    pub(crate) fn ops(&self, rollout: &Rollout) -> Vec<Op> {
        let mut ops: Vec<_> = self.places.iter().filter_map(|at| rollout.row(*at)).collect();
        if self.head {
            ops.push(rollout.head());
        }
        ops
    }
}

impl Rollout {
    /// Looks at everything once.
    pub(crate) fn step(&mut self, around: &Around<'_>, now: Moment) -> Step {
        let mut step = Step::default();
        self.copies = around.copies;
        for place in 0..self.members.len() {
            let none = Seen::default();
            let seen = around.seen.get(place).unwrap_or(&none);
            self.look(place, seen, around, &mut step, now);
        }
        self.count_failed(&mut step);
        if self.phase == Phase::Running {
            self.next_batch(around, &mut step, now);
        }
        if self.phase == Phase::Running {
            self.reboot(around, &mut step, now);
        }
        step
    }

    pub(super) fn count(&self, state: MemberState) -> usize {
        self.members.iter().filter(|entry| entry.member.state == state).count()
    }

    pub(super) fn set(&mut self, place: usize, state: MemberState, detail: String, now: Moment) {
        if let Some(entry) = self.members.get_mut(place) {
            entry.member.state = state;
            entry.member.detail = detail;
            entry.member.since_ms = now.unix_ms;
            entry.since = now.instant;
        }
    }

    /// Follows a node that was rebooted.
    fn look(&mut self, at: usize, seen: &Seen, around: &Around<'_>, step: &mut Step, now: Moment) {
        let Some(entry) = self.members.get(at) else { return };
        let other_boot = seen.boot_id != entry.before;
        let arrived = other_boot && seen.seeds();
        let waited = now.instant.saturating_duration_since(entry.since);
        let next = match entry.member.state {
            // the action was done before a kill, or somebody else did it
            MemberState::Due if other_boot && seen.runs => {
                Some((MemberState::Booting, String::new()))
            }
            MemberState::Booting | MemberState::Failed
                if arrived && around.audit == Auditor::Nobody =>
            {
                Some((MemberState::Up, entry.member.detail.clone()))
            }
            MemberState::Booting | MemberState::Failed if arrived => {
                // who waits for a word of the node loads nobody
                let waits = around.audit != Auditor::Program;
                let room = waits || self.count(MemberState::Auditing) < around.at_once;
                room.then(|| (MemberState::Auditing, String::new()))
            }
            MemberState::Auditing => match around.audit {
                Auditor::Event(within) => audited(seen, waited, within),
                // its result comes as that of an action
                Auditor::Program | Auditor::Nobody => None,
            },
            MemberState::Booting if other_boot && seen.failed.is_some() => {
                Some((MemberState::Failed, seen.failed.clone().unwrap_or_default()))
            }
            MemberState::Booting if waited > Duration::from_secs(self.plan.patience_s) => {
                Some((MemberState::Failed, overdue(seen, other_boot, self.plan.patience_s)))
            }
            _ => None,
        };
        let Some((state, detail)) = next else { return };
        let detail = match (state, entry.member.state) {
            (MemberState::Up, MemberState::Failed) => "came up late".to_owned(),
            _ => detail,
        };
        self.set(at, state, detail, now);
        step.places.insert(at);
        if state == MemberState::Auditing {
            // from now on only a further boot is another one
            self.members[at].before.clone_from(&seen.boot_id);
            if around.audit == Auditor::Program {
                step.actions.push(Action::Audit(at));
            }
        }
    }

    /// Stops when too many have failed.
    fn count_failed(&mut self, step: &mut Step) {
        let failed = self.count(MemberState::Failed);
        if self.phase != Phase::Running || failed <= self.plan.max_failed {
            return;
        }
        let of = |entry: &super::Entry| {
            (entry.member.state == MemberState::Failed)
                .then(|| format!("{}: {}", entry.member.name, entry.member.detail))
        };
        let mut names: Vec<_> = self.members.iter().filter_map(of).take(NAMED).collect();
        if failed > NAMED {
            names.push(format!("and {} more", failed - NAMED));
        }
        self.phase = Phase::Stopped;
        self.held = None;
        self.reason = format!(
            "{failed} of {} nodes have failed, {} may: {}",
            self.members.len(),
            self.plan.max_failed,
            names.join("; ")
        );
        step.head = true;
    }

    /// Begins the next batch when the last one is over and there are copies enough.
    fn next_batch(&mut self, around: &Around<'_>, step: &mut Step, now: Moment) {
        let on_its_way =
            |state| !matches!(state, MemberState::Waiting | MemberState::Up | MemberState::Failed);
        self.held = None;
        if self.members.iter().any(|entry| on_its_way(entry.member.state)) {
            return;
        }
        let last = self.members.iter().map(|entry| entry.member.batch).max().unwrap_or(0);
        let waiting = |place: &usize| self.members[*place].member.state == MemberState::Waiting;
        let next: Vec<_> = (0..self.members.len()).filter(waiting).take(self.plan.batch).collect();
        if next.is_empty() {
            self.phase = Phase::Done;
            step.head = true;
            return;
        }
        let any_up = self.count(MemberState::Up) > 0;
        if any_up && around.copies < self.plan.min_copies {
            self.held = Some(format!(
                "{} of the {} nodes that must hold the image before the next batch do",
                around.copies, self.plan.min_copies
            ));
            return;
        }
        for place in next {
            let none = Seen::default();
            let seen = around.seen.get(place).unwrap_or(&none);
            let already = seen.seeds() && self.plan.kernel_args.to_string().is_empty();
            let (state, detail) = match already {
                true => (MemberState::Booting, "ran it already".to_owned()),
                false => (MemberState::Due, String::new()),
            };
            if already {
                step.assign.push(place);
            }
            self.set(place, state, detail, now);
            let entry = &mut self.members[place];
            entry.before = if already { None } else { seen.boot_id.clone() };
            entry.member.batch = last + 1;
            step.places.insert(place);
        }
    }

    /// Lets nodes be rebooted whose turn it is.
    fn reboot(&mut self, around: &Around<'_>, step: &mut Step, now: Moment) {
        let room = around.at_once.saturating_sub(self.count(MemberState::Rebooting));
        let due = |place: &usize| self.members[*place].member.state == MemberState::Due;
        let next: Vec<_> = (0..self.members.len()).filter(due).take(room).collect();
        for place in next {
            self.set(place, MemberState::Rebooting, String::new(), now);
            step.places.insert(place);
            step.assign.push(place);
            step.actions.push(Action::Reboot(place));
        }
    }

    /// Takes what became of an action.
    pub(crate) fn acted(
        &mut self,
        action: Action,
        result: Result<(), String>,
        now: Moment,
    ) -> Step {
        let (place, during) = match action {
            Action::Reboot(place) => (place, MemberState::Rebooting),
            Action::Audit(place) => (place, MemberState::Auditing),
        };
        let mut step = Step::default();
        if self.members.get(place).is_none_or(|entry| entry.member.state != during) {
            return step;
        }
        let (state, detail) = match (action, result) {
            (Action::Reboot(_), Ok(())) => (MemberState::Booting, String::new()),
            (Action::Audit(_), Ok(())) => (MemberState::Up, String::new()),
            (Action::Reboot(_), Err(why)) => {
                (MemberState::Failed, format!("cannot be rebooted: {why}"))
            }
            (Action::Audit(_), Err(why)) => (MemberState::Failed, format!("audit: {why}")),
        };
        self.set(place, state, detail, now);
        step.places.insert(place);
        step
    }
}

/// What becomes of a node that is to say whether it is sound.
fn audited(seen: &Seen, waited: Duration, within: Duration) -> Option<(MemberState, String)> {
    match &seen.audit {
        Some((Verdict::Pass, _)) => Some((MemberState::Up, String::new())),
        Some((Verdict::Fail, text)) => Some((MemberState::Failed, format!("audit: {text}"))),
        None if waited > within => {
            let why = format!("audit: no verdict came within {} s", within.as_secs());
            Some((MemberState::Failed, why))
        }
        None => None,
    }
}

/// Why a node is given up.
fn overdue(seen: &Seen, other_boot: bool, patience_s: u64) -> String {
    let stage = seen.stage;
    let why = match (&seen.trouble, other_boot) {
        (_, false) => "no word of a new boot since its reboot".to_owned(),
        (Some(trouble), true) => trouble.clone(),
        (None, true) if stage == "seeding" && seen.old => {
            "it came up, and is no longer heard".to_owned()
        }
        (None, true) if stage == "seeding" => "it came up with another revision".to_owned(),
        (None, true) => format!("it is still in stage {stage}"),
    };
    format!("not up after {patience_s} s: {why}")
}
