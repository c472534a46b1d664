//! One run: open the barrier, let happen what the scenario says, time every node, add up.

use std::time::{Duration, Instant};

use lab::{Counters, Proc, Usage, neighbour_overflows};

use super::events::Events;
use super::member::{LinkRate, Member};
use super::meter::{MachineUse, Ticks};
use super::outcome::RunResult;
use super::recorder::Recorder;
use super::scenario::{Role, SLOWER};
use super::stage::{Run, Stage};
use super::warm::Warm;

/// How often memory is sampled. Finer would cost processor time that the run is to have.
const SAMPLE: Duration = Duration::from_millis(500);

/// Time beyond the ideal's multiple until a run is given up, for images that take next to none.
const GRACE: Duration = Duration::from_secs(5);

/// What the machine as a whole showed during a run.
struct Gauges {
    machine: MachineUse,
    neighbour_overflows: Option<u64>,
    /// Of each member, when the barrier opened.
    before: Vec<Counters>,
    notes: Vec<String>,
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) result: RunResult,
    /// Command lines of tracker, seeder and a node.
    pub(crate) commands: Vec<String>,
    /// Process ids, as they were.
    pub(crate) seeder: u32,
    pub(crate) nodes: Vec<u32>,
}

impl Run<'_> {
    /// Runs one client once.
    pub(crate) fn run(&self) -> anyhow::Result<Played> {
        let mut stage = self.stage()?;
        let gauges = self.play(&mut stage)?;
        let result = self.tally(&mut stage, gauges)?;
        stage.lab.stop();
        let (seeder, nodes) = (stage.seeder.pid(), stage.crowd.iter().map(Member::pid).collect());
        Ok(Played { result, commands: stage.commands, seeder, nodes })
    }

    /// Seconds below which no node with a common link can be done.
    fn ideal(&self) -> f64 {
        let length = self.parts.content.bytes.len() as u64;
        self.case.scenario.ideal_seconds(length, self.case.rate().bytes(), self.case.nodes)
    }

    /// From the barrier to the last node's completion, or to the end of patience.
    fn play(&self, stage: &mut Stage) -> anyhow::Result<Gauges> {
        let length = self.parts.content.bytes.len() as u64;
        let mut events = Events::of(self.case.scenario, length, &stage.crowd);
        let mut notes = Vec::new();
        let slowest = if stage.crowd.iter().any(|m| m.role() == Role::Slow) { SLOWER } else { 1 };
        let ideal = self.ideal() * f64::from(slowest);
        let patience = Duration::from_secs_f64(ideal * f64::from(self.ideals()))
            + GRACE
            + stage.crowd.iter().map(Member::delay).max().unwrap_or_default();
        // fine enough to measure half a percent of the ideal
        let interval = Duration::from_secs_f64((self.ideal() / 200.0).clamp(0.01, 0.1));
        let before = stage.crowd.iter().map(Member::counters).collect::<anyhow::Result<_>>()?;
        stage.admin_before = stage.admin.counters()?;
        let (overflows, ticks) = (neighbour_overflows(), Ticks::now()?);
        let record = |data| Recorder::start(data, patience);
        let recorder = self.recording.map(record).transpose()?;
        stage.warm.take().map(Warm::release).transpose()?;
        stage.barrier.open()?;
        let start = Instant::now();
        for member in stage.crowd.iter_mut().filter(|member| member.role() != Role::Late) {
            member.starts(Duration::ZERO);
        }
        let (mut deadline, mut sampled) = (patience, start);
        loop {
            let now = start.elapsed();
            for member in &mut stage.crowd {
                member.look(now)?;
            }
            if let Some(note) = events.happen(stage, self.parts, now)? {
                notes.push(note);
                deadline = now + patience;
            }
            if stage.crowd.iter().all(Member::is_settled) || now > deadline {
                break;
            }
            if sampled.elapsed() > SAMPLE {
                stage.sample();
                sampled = Instant::now();
            }
            std::thread::sleep(interval);
        }
        let machine = Ticks::now()?.since(ticks);
        recorder.map(Recorder::stop).transpose()?;
        notes.extend(gave_up(&stage.crowd, start.elapsed()));
        notes.extend(events.leftovers());
        let neighbour_overflows = neighbour_overflows()
            .zip(overflows)
            .map(|(after, before)| after.saturating_sub(before));
        Ok(Gauges { machine, neighbour_overflows, before, notes })
    }

    /// Ideals after which it is given up. One server's link carries an image for each node.
    fn ideals(&self) -> u32 {
        let given = self.settings.patience;
        if self.client.has_swarm() { given } else { given.max(self.case.nodes * 2) }
    }

    /// Adds up what everybody did.
    fn tally(&self, stage: &mut Stage, gauges: Gauges) -> anyhow::Result<RunResult> {
        let content = self.parts.content;
        let length = content.bytes.len() as f64;
        let admin = stage.admin.counters()?.since(stage.admin_before);
        let mut spent: Vec<Usage> = vec![stage.seeder.usage()];
        spent.extend(stage.tracker.as_mut().map(Proc::usage));
        let (mut members, mut wrong, mut notes) = (Vec::new(), 0, gauges.notes);
        let (mut retransmits, mut listen_overflows) = (admin.retransmits, admin.listen_overflows);
        for (member, before) in stage.crowd.iter_mut().zip(gauges.before) {
            spent.push(member.usage());
            let slower = if member.role() == Role::Slow { SLOWER } else { 1 };
            let link = LinkRate { bytes: self.case.rate().bytes() as f64, slower };
            members.push(member.result(content, self.ideal(), link));
            wrong += u32::from(member.is_done() && !member.has_image(content)?);
            let counted = member.counters()?.since(before);
            retransmits += counted.retransmits;
            listen_overflows += counted.listen_overflows;
        }
        let done = members.iter().filter(|node| node.done.is_some()).count();
        if let Some(first) = members.iter().find_map(|node| node.ended.clone()) {
            let count = members.iter().filter(|node| node.ended.is_some()).count();
            notes.push(format!("{count} ended before they were done: {first}, …"));
        }
        let per_gb = |part: fn(&Usage) -> Duration| {
            let seconds = spent.iter().map(part).sum::<Duration>().as_secs_f64();
            seconds / (done.max(1) as f64 * length / 1e9)
        };
        Ok(RunResult {
            client: self.client.name(),
            case: self.case,
            run: 1,
            ideal_seconds: self.ideal(),
            members,
            liars: u32::try_from(stage.liars.len())?,
            wrong,
            admin_images: admin.sent as f64 / length,
            cpu_user_per_gb: per_gb(|usage| usage.user),
            cpu_system_per_gb: per_gb(|usage| usage.system),
            machine: gauges.machine,
            retransmits,
            listen_overflows,
            neighbour_overflows: gauges.neighbour_overflows,
            notes,
        })
    }
}

/// Says that nodes were waited for in vain; those that ended are told of elsewhere.
fn gave_up(crowd: &[Member], after: Duration) -> Option<String> {
    let left = crowd.iter().filter(|member| !member.is_settled()).count();
    let of = crowd.len();
    (left > 0).then(|| {
        format!("given up after {:.0} s: {left} of {of} nodes were not done", after.as_secs_f64())
    })
}
