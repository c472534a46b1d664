//! How a node behaves.

use proto::bitfield::Bitfield;
use proto::geometry::{Block, PieceIndex};
use swarm::core::Control;

use crate::flow::FlowId;
use crate::item::{Item, Other};
use crate::node::NodeId;
use crate::world::World;

/// A flood takes this part of the downlink of whom it hits: several of them still leave room, since
/// no engine can help against a link that is full of what others send.
const FLOOD_PART: u64 = 16;

/// Time between two floods of a connection: the engine's tick.
const TICKS_PER_SECOND: u64 = 20;

/// Conduct of a node. All but honest ones run the real core too, and bend what goes in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// As the engine does.
    Honest,
    /// Sends wrong bytes in this share of its blocks, in percent.
    Liar(u32),
    /// Unchokes, takes requests and never answers.
    Silent,
    /// Says that it has everything, unchokes everybody, and answers no request for what it lacks.
    FalseHaves,
    /// Asks for random blocks without end, whether it may or not.
    Flood,
    /// Says again and again that it has pieces.
    EndlessHaves,
    /// Sends messages that no honest peer sends: blocks and pieces that do not exist, bitfields of
    /// the wrong length, blocks nobody asked for.
    Nonsense,
}

impl Conduct {
    /// All dishonest ones.
    pub const DISHONEST: [Conduct; 7] = [
        Conduct::Liar(5),
        Conduct::Liar(100),
        Conduct::Silent,
        Conduct::FalseHaves,
        Conduct::Flood,
        Conduct::EndlessHaves,
        Conduct::Nonsense,
    ];

    /// Whether the next block it sends is wrong.
    pub(crate) fn lies(self, rng: &mut fastrand::Rng) -> bool {
        match self {
            Self::Liar(percent) => rng.u32(..100) < percent,
            _ => false,
        }
    }

    /// What it says when asked for the digests of a piece's blocks, which it `has` or not: `None` for
    /// no answer, false for one that does not help.
    pub(crate) fn tells(self, has: bool) -> Option<bool> {
        match self {
            Self::Silent | Self::FalseHaves => None,
            Self::Liar(_) => Some(false),
            _ => Some(has),
        }
    }

    /// Whether it ignores a message. `stored`: the pieces that it has.
    pub(crate) fn swallows(self, item: &Item, stored: &Bitfield) -> bool {
        match (self, item) {
            (Self::Silent, Item::Request { .. }) => true,
            (Self::FalseHaves, Item::Request { piece, .. }) => !stored.has(PieceIndex(*piece)),
            _ => false,
        }
    }
}

impl World {
    pub(crate) fn behave(&mut self, id: NodeId, conduct: Conduct) {
        let node = &mut self.nodes[id.at()];
        node.conduct = conduct;
        node.was_honest &= conduct == Conduct::Honest;
        self.refresh_awaited(id);
    }

    /// What a node does beyond its core, once in a tick.
    pub(crate) fn misbehave(&mut self, id: NodeId) {
        let conduct = self.nodes[id.at()].conduct;
        if matches!(conduct, Conduct::Honest | Conduct::Liar(_)) {
            return;
        }
        for at in 0..self.nodes[id.at()].links.len() {
            let flow = self.nodes[id.at()].links[at];
            match conduct {
                Conduct::Silent | Conduct::FalseHaves => self.post(flow, Item::Unchoke),
                Conduct::Flood => {
                    for _ in 0..self.flood(flow, 17) {
                        let item = self.any_request();
                        self.post(flow, item);
                    }
                }
                Conduct::EndlessHaves => {
                    for _ in 0..self.flood(flow, 9) {
                        let piece = self.rng.u32(..self.geometry.pieces());
                        self.post(flow, Item::Have(piece));
                    }
                }
                Conduct::Nonsense => {
                    let item = self.nonsense();
                    self.post(flow, item);
                }
                Conduct::Honest | Conduct::Liar(_) => {}
            }
        }
    }

    /// What a node says first, besides what its core says.
    pub(crate) fn greet_falsely(&mut self, flow: FlowId) {
        let from = self.flows[flow.at()].from;
        if self.nodes[from.at()].conduct == Conduct::FalseHaves {
            self.post(flow, Item::HaveAll);
            self.post(flow, Item::Unchoke);
        }
    }

    /// Messages of `size` bytes that a flood consists of.
    fn flood(&self, flow: FlowId, size: u64) -> u64 {
        let victim = self.flows[flow.at()].to;
        let rate = self.nodes[victim.at()].port.down_rate;
        rate / (FLOOD_PART * TICKS_PER_SECOND * size) + 1
    }

    fn any_request(&mut self) -> Item {
        let piece = self.rng.u32(..self.geometry.pieces());
        let number = self.rng.u32(..self.geometry.blocks_in(PieceIndex(piece)));
        Item::Request { piece, number }
    }

    fn nonsense(&mut self) -> Item {
        let pieces = self.geometry.pieces();
        let piece = PieceIndex(match self.rng.u32(..3) {
            0 => self.rng.u32(..),
            1 => pieces,
            _ => self.rng.u32(..pieces),
        });
        let begin = if self.rng.bool() { self.rng.u32(..) } else { 16_384 * self.rng.u32(..8) };
        let length = [0, 1, 16_383, 16_384, 16_385, 131_072, 131_073, u32::MAX];
        let block = Block { piece, begin, length: length[self.rng.usize(..length.len())] };
        let odd = pieces.wrapping_add(self.rng.u32(1..40));
        Item::Other(Box::new(Other::Control(match self.rng.u32(..7) {
            0 => Control::Request(block),
            1 => Control::Cancel(block),
            2 => Control::Reject(block),
            3 => Control::Have(piece),
            4 => Control::Bitfield(Bitfield::full(odd)),
            5 => Control::Bitfield(Bitfield::empty(pieces)),
            _ => {
                let length = block.length.min(200_000);
                return Item::Other(Box::new(Other::Block(Block { length, ..block })));
            }
        })))
    }
}
