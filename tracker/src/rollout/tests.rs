//! Steps of rollouts, with what nodes say made up.

use std::time::Duration;

use super::*;
use crate::power::Auditor;
use proto::event::audit::Verdict;

const START: i64 = 1_000_000;

/// A rollout and what its nodes say.
struct Bench {
    rollouts: Rollouts,
    seen: Vec<Seen>,
    now: Moment,
    audit: Auditor,
    at_once: usize,
}

impl Bench {
    fn new(nodes: u8, batch: usize, max_failed: usize, min_copies: usize) -> Self {
        let plan = Plan {
            revision: format!("debian@{}", "a".repeat(12)).parse().unwrap(),
            kernel_args: KernelArgs::default(),
            batch,
            max_failed,
            min_copies,
            patience_s: 600,
        };
        let member = |n| Member {
            name: format!("n{n}"),
            macs: vec![proto::node_id::NodeId([n; 6])],
            state: MemberState::Waiting,
            batch: 0,
            detail: String::new(),
            since_ms: START,
        };
        let now = Moment { instant: Instant::now(), unix_ms: START };
        let mut rollouts = Rollouts::default();
        let (_, ops) = rollouts.start(plan, (0..nodes).map(member).collect(), now).unwrap();
        assert_eq!(ops.len(), usize::from(nodes) + 1, "all of it is stored");
        let seen = (0..nodes).map(|_| running("old", false)).collect();
        Self { rollouts, seen, now, audit: Auditor::Nobody, at_once: 100 }
    }

    fn rollout(&mut self) -> &mut Rollout {
        self.rollouts.get_mut(1).unwrap()
    }

    fn step(&mut self) -> Vec<Action> {
        let copies = self.seen.iter().filter(|seen| seen.runs && seen.stage == "seeding").count();
        let (seen, audit) = (self.seen.clone(), self.audit);
        let around = Around { seen: &seen, copies, at_once: self.at_once, audit };
        let now = self.now;
        let rollout = self.rollout();
        let step = rollout.step(&around, now);
        assert!(step.actions.is_empty() || !step.ops(rollout).is_empty(), "no action is forgotten");
        step.actions
    }

    fn done(&mut self, action: Action, result: Result<(), &str>) {
        let now = self.now;
        let step = self.rollout().acted(action, result.map_err(str::to_owned), now);
        assert_eq!(step.ops(self.rollout()).len(), 1);
    }

    /// Reboots everybody who is to be rebooted, at once and well.
    fn reboot(&mut self) -> Vec<usize> {
        let actions = self.step();
        let places = actions.iter().map(|action| match action {
            Action::Reboot(place) | Action::Audit(place) => *place,
        });
        let places: Vec<_> = places.collect();
        actions.into_iter().for_each(|action| self.done(action, Ok(())));
        places
    }

    fn comes_up(&mut self, place: usize) {
        self.seen[place] = running("new", true);
    }

    fn wait(&mut self, seconds: u64) {
        self.now.instant += Duration::from_secs(seconds);
    }

    fn states(&mut self) -> String {
        let first = |entry: &Entry| entry.member.state.word().chars().next().unwrap();
        self.rollout().members.iter().map(first).collect()
    }

    /// What another process finds on the disk.
    fn killed(&mut self) {
        let now = self.now.instant;
        let rollout = self.rollout();
        let member =
            |(place, entry): (usize, &Entry)| (place, entry.member.clone(), entry.before.clone());
        let row = RolloutRow {
            id: rollout.id,
            started_ms: rollout.started_ms,
            plan: rollout.plan.clone(),
            phase: rollout.phase,
            reason: rollout.reason.clone(),
            members: rollout.members.iter().enumerate().map(member).collect(),
        };
        *rollout = Rollout::restore(row, now);
    }
}

fn running(boot: &str, runs: bool) -> Seen {
    Seen { boot_id: Some(boot.to_owned()), stage: "seeding", runs, ..Seen::default() }
}

#[test]
fn a_batch_waits_for_the_one_before() {
    let mut bench = Bench::new(5, 2, 0, 1);
    assert_eq!(bench.reboot(), [0, 1]);
    assert_eq!(bench.states(), "bbwww");
    bench.comes_up(0);
    assert_eq!((bench.step(), bench.states()), (vec![], "ubwww".to_owned()));
    // the old boot of the same revision, or the new one of another, is not enough
    bench.seen[1] = running("old", true);
    assert_eq!((bench.step(), bench.states()), (vec![], "ubwww".to_owned()));
    bench.seen[1] = running("new", false);
    assert_eq!((bench.step(), bench.states()), (vec![], "ubwww".to_owned()));
    bench.comes_up(1);
    assert_eq!(bench.reboot(), [2, 3]);
    (2..4).for_each(|place| bench.comes_up(place));
    assert_eq!(bench.reboot(), [4]);
    bench.comes_up(4);
    bench.step();
    assert_eq!((bench.rollout().phase, bench.states()), (Phase::Done, "uuuuu".to_owned()));
    assert_eq!(bench.rollouts.resume("last", bench.now).unwrap_err(), Refused::Finished(1));
}

#[test]
fn who_runs_it_already_is_not_rebooted() {
    let mut bench = Bench::new(2, 2, 0, 1);
    bench.seen[1] = running("old", true);
    assert_eq!(bench.reboot(), [0]);
    bench.step();
    assert_eq!(bench.states(), "bu");
    assert_eq!(bench.rollout().members[1].member.detail, "ran it already");
}

#[test]
fn too_many_failures_stop_it_and_it_can_go_on() {
    let mut bench = Bench::new(6, 3, 1, 1);
    let actions = bench.step();
    bench.done(actions[0], Err("no route to n0-bmc"));
    bench.done(actions[1], Ok(()));
    bench.done(actions[2], Ok(()));
    assert_eq!(bench.step(), [], "one may fail");
    assert_eq!(bench.rollout().phase, Phase::Running);
    bench.seen[1] = Seen { failed: Some("no squashfs".to_owned()), ..running("new", true) };
    bench.seen[1].stage = "failed";
    bench.step();
    assert_eq!((bench.rollout().phase, bench.states()), (Phase::Stopped, "ffbwww".to_owned()));
    let reason = bench.rollout().reason.clone();
    for part in ["2 of 6", "1 may", "n0: cannot be rebooted: no route", "n1: no squashfs"] {
        assert!(reason.contains(part), "{reason}");
    }
    // who is on its way is still looked at
    bench.comes_up(2);
    assert_eq!((bench.step(), bench.states()), (vec![], "ffuwww".to_owned()));
    bench.rollouts.resume("1", bench.now).unwrap();
    assert_eq!(bench.rollouts.resume("1", bench.now).unwrap_err(), Refused::Running(1));
    assert_eq!(bench.reboot(), [0, 1, 3], "first those that failed");
}

#[test]
fn who_does_not_come_up_in_time_has_failed_and_may_be_late() {
    let mut bench = Bench::new(3, 3, 3, 1);
    bench.reboot();
    bench.seen[1] = Seen { trouble: Some("no peers: none".to_owned()), ..running("new", true) };
    bench.seen[1].stage = "fetch";
    bench.seen[2] = running("new", false);
    bench.wait(600);
    bench.step();
    assert_eq!(bench.states(), "bbb");
    bench.wait(1);
    bench.step();
    let why = |bench: &mut Bench, n: usize| bench.rollout().members[n].member.detail.clone();
    assert!(why(&mut bench, 0).contains("not up after 600 s: no word of a new boot"));
    assert!(why(&mut bench, 1).contains("no peers: none"));
    assert!(why(&mut bench, 2).contains("with another revision"));
    assert_eq!((bench.rollout().phase, bench.states()), (Phase::Done, "fff".to_owned()));
    bench.rollouts.resume("last", bench.now).unwrap();
    assert_eq!(bench.reboot(), [0, 1, 2]);
    bench.wait(601);
    bench.seen[2] = running("newest", true);
    bench.step();
    assert_eq!(bench.states(), "ffu");
}

#[test]
fn the_next_batch_waits_for_copies() {
    let mut bench = Bench::new(4, 2, 0, 2);
    bench.reboot();
    (0..2).for_each(|place| bench.comes_up(place));
    // one of them goes off again at once
    bench.step();
    assert_eq!(bench.states(), "uurr", "two copies are enough");
    let mut bench = Bench::new(4, 2, 0, 2);
    bench.reboot();
    bench.comes_up(0);
    bench.step();
    bench.seen[0] = Seen { stage: "netboot", ..Seen::default() };
    bench.comes_up(1);
    assert_eq!((bench.step(), bench.states()), (vec![], "uuww".to_owned()));
    assert!(bench.rollout().held.as_ref().unwrap().contains("1 of the 2 nodes"));
    bench.comes_up(0);
    assert_eq!(bench.reboot(), [2, 3]);
    assert_eq!(bench.rollout().held, None);
}

#[test]
fn a_stop_keeps_nodes_from_being_rebooted() {
    let mut bench = Bench::new(4, 4, 0, 1);
    bench.at_once = 1;
    assert_eq!(bench.step(), [Action::Reboot(0)]);
    assert_eq!((bench.step(), bench.states()), (vec![], "rddd".to_owned()));
    let (view, ops) = bench.rollouts.stop("last").unwrap();
    assert_eq!((view.phase, ops.len()), (Phase::Stopped, 1));
    assert_eq!(bench.rollouts.stop("last").unwrap_err(), Refused::NotRunning(1));
    bench.done(Action::Reboot(0), Ok(()));
    assert_eq!((bench.step(), bench.states()), (vec![], "bddd".to_owned()));
    bench.rollouts.resume("last", bench.now).unwrap();
    assert_eq!(bench.step(), [Action::Reboot(1)]);
    for unknown in ["7", "-1", "../1", ""] {
        assert!(matches!(bench.rollouts.stop(unknown), Err(Refused::Unknown(_))), "{unknown}");
    }
}

#[test]
fn what_was_begun_before_a_kill_is_done_after_it() {
    let mut bench = Bench::new(3, 3, 0, 1);
    let actions = bench.step();
    bench.done(actions[0], Ok(()));
    // the second was rebooted, and asks already for its boot script; of the third nobody knows
    bench.seen[1] = Seen { stage: "netboot", runs: true, ..Seen::default() };
    bench.killed();
    assert_eq!(bench.states(), "bdd");
    assert_eq!(bench.step(), [Action::Reboot(2)]);
    assert_eq!(bench.states(), "bbr");
    bench.wait(599);
    bench.killed();
    // nobody listened: their time begins anew
    bench.wait(599);
    assert_eq!(bench.step(), [Action::Reboot(2)]);
    bench.killed();
    bench.rollouts.stop("last").unwrap();
    bench.killed();
    assert_eq!((bench.step(), bench.rollout().phase), (vec![], Phase::Stopped));
}

#[test]
fn a_node_can_say_itself_that_it_is_sound() {
    let mut bench = Bench::new(3, 3, 3, 1);
    // none waits for room: nothing runs here meanwhile
    (bench.audit, bench.at_once) = (Auditor::Event(Duration::from_secs(60)), 3);
    assert_eq!(bench.reboot(), [0, 1, 2]);
    bench.at_once = 1;
    (0..3).for_each(|place| bench.comes_up(place));
    // said before it seeded, or later
    bench.seen[0].audit = Some((Verdict::Pass, "sound".to_owned()));
    assert_eq!((bench.step(), bench.states()), (vec![], "aaa".to_owned()));
    bench.seen[1].audit = Some((Verdict::Fail, "3 of 4 modules".to_owned()));
    assert_eq!((bench.step(), bench.states()), (vec![], "ufa".to_owned()));
    assert_eq!(bench.rollout().members[1].member.detail, "audit: 3 of 4 modules");
    bench.wait(60);
    assert_eq!((bench.step(), bench.states()), (vec![], "ufa".to_owned()));
    // a kill gives it time anew, and asks for no other boot
    bench.killed();
    bench.step();
    assert_eq!(bench.states(), "ufa");
    bench.wait(61);
    bench.step();
    assert_eq!(bench.states(), "uff");
    let detail = &bench.rollout().members[2].member.detail;
    assert_eq!(detail, "audit: no verdict came within 60 s");
}

#[test]
fn who_came_up_is_audited() {
    let mut bench = Bench::new(2, 2, 2, 1);
    (bench.audit, bench.at_once) = (Auditor::Program, 2);
    bench.reboot();
    (0..2).for_each(|place| bench.comes_up(place));
    assert_eq!(bench.step(), [Action::Audit(0), Action::Audit(1)]);
    bench.killed();
    assert_eq!(bench.step(), [Action::Audit(0), Action::Audit(1)], "once more after a kill");
    bench.done(Action::Audit(0), Ok(()));
    bench.done(Action::Audit(1), Err("2 of 16 memory modules are missing"));
    assert_eq!((bench.step(), bench.states()), (vec![], "uf".to_owned()));
    assert_eq!(
        (bench.step(), bench.states()),
        (vec![], "uf".to_owned()),
        "not once more by itself"
    );
    let detail = &bench.rollout().members[1].member.detail;
    assert_eq!(detail, "audit: 2 of 16 memory modules are missing");
}

#[test]
fn one_runs_at_a_time_and_the_oldest_is_forgotten() {
    let mut bench = Bench::new(1, 1, 0, 1);
    let (plan, members) = {
        let rollout = bench.rollout();
        (rollout.plan.clone(), vec![rollout.members[0].member.clone()])
    };
    let refused = bench.rollouts.start(plan.clone(), members.clone(), bench.now).unwrap_err();
    assert_eq!(refused, Refused::Running(1));
    for _ in 0..KEPT {
        bench.rollouts.stop("last").unwrap();
        bench.rollouts.start(plan.clone(), members.clone(), bench.now).unwrap();
    }
    assert_eq!(bench.rollouts.all().len(), KEPT);
    assert!(bench.rollouts.find("1").is_err() && bench.rollouts.find("2").is_ok());
}
