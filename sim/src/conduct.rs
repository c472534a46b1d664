//! How a node behaves.

use crate::flow::FlowId;
use crate::item::Item;
use crate::node::NodeId;
use crate::world::World;

/// Conduct of a node. All but honest ones run the real core too, and bend what goes in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// As the engine does.
    Honest,
    /// Sends wrong bytes in this share of its blocks, in percent.
    Liar(u32),
    /// Unchokes, takes requests and never answers.
    Silent,
}

impl Conduct {
    /// Whether the next block it sends is wrong.
    pub(crate) fn lies(self, rng: &mut fastrand::Rng) -> bool {
        match self {
            Self::Liar(percent) => rng.u32(..100) < percent,
            _ => false,
        }
    }

    /// Whether it ignores a message.
    pub(crate) fn swallows(self, item: &Item) -> bool {
        self == Self::Silent && matches!(item, Item::Request { .. })
    }
}

impl World {
    pub(crate) fn behave(&mut self, id: NodeId, conduct: Conduct) {
        self.nodes[id.at()].conduct = conduct;
        self.refresh_awaited(id);
    }

    pub(crate) fn misbehave(&mut self, _id: NodeId) {}

    pub(crate) fn greet_falsely(&mut self, _flow: FlowId) {}
}
