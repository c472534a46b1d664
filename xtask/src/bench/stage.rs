//! The lab of one run, with everybody at the barrier.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};
use lab::{BitRate, Cmd, Counters, Lab, LabConfig, Link, Node, Proc, Scratch};

use super::barrier::Barrier;
use super::contender::Client;
use super::liar;
use super::member::{Member, Parts};
use super::options::Settings;
use super::outcome::Case;
use super::scenario::{Role, SLOWER, Scenario, Seat};
use super::warm::Warm;
use crate::interrupt::Interrupt;

/// Address of the first node of every lab.
pub(crate) const ADMIN_IP: &str = "10.87.1.1";

/// From the last process's start to the barrier: all are blocked at it then, and the seeder has
/// announced.
const SETTLE: Duration = Duration::from_secs(3);

/// What one run is about.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) case: Case,
    pub(crate) client: Client,
    pub(crate) parts: Parts<'a>,
    /// Folder for the processes' logs.
    pub(crate) logs: &'a Path,
    pub(crate) interrupt: &'a Interrupt,
    /// Takes what perf sees of the crowd, when it is to look.
    pub(crate) recording: Option<&'a Path>,
}

/// The lab and who is in it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) admin: Node,
    pub(crate) seeder: Proc,
    pub(crate) tracker: Option<Proc>,
    pub(crate) crowd: Vec<Member>,
    pub(crate) liars: Vec<Proc>,
    /// Where the crowd waits.
    pub(crate) barrier: Barrier,
    /// Where those wait that start late.
    pub(crate) late_barrier: Barrier,
    /// Of the admin host, when the barrier opened.
    pub(crate) admin_before: Counters,
    /// Command lines of tracker, seeder and a node.
    pub(crate) commands: Vec<String>,
    /// As much as the nodes will take, until the barrier opens.
    pub(crate) warm: Option<Warm>,
}

impl Run<'_> {
    /// The link of a node with this role.
    fn link(&self, role: Role) -> Link {
        let rate = self.case.rate();
        let divided = |by: u32| NonZeroU32::new(by).map_or(rate, |by| rate.divided_by(by));
        match (role, self.case.scenario) {
            (Role::Slow, _) => self.settings.link(divided(SLOWER)),
            (_, Scenario::SlowUplinks) => self.settings.link(rate).with_uplink(divided(2)),
            _ => self.settings.link(rate),
        }
    }

    /// Builds the lab and starts everything up to the barrier.
    pub(crate) fn stage(&self) -> anyhow::Result<Stage> {
        let Run { case, parts, .. } = *self;
        let length = parts.content.bytes.len() as u64;
        let room = u64::from(case.nodes + 2) * (length + (8 << 20));
        let config = LabConfig::new(self.logs).scratch(Scratch::Memory(room));
        let lab = Lab::start(config.expect_nodes(case.nodes + 1))?;
        let stopper = lab.stopper();
        self.interrupt.undo(move || stopper.stop());
        let admin = lab.add_node("admin", self.link(Role::Plain))?;
        ensure!(admin.ip().to_string() == ADMIN_IP, "the lab's address plan has changed");
        if case.scenario == Scenario::TwoSubnets {
            lab.add_far_subnet(self.link(Role::Plain))?;
        }
        let services = self.client.services(&admin, parts.programs, parts.content)?;
        let mut commands: Vec<String> = services.tracker.iter().map(Cmd::to_string).collect();
        commands.push(services.seeder.to_string());
        let tracker =
            services.tracker.map(|command| admin.spawn(&command.log("tracker"))).transpose()?;
        let seeder = admin.spawn(&services.seeder.log("seeder"))?;
        let barrier = Barrier::make(&admin, "barrier")?;
        let late_barrier = Barrier::make(&admin, "late-barrier")?;
        let admin_before = admin.counters()?;
        let (crowd, liars) = (Vec::new(), Vec::new());
        let mut stage = Stage {
            lab,
            admin,
            seeder,
            tracker,
            crowd,
            liars,
            barrier,
            late_barrier,
            admin_before,
            commands,
            warm: None,
        };
        for (number, seat) in (1..).zip(case.scenario.seats(case.nodes, self.settings.jitter)) {
            self.seat(&mut stage, number, seat)?;
        }
        stage.commands.extend(stage.crowd.first().map(|member| member.command().to_owned()));
        stage.warm = Some(Warm::up(&stage.admin, u64::from(case.nodes) * length)?);
        std::thread::sleep(SETTLE);
        stage.check_servers()?;
        Ok(stage)
    }

    /// Adds a node with what runs on it.
    fn seat(&self, stage: &mut Stage, number: u32, seat: Seat) -> anyhow::Result<()> {
        let (name, link) = (format!("n{number}"), self.link(seat.role));
        let node = match seat.role {
            Role::Far => stage.lab.add_far_node(&name, link)?,
            _ => stage.lab.add_node(&name, link)?,
        };
        let (client, barrier) = match seat.role {
            Role::Liar => {
                let command = liar::command(self.parts.content)?.log(name);
                stage.liars.push(node.spawn(&command)?);
                return Ok(());
            }
            Role::Guest => (self.settings.mixed_with, &stage.barrier),
            Role::Late => (self.client, &stage.late_barrier),
            Role::Plain | Role::Rebooted | Role::Slow | Role::Far => (self.client, &stage.barrier),
        };
        stage.crowd.push(Member::spawn(node, client, seat, self.parts, barrier)?);
        Ok(())
    }
}

impl Stage {
    /// Bytes that have left the admin host since the barrier opened.
    pub(crate) fn admin_sent(&self) -> anyhow::Result<u64> {
        Ok(self.admin.counters()?.since(self.admin_before).sent)
    }

    /// Fails when a server or a liar has ended by itself.
    fn check_servers(&self) -> anyhow::Result<()> {
        let servers = [Some(&self.seeder), self.tracker.as_ref()];
        let all = servers.into_iter().flatten().chain(&self.liars);
        if let Some(proc) = all.into_iter().find(|proc| proc.has_ended()) {
            bail!("a server ended before anybody came; see {}", proc.log_path().display());
        }
        Ok(())
    }

    /// Samples what everybody uses.
    pub(crate) fn sample(&mut self) {
        self.crowd.iter_mut().for_each(Member::sample);
        self.seeder.usage();
    }
}

impl Case {
    /// The links' rate.
    pub(crate) fn rate(self) -> BitRate {
        BitRate::from_bits(self.bits_per_second)
    }
}
