//! A swarm in memory: the real core behind links with a rate and a latency, under a simulated clock.
//!
//! Each node has an uplink and a downlink that carry one batch after the other. A batch is what a
//! writer would hand to its socket at once: the messages that wait and some blocks. Nothing reads a
//! real clock and all randomness comes from one seed, so a run repeats exactly.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::{Block, Geometry, PieceIndex};
use proto::hash::{PeerId, PeerRole};
use swarm::core::{Action, Control, CoreConfig, Identity, PeerKey, PeerSetup, Receipt, Torrent};

/// Bytes of headers per message and the share that TCP/IP adds to payload.
const MESSAGE: u64 = 17;
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    Honest,
    /// Sends wrong bytes in this share of its blocks (percent).
    Liar(u32),
    /// Takes requests and never answers.
    Silent,
}

pub(crate) struct Node {
    pub(crate) core: Torrent,
    pub(crate) conduct: Conduct,
    pub(crate) finished_at: Option<Duration>,
    pub(crate) sent: u64,
    pub(crate) alive: bool,
    up_rate: u64,
    down_rate: u64,
    up_free: Duration,
    down_free: Duration,
    links: BTreeMap<PeerKey, Link>,
    /// Wrong blocks in the buffer of a piece, and in kept evidence.
    wrong: BTreeMap<PieceIndex, BTreeSet<u32>>,
    failed: BTreeMap<PieceIndex, BTreeSet<u32>>,
    evidence: BTreeMap<PieceIndex, BTreeSet<u32>>,
    pub(crate) stored_wrong: bool,
}

struct Link {
    other: NodeId,
    other_key: PeerKey,
    out: VecDeque<Control>,
    writing: bool,
    /// Arrival of what was sent last: a connection keeps its order.
    arrived: Duration,
}

enum Event {
    Tick(NodeId),
    Arrive(NodeId, PeerKey, Vec<Item>),
    Written(NodeId, PeerKey, Vec<Block>),
    Start(NodeId),
    Leave(NodeId),
}

enum Item {
    Message(Control),
    Block(Block, bool),
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Duration,
    geometry: Geometry,
    latency: Duration,
    rng: fastrand::Rng,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    next: u64,
    next_key: u32,
    degree: usize,
    /// Nodes that will start later.
    starting: usize,
    config: CoreConfig,
    pub(crate) bans: Vec<Identity>,
}

pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) leechers: usize,
    pub(crate) total: u64,
    pub(crate) piece: u64,
    /// Bytes per second of every link.
    pub(crate) rate: u64,
    pub(crate) degree: usize,
    pub(crate) initial_seeding: bool,
    pub(crate) config: CoreConfig,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let geometry = Geometry::new(setup.total, setup.piece).unwrap();
        let mut world = Self {
            nodes: Vec::new(),
            now: Duration::ZERO,
            geometry,
            latency: Duration::from_micros(300),
            rng: fastrand::Rng::with_seed(setup.seed),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next: 0,
            next_key: 0,
            degree: setup.degree,
            starting: 0,
            config: setup.config.clone(),
            bans: Vec::new(),
        };
        let config = CoreConfig { initial_seeding: setup.initial_seeding, ..setup.config };
        world.add(config, Bitfield::full(geometry.pieces()), setup.rate);
        for _ in 0..setup.leechers {
            let config = world.config.clone();
            world.add(config, Bitfield::empty(geometry.pieces()), setup.rate);
        }
        world
    }

    pub(crate) fn add(&mut self, config: CoreConfig, have: Bitfield, rate: u64) -> NodeId {
        let id = NodeId(self.nodes.len());
        let finished_at = have.is_full().then_some(Duration::ZERO);
        self.nodes.push(Node {
            core: Torrent::new(config, self.geometry, have, self.rng.u64(..)),
            conduct: Conduct::Honest,
            finished_at,
            sent: 0,
            alive: false,
            up_rate: rate,
            down_rate: rate,
            up_free: Duration::ZERO,
            down_free: Duration::ZERO,
            links: BTreeMap::new(),
            wrong: BTreeMap::new(),
            failed: BTreeMap::new(),
            evidence: BTreeMap::new(),
            stored_wrong: false,
        });
        id
    }

    pub(crate) fn start_at(&mut self, at: Duration, node: NodeId) {
        self.starting += 1;
        self.push(at, Event::Start(node));
    }

    pub(crate) fn leave_at(&mut self, at: Duration, node: NodeId) {
        self.push(at, Event::Leave(node));
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.queue.push(Reverse((at, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    pub(crate) fn identity(node: NodeId) -> Identity {
        let number = u32::try_from(node.0).unwrap();
        let mut random = [0; 12];
        random[..4].copy_from_slice(&number.to_be_bytes().map(|b| b % 32));
        random[4] = u8::try_from(number / 32 % 32).unwrap();
        let role = if node.0 == 0 { PeerRole::Admin } else { PeerRole::Node };
        Identity {
            ip: IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + number)),
            id: PeerId::new(role, random),
        }
    }

    pub(crate) fn connect(&mut self, a: NodeId, b: NodeId) {
        if a == b || self.nodes[a.0].links.values().any(|link| link.other == b) {
            return;
        }
        let (identity_a, identity_b) = (Self::identity(a), Self::identity(b));
        if self.nodes[a.0].core.is_banned(&identity_b)
            || self.nodes[b.0].core.is_banned(&identity_a)
        {
            return;
        }
        let (key_a, key_b) = (PeerKey(self.next_key), PeerKey(self.next_key + 1));
        self.next_key += 2;
        let link = |other, other_key| Link {
            other,
            other_key,
            out: VecDeque::new(),
            writing: false,
            arrived: Duration::ZERO,
        };
        self.nodes[a.0].links.insert(key_a, link(b, key_b));
        self.nodes[b.0].links.insert(key_b, link(a, key_a));
        let now = self.now;
        self.nodes[a.0].core.connected(now, key_a, PeerSetup { identity: identity_b, fast: true });
        self.nodes[b.0].core.connected(now, key_b, PeerSetup { identity: identity_a, fast: true });
        let done = [a, b].map(|n| self.nodes[n.0].core.is_done());
        self.nodes[a.0].core.extension(key_a, None, done[1]);
        self.nodes[b.0].core.extension(key_b, None, done[0]);
        self.act(a);
        self.act(b);
    }

    fn disconnect(&mut self, a: NodeId, key: PeerKey) {
        let Some(link) = self.nodes[a.0].links.remove(&key) else { return };
        let now = self.now;
        self.nodes[a.0].core.disconnected(now, key);
        let b = link.other;
        if self.nodes[b.0].links.remove(&link.other_key).is_some() {
            self.nodes[b.0].core.disconnected(now, link.other_key);
            self.act(b);
        }
        self.act(a);
    }

    /// Runs until every honest, living node is complete, or `limit`; true when all are.
    pub(crate) fn run(&mut self, limit: Duration) -> bool {
        while let Some(Reverse((at, id))) = self.queue.peek().copied() {
            if at > limit {
                return false;
            }
            self.queue.pop();
            self.now = at;
            let Some(event) = self.events.remove(&id) else { continue };
            self.step(event);
            if self.is_over() {
                return true;
            }
        }
        false
    }

    fn is_over(&self) -> bool {
        let waits = |n: &&Node| n.conduct == Conduct::Honest && n.alive && n.finished_at.is_none();
        self.starting == 0 && !self.nodes.iter().any(|n| waits(&n))
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Start(node) => {
                self.nodes[node.0].alive = true;
                self.starting -= 1;
                self.top_up(node);
                self.push(self.now, Event::Tick(node));
            }
            Event::Leave(node) => {
                self.nodes[node.0].alive = false;
                let keys: Vec<PeerKey> = self.nodes[node.0].links.keys().copied().collect();
                for key in keys {
                    self.disconnect(node, key);
                }
            }
            Event::Tick(node) => {
                if self.nodes[node.0].alive {
                    let now = self.now;
                    self.nodes[node.0].core.tick(now);
                    self.act(node);
                    if self.nodes[node.0].finished_at.is_none() && self.rng.u32(..20) == 0 {
                        self.top_up(node);
                    }
                    self.push(self.now + TICK, Event::Tick(node));
                }
            }
            Event::Written(node, key, blocks) => {
                let now = self.now;
                if let Some(link) = self.nodes[node.0].links.get_mut(&key) {
                    link.writing = false;
                    for block in blocks {
                        self.nodes[node.0].core.uploaded(now, key, block);
                    }
                    self.act(node);
                    self.write(node, key);
                }
            }
            Event::Arrive(node, key, items) => {
                for item in items {
                    if !self.nodes[node.0].links.contains_key(&key) {
                        return;
                    }
                    self.receive(node, key, item);
                }
                self.act(node);
            }
        }
    }

    /// Dials random living peers until there are enough; the seeder is always among them.
    fn top_up(&mut self, node: NodeId) {
        if self.nodes[0].alive && self.nodes[0].finished_at.is_some() {
            self.connect(node, NodeId(0));
        }
        let mut others: Vec<NodeId> = (0..self.nodes.len())
            .map(NodeId)
            .filter(|n| self.nodes[n.0].alive && *n != node)
            .collect();
        self.rng.shuffle(&mut others);
        for other in others {
            if self.nodes[node.0].links.len() >= self.degree {
                break;
            }
            if self.nodes[other.0].links.len() < 2 * self.degree {
                self.connect(node, other);
            }
        }
    }

    fn receive(&mut self, id: NodeId, key: PeerKey, item: Item) {
        let now = self.now;
        let node = &mut self.nodes[id.0];
        match item {
            Item::Message(message) => {
                if node.conduct == Conduct::Silent && matches!(message, Control::Request(_)) {
                    return;
                }
                node.core.message(now, key, message).expect("honest messages");
            }
            Item::Block(block, wrong) => {
                if node.core.block(now, key, block).expect("honest blocks") == Receipt::Keep {
                    let number = block.begin / proto::geometry::BLOCK_LEN;
                    let set = node.wrong.entry(block.piece).or_default();
                    if wrong {
                        set.insert(number)
                    } else {
                        set.remove(&number)
                    };
                }
            }
        }
    }

    fn act(&mut self, id: NodeId) {
        let now = self.now;
        let mut writers = BTreeSet::new();
        while let Some(action) = self.nodes[id.0].core.poll() {
            let node = &mut self.nodes[id.0];
            match action {
                Action::Send(key, message) => {
                    if let Some(link) = node.links.get_mut(&key) {
                        link.out.push_back(message);
                        writers.insert(key);
                    }
                }
                Action::Serve(key) => drop(writers.insert(key)),
                Action::Verify(piece) => {
                    let wrong = node.wrong.remove(&piece).unwrap_or_default();
                    let good = wrong.is_empty();
                    node.core.checked(now, piece, good);
                    if good {
                        if let Some(then) = node.evidence.remove(&piece) {
                            node.core.compared(piece, &then.into_iter().collect::<Vec<_>>());
                        }
                        node.stored_wrong |= !wrong.is_empty();
                    } else {
                        node.failed.insert(piece, wrong);
                    }
                }
                Action::Discard(piece) => drop(node.wrong.remove(&piece)),
                Action::KeepEvidence(piece) => {
                    let wrong = node.failed.remove(&piece).expect("after the failure");
                    node.evidence.insert(piece, wrong);
                }
                Action::Disconnect(key, _) => self.disconnect(id, key),
                Action::Ban(identity) => self.bans.push(identity),
                Action::Completed => node.finished_at = Some(now),
            }
        }
        for key in writers {
            self.write(id, key);
        }
    }

    /// What a writer task does: everything that waits, and up to 64 KiB of blocks.
    fn write(&mut self, id: NodeId, key: PeerKey) {
        let node = &mut self.nodes[id.0];
        let Some(link) = node.links.get(&key) else { return };
        if link.writing {
            return;
        }
        let mut blocks = Vec::new();
        let mut bytes = 0;
        while bytes < 64 * 1024 {
            let Some(block) = node.core.next_upload(key) else { break };
            bytes += u64::from(block.length) + MESSAGE;
            blocks.push(block);
        }
        self.act(id);
        let node = &mut self.nodes[id.0];
        let Some(link) = node.links.get_mut(&key) else { return };
        let mut items: Vec<Item> = link.out.drain(..).map(Item::Message).collect();
        bytes += items.len() as u64 * MESSAGE;
        for block in &blocks {
            let wrong = match node.conduct {
                Conduct::Liar(percent) => self.rng.u32(..100) < percent,
                _ => false,
            };
            items.push(Item::Block(*block, wrong));
            node.sent += u64::from(block.length);
        }
        if items.is_empty() {
            return;
        }
        link.writing = true;
        let (other, other_key) = (link.other, link.other_key);
        let before = link.arrived;
        let (sent, arrived) = if blocks.is_empty() {
            // the kernel takes turns between sockets in small parts: a short message passes the
            // blocks that others wait to send
            (self.now, self.now + self.latency)
        } else {
            let sent = node.up_free.max(self.now)
                + Duration::from_nanos(bytes * 1_000_000_000 / node.up_rate);
            node.up_free = sent;
            let receiver = &mut self.nodes[other.0];
            // the receiving link works while the sending one does: only a queue there adds time
            let takes = Duration::from_nanos(bytes * 1_000_000_000 / receiver.down_rate);
            let arrived = (receiver.down_free + takes).max(sent + self.latency);
            receiver.down_free = arrived;
            (sent, arrived)
        };
        let arrived = arrived.max(before);
        if let Some(link) = self.nodes[id.0].links.get_mut(&key) {
            link.arrived = arrived;
        }
        self.push(sent, Event::Written(id, key, blocks));
        self.push(arrived, Event::Arrive(other, other_key, items));
    }

    /// Time of the last honest node ÷ time the image takes on one link.
    pub(crate) fn ratio(&self) -> f64 {
        let last = self.nodes.iter().filter_map(|n| n.finished_at).max().unwrap();
        last.as_secs_f64() * self.nodes[0].up_rate as f64 / self.geometry.total() as f64
    }

    /// Images that left a node.
    pub(crate) fn images_sent(&self, node: NodeId) -> f64 {
        self.nodes[node.0].sent as f64 / self.geometry.total() as f64
    }
}
