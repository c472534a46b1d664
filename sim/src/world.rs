//! The simulation: state, clock, and what may happen in it.

use std::collections::VecDeque;
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::Geometry;
use swarm::core::{CoreConfig, Identity, Torrent};

use crate::book::Book;
use crate::conduct::Conduct;
use crate::disk::Disk;
use crate::flow::{Flow, FlowId, Port};
use crate::node::{Counts, Node, NodeId, flow_of};
use crate::queue::Calendar;
use crate::sample::SAMPLE_NANOS;
use crate::setup::{Setup, SetupError};
use crate::trace::Trace;
use crate::tracker::Tracker;
use crate::trunk::Trunk;

/// How often the timers of a core run (`net::torrent`).
const TICK: u64 = 50_000_000;
const IDLE_TICK: u64 = 250_000_000;

/// What is going to happen. A `u32` beside a node is its life: what was meant for another one is
/// dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Start(NodeId),
    Stop(NodeId, Stop),
    Skew(NodeId, u32),
    Behave(NodeId, Conduct),
    Tick(NodeId, u32),
    Announce(NodeId, u32),
    Sample(NodeId, u32),
    UplinkFree(NodeId),
    Crossed(FlowId, u32),
    Arrive(FlowId, u32),
    Deliver(FlowId, u32),
    Dialed { from: NodeId, life: u32, to: NodeId },
    Reset(FlowId),
}

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It tells the tracker and is gone.
    Leave,
    /// It is gone without a word, and its connections are reset.
    Crash,
    /// It crashes and comes up again at once with the pieces it had stored.
    Resume,
    /// It crashes and comes up again at once with nothing.
    Restart,
}

/// A swarm in memory.
#[derive(Debug)]
pub struct World {
    pub(crate) now: u64,
    pub(crate) geometry: Geometry,
    pub(crate) setup: Setup,
    pub(crate) headers: bool,
    pub(crate) send_buffer: u64,
    pub(crate) loss: u32,
    pub(crate) same_latency: bool,
    /// Time between two looks at a node. No divisor of the engine's tick, so that all phases are
    /// seen; longer in large swarms, where there are many to look at.
    pub(crate) sample_every: u64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) calendar: Calendar<Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) flows: Vec<Flow>,
    /// First flows of pairs that are free.
    pub(crate) spare: Vec<FlowId>,
    /// Flows whose writer must run before the event is over.
    pub(crate) dirty: VecDeque<FlowId>,
    /// The ways out of the segments, by segment; none when all is one network.
    pub(crate) trunks: Vec<Trunk>,
    pub(crate) tracker: Tracker,
    pub(crate) bans: Vec<(NodeId, Identity)>,
    pub(crate) faults: Vec<String>,
    pub(crate) events: u64,
    pub(crate) trace: Trace,
    starting: usize,
    awaited: usize,
}

impl World {
    /// A swarm of which nobody has started yet.
    ///
    /// # Errors
    /// [`SetupError`] says what cannot be simulated.
    pub fn new(setup: Setup) -> Result<Self, SetupError> {
        let geometry = Geometry::new(setup.total, setup.piece)?;
        let blocks = geometry.piece_length() / proto::geometry::BLOCK_LEN;
        if blocks > 128 {
            return Err(SetupError::LongPieces { blocks });
        }
        if setup.network.rate == 0 {
            return Err(SetupError::NoRate);
        }
        let count = setup.leechers + 1;
        let mut world = Self {
            now: 0,
            geometry,
            headers: setup.network.headers,
            send_buffer: u64::from(setup.network.send_buffer),
            loss: setup.network.loss,
            same_latency: setup.network.latency_spread.is_zero() && setup.network.loss == 0,
            sample_every: SAMPLE_NANOS * u64::from(setup.leechers / 1000).clamp(1, 8),
            rng: fastrand::Rng::with_seed(setup.seed),
            calendar: Calendar::new(),
            nodes: Vec::with_capacity(count as usize),
            flows: Vec::new(),
            spare: Vec::new(),
            dirty: VecDeque::new(),
            trunks: Vec::new(),
            tracker: Tracker::new(count as usize),
            bans: Vec::new(),
            faults: Vec::new(),
            events: 0,
            trace: Trace::new(count * u32::from(setup.samples), geometry.pieces()),
            starting: 0,
            awaited: 0,
            setup,
        };
        for id in (0..count).map(NodeId) {
            let node = world.build(id);
            world.nodes.push(node);
        }
        Ok(world)
    }

    fn build(&mut self, id: NodeId) -> Node {
        let seeder = id.0 == 0;
        let pieces = self.geometry.pieces();
        let have = if seeder { Bitfield::full(pieces) } else { Bitfield::empty(pieces) };
        let network = &self.setup.network;
        let rate = network.rate;
        let port = Port::of(network, rate, rate);
        Node {
            core: self.core(id, 0, seeder, have.clone()),
            conduct: Conduct::Honest,
            was_honest: true,
            alive: false,
            awaited: false,
            life: 0,
            skew: 0,
            tick_at: 0,
            wakes_at: 0,
            started_at: 0,
            first_piece_at: None,
            finished_at: None,
            seeder,
            max_peers: if seeder { self.setup.seeder_peers } else { self.setup.max_peers },
            dialing: 0,
            links: Vec::new(),
            by_key: Vec::new(),
            book: Book::default(),
            disk: Disk::new(have),
            port,
            segment: 0,
            counts: Counts::default(),
            idle: Default::default(),
        }
    }

    fn core(&mut self, id: NodeId, life: u32, seeder: bool, have: Bitfield) -> Torrent {
        let config = match &self.setup.seeder_core {
            Some(config) if seeder => config,
            _ => &self.setup.core,
        };
        let initial_seeding = seeder && self.setup.initial_seeding;
        let config = CoreConfig { initial_seeding, ..config.clone() };
        let mut core = Torrent::new(config, self.geometry, have, self.rng.u64(..));
        core.set_id(id.identity(life).id);
        core
    }

    /// Sets how a node behaves, before it starts.
    pub fn set_conduct(&mut self, node: NodeId, conduct: Conduct) {
        self.behave(node, conduct);
    }

    /// Sets the link of a node, in bytes per second, before it starts.
    pub fn set_rates(&mut self, node: NodeId, up: u64, down: u64) {
        self.nodes[node.at()].port = Port::of(&self.setup.network, up, down);
    }

    /// A node starts at a time since the start of the simulation.
    pub fn start_at(&mut self, at: Duration, node: NodeId) {
        self.starting += 1;
        self.calendar.push(nanos(at), Event::Start(node));
    }

    /// All nodes start, the seeder first and the others at random times within `spread` after it.
    pub fn start_all(&mut self, spread: Duration) {
        self.start_at(Duration::ZERO, NodeId(0));
        let spread = nanos(spread);
        for node in (1..=self.setup.leechers).map(NodeId) {
            let at = self.rng.u64(0..=spread);
            self.start_at(Duration::from_nanos(at), node);
        }
    }

    /// A node ends, or is restarted.
    pub fn stop_at(&mut self, at: Duration, node: NodeId, stop: Stop) {
        if matches!(stop, Stop::Resume | Stop::Restart) {
            self.starting += 1;
        }
        self.calendar.push(nanos(at), Event::Stop(node, stop));
    }

    /// The clock of a node jumps ahead by `seconds`, as after a suspend.
    pub fn skew_at(&mut self, at: Duration, node: NodeId, seconds: u32) {
        self.calendar.push(nanos(at), Event::Skew(node, seconds));
    }

    /// A node changes its conduct.
    pub fn behave_at(&mut self, at: Duration, node: NodeId, conduct: Conduct) {
        self.calendar.push(nanos(at), Event::Behave(node, conduct));
    }

    /// Runs until every honest node that lives is complete, or `limit`; true when all are.
    pub fn run(&mut self, limit: Duration) -> bool {
        let limit = nanos(limit);
        while self.starting > 0 || self.awaited > 0 {
            let Some((at, event)) = self.calendar.pop() else { return false };
            if at > limit {
                self.calendar.push(at, event);
                self.now = limit;
                return false;
            }
            self.now = at;
            self.events += 1;
            self.step(event);
            self.run_writers();
        }
        true
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::UplinkFree(node) => self.uplink_free(node),
            Event::Crossed(flow, size) => self.crossed(flow, size),
            Event::Arrive(flow, size) => self.arrive(flow, size, self.now),
            Event::Deliver(flow, size) => self.deliver(flow, size),
            Event::Tick(node, life) if self.lives(node, life) => self.tick(node),
            Event::Sample(node, life) if self.lives(node, life) => {
                if self.sample(node) {
                    self.calendar.push(self.now + self.sample_every, Event::Sample(node, life));
                }
            }
            Event::Announce(node, life) if self.lives(node, life) => self.announce(node),
            Event::Dialed { from, life, to } if self.lives(from, life) => self.dialed(from, to),
            Event::Tick(..) | Event::Sample(..) | Event::Announce(..) | Event::Dialed { .. } => {}
            Event::Reset(flow) => self.reset(flow),
            Event::Start(node) => self.start(node),
            Event::Stop(node, stop) => self.stop(node, stop),
            Event::Skew(node, seconds) => {
                self.nodes[node.at()].skew += u64::from(seconds) * 1_000_000_000;
            }
            Event::Behave(node, conduct) => self.behave(node, conduct),
        }
    }

    fn lives(&self, node: NodeId, life: u32) -> bool {
        let node = &self.nodes[node.at()];
        node.alive && node.life == life
    }

    /// The time as the core of a node knows it.
    pub(crate) fn moment(&self, node: NodeId) -> Duration {
        Duration::from_nanos(self.now + self.nodes[node.at()].skew)
    }

    fn start(&mut self, id: NodeId) {
        self.starting -= 1;
        let node = &mut self.nodes[id.at()];
        if std::mem::replace(&mut node.alive, true) {
            return;
        }
        node.started_at = self.now;
        node.finished_at = node.core.is_done().then_some(self.now);
        let life = node.life;
        self.refresh_awaited(id);
        // the tracker answers after a connection and a request
        let asks = self.now + 4 * nanos(self.setup.network.latency);
        self.calendar.push(asks, Event::Announce(id, life));
        self.nodes[id.at()].wakes_at = self.now;
        self.calendar.push(self.now, Event::Tick(id, life));
        if self.setup.samples {
            let phase = self.rng.u64(0..self.sample_every);
            self.calendar.push(self.now + phase, Event::Sample(id, life));
        }
    }

    /// Whether the run waits for this node has changed, perhaps.
    pub(crate) fn refresh_awaited(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.at()];
        let wait = node.alive && node.conduct == Conduct::Honest && node.finished_at.is_none();
        match (std::mem::replace(&mut node.awaited, wait), wait) {
            (false, true) => self.awaited += 1,
            (true, false) => self.awaited -= 1,
            _ => {}
        }
    }

    fn stop(&mut self, id: NodeId, stop: Stop) {
        if self.nodes[id.at()].alive {
            self.crash(id);
        }
        let again = match stop {
            Stop::Leave => {
                self.tracker.stopped(id);
                false
            }
            Stop::Crash => false,
            Stop::Resume | Stop::Restart => true,
        };
        let pieces = self.geometry.pieces();
        let resume = stop == Stop::Resume || self.nodes[id.at()].seeder;
        let have = match resume {
            true => self.nodes[id.at()].disk.stored().clone(),
            false => Bitfield::empty(pieces),
        };
        let life = self.nodes[id.at()].life + 1;
        let core = self.core(id, life, self.nodes[id.at()].seeder, have.clone());
        let node = &mut self.nodes[id.at()];
        (node.core, node.disk, node.book) = (core, Disk::new(have), Book::default());
        (node.dialing, node.by_key) = (0, Vec::new());
        (node.alive, node.first_piece_at, node.finished_at) = (false, None, None);
        node.life += 1;
        self.refresh_awaited(id);
        if again {
            self.calendar.push(self.now, Event::Start(id));
        }
    }

    fn tick(&mut self, id: NodeId) {
        let now = self.moment(id);
        let (node, flows) = (&mut self.nodes[id.at()], &self.flows);
        if self.now != node.wakes_at {
            return;
        }
        node.core.look_at_sockets(now, |key| {
            flow_of(&node.by_key, key).map_or(0, |flow| flows[flow.at()].on_its_way())
        });
        let due = self.now >= node.tick_at;
        if due {
            node.core.tick(now);
        }
        self.act(id);
        if due {
            self.misbehave(id);
            self.dial_more(id);
            let node = &mut self.nodes[id.at()];
            let wait = if node.links.is_empty() && node.dialing == 0 { IDLE_TICK } else { TICK };
            node.tick_at = self.now + wait;
        }
        self.nodes[id.at()].wakes_at = u64::MAX;
        self.look_soon(id);
    }

    /// Wakes a node at its next tick, or sooner when it wants to look at its sockets.
    pub(crate) fn look_soon(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.at()];
        let look = node.core.look_again().map_or(node.tick_at, |wait| self.now + nanos(wait));
        let wakes_at = look.min(node.tick_at);
        if wakes_at < node.wakes_at {
            node.wakes_at = wakes_at;
            self.calendar.push(wakes_at, Event::Tick(id, node.life));
        }
    }

    /// Time since the start of the simulation.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// What the swarm is made of.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.at()]
    }

    /// All nodes, the seeder first.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0..).map(NodeId).zip(&self.nodes)
    }

    /// Who banned whom, in order.
    #[must_use]
    pub fn bans(&self) -> &[(NodeId, Identity)] {
        &self.bans
    }

    /// What must never happen and did: wrong data accepted, bounds exceeded.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Events that have happened.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn fault(&mut self, node: NodeId, what: impl FnOnce() -> String) {
        // the first ones say it all
        if self.faults.len() < 20 {
            self.faults.push(format!("{:?} node {}: {}", self.now(), node.0, what()));
        }
    }
}

/// A time as nanoseconds; what is too long is as long as can be.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
