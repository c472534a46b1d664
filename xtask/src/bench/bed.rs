//! A lab with links as fast as the machine can copy, for what one host or one pair can do.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lab::client::{Done, Launch};
use lab::{Cmd, Lab, LabConfig, Link, Node, Proc, Scratch, Usage};
use serde::Serialize;

use super::barrier::Barrier;
use super::meter::{MachineUse, Ticks};
use super::stage::ADMIN_IP;
use super::warm::Warm;
use crate::interrupt::Interrupt;

/// From the last process's start to the barrier.
const SETTLE: Duration = Duration::from_millis(700);

/// Longest that one burst may take. A machine that needs longer is not one to measure on.
const LIMIT: Duration = Duration::from_secs(60);

/// How often is looked whether all have ended: well below the second that a burst takes.
const POLL: Duration = Duration::from_millis(4);

/// A lab of an admin host and nodes.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) lab: Lab,
    pub(crate) admin: Node,
    pub(crate) nodes: Vec<Node>,
    bursts: Cell<u32>,
    /// Bytes that the nodes of a burst may take.
    memory: u64,
}

/// What it took to let every node run a program to its end.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Burst {
    /// From the barrier to the last one's end.
    pub(crate) seconds: f64,
    /// The server's own code.
    pub(crate) server_user: f64,
    /// The kernel on the server's behalf.
    pub(crate) server_system: f64,
    /// All nodes' programs, in their own code and in the kernel.
    pub(crate) nodes_cpu: f64,
    pub(crate) machine: MachineUse,
}

impl Bed {
    /// Starts a lab with `memory` bytes for scratch files.
    pub(crate) fn start(
        nodes: u32,
        memory: u64,
        logs: &Path,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Bed> {
        let config = LabConfig::new(logs).scratch(Scratch::Memory(memory)).expect_nodes(nodes + 1);
        let lab = Lab::start(config)?;
        let stopper = lab.stopper();
        interrupt.undo(move || stopper.stop());
        let admin = lab.add_node("admin", Link::unshaped())?;
        ensure!(admin.ip().to_string() == ADMIN_IP, "the lab's address plan has changed");
        let add = |number| lab.add_node(&format!("n{number}"), Link::unshaped());
        let nodes = (1..=nodes).map(add).collect::<Result<_, _>>()?;
        Ok(Bed { lab, admin, nodes, bursts: Cell::new(0), memory })
    }

    /// Lets every node run its command at one moment, and waits until all have ended well.
    pub(crate) fn burst(
        &self,
        name: &str,
        server: &mut Proc,
        command: impl Fn(&Node) -> Cmd,
    ) -> anyhow::Result<Burst> {
        self.bursts.set(self.bursts.get() + 1);
        let barrier = Barrier::make(&self.admin, &format!("barrier-{}", self.bursts.get()))?;
        let spawn = |node: &Node| {
            let launch = Launch::new(command(node), Done::exit()).behind(barrier.inside());
            node.spawn(&launch.command.log(format!("{name}-{}", node.name())))
        };
        let mut crowd = self.nodes.iter().map(spawn).collect::<Result<Vec<Proc>, _>>()?;
        let warm = Warm::up(&self.admin, self.memory)?;
        std::thread::sleep(SETTLE);
        warm.release()?;
        let (before, ticks) = (server.usage(), Ticks::now()?);
        let start = Instant::now();
        barrier.open()?;
        while !crowd.iter().all(Proc::has_ended) {
            ensure!(!server.has_ended(), "the server ended; see {}", server.log_path().display());
            ensure!(start.elapsed() < LIMIT, "{name}: not done after {LIMIT:?}");
            std::thread::sleep(POLL);
        }
        let seconds = start.elapsed().as_secs_f64();
        let (after, machine) = (server.usage(), Ticks::now()?.since(ticks));
        let mut nodes_cpu = Duration::ZERO;
        for proc in &mut crowd {
            let status = proc.try_wait()?.context("it has ended")?;
            ensure!(status.success(), "{name}: {status}; see {}", proc.log_path().display());
            nodes_cpu += proc.usage().cpu();
        }
        let part = |of: fn(Usage) -> Duration| (of(after) - of(before)).as_secs_f64();
        Ok(Burst {
            seconds,
            server_user: part(|usage| usage.user),
            server_system: part(|usage| usage.system),
            nodes_cpu: nodes_cpu.as_secs_f64(),
            machine,
        })
    }

    /// Starts a server on the admin host and waits until it takes connections.
    pub(crate) fn server(&self, name: &str, command: Cmd, port: u16) -> anyhow::Result<Proc> {
        let server = self.admin.spawn(&command.log(name))?;
        let start = Instant::now();
        let address = (self.admin.ip(), port).into();
        while self.admin.connect(address, Duration::from_secs(1)).is_err() {
            let log = server.log_path().display();
            ensure!(!server.has_ended(), "{name} ended; see {log}");
            ensure!(start.elapsed() < LIMIT, "{name} does not listen; see {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Burst {
    /// Processor seconds of the server per GB, for so many bytes.
    pub(crate) fn server_per_gb(&self, bytes: f64) -> f64 {
        (self.server_user + self.server_system) / (bytes / 1e9)
    }
}
