//! How pieces spread: when the first, second, fourth, … node has a piece, and where each copy waited.
//!
//! A sample of pieces is followed, in three groups by when they left the seeder, since a crowd that has
//! nothing yet, one that has half and one that lacks the last pieces lose time in different ways.

use std::collections::HashMap;

use proto::geometry::{Block, PieceIndex};
use serde::Serialize;

use crate::flow::FlowId;
use crate::node::NodeId;
use crate::report::real;

/// Copies followed at most: they take memory.
const COPIES: u32 = 100_000;

/// Pieces followed at most.
const PIECES: u32 = 64;

const NEVER: u64 = u64::MAX;

/// What happened to one node's copy of a piece, times in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Copy {
    from: NodeId,
    heard: u64,
    asked: u64,
    taken: u64,
    arrived: u64,
    complete: u64,
}

impl Copy {
    const NONE: Self = Self {
        from: NodeId(u32::MAX),
        heard: NEVER,
        asked: NEVER,
        taken: NEVER,
        arrived: NEVER,
        complete: NEVER,
    };
}

/// Where a copy waited, mean milliseconds over the copies that did not come from the seeder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Hop {
    /// The sender has the piece; its Have is not here yet.
    pub have: f64,
    /// Its Have is here; nobody was asked for the piece.
    pub ask: f64,
    /// It was asked; the first block is not with its socket.
    pub queue: f64,
    /// The first block is with its socket, and not here.
    pub transfer: f64,
    /// The first block is here, the last one is not.
    pub rest: f64,
}

/// How the pieces of one third spread.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Spread {
    /// Pieces followed.
    pub pieces: usize,
    /// Milliseconds from the first block's leaving the seeder until 1, 2, 4, … nodes and then all have
    /// the piece, mean over the pieces.
    pub reached: Vec<(u32, f64)>,
    /// Where the copies waited.
    pub hop: Hop,
}

/// The pieces that are followed, and their copies.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    nodes: u32,
    /// Every so many pieces one is followed; 0: none.
    stride: u32,
    copies: Vec<Copy>,
    heard: HashMap<(u32, u32), u64>,
}

impl Trace {
    /// Follows pieces of a swarm of `nodes`, the seeder included; none when there are no nodes.
    pub(crate) fn new(nodes: u32, pieces: u32) -> Self {
        if nodes == 0 {
            return Self::default();
        }
        let most = (COPIES / nodes.max(1)).clamp(3, PIECES);
        let stride = pieces.div_ceil(most).max(1);
        let followed = pieces.div_ceil(stride);
        let copies = vec![Copy::NONE; (followed * nodes) as usize];
        Self { nodes, stride, copies, heard: HashMap::new() }
    }

    fn row(&self, piece: PieceIndex) -> Option<u32> {
        (self.stride > 0 && piece.0.is_multiple_of(self.stride)).then(|| piece.0 / self.stride)
    }

    fn copy(&mut self, node: NodeId, piece: PieceIndex) -> Option<&mut Copy> {
        let row = self.row(piece)?;
        self.copies.get_mut((row * self.nodes + node.0) as usize)
    }

    /// A Have arrived over `flow`'s connection, whose owner hears it.
    pub(crate) fn heard(&mut self, flow: FlowId, piece: PieceIndex, now: u64) {
        if self.row(piece).is_some() {
            self.heard.entry((flow.0, piece.0)).or_insert(now);
        }
    }

    /// `node` asks `from` over its `flow`.
    pub(crate) fn asked(
        &mut self,
        node: NodeId,
        from: NodeId,
        flow: FlowId,
        block: Block,
        now: u64,
    ) {
        let Some(row) = self.row(block.piece) else { return };
        let heard = self.heard.get(&(flow.0, block.piece.0)).copied().unwrap_or(NEVER);
        let copy = &mut self.copies[(row * self.nodes + node.0) as usize];
        // asked again, elsewhere: what counts is who delivers
        if copy.taken == NEVER && (copy.asked == NEVER || copy.from != from) {
            (copy.from, copy.heard, copy.asked) = (from, heard, now);
        }
    }

    /// A block for `node` is with the socket of `from`.
    pub(crate) fn taken(&mut self, node: NodeId, from: NodeId, piece: PieceIndex, now: u64) {
        if let Some(copy) = self.copy(node, piece)
            && copy.from == from
        {
            copy.taken = copy.taken.min(now);
        }
    }

    /// A block arrived at `node`.
    pub(crate) fn arrived(&mut self, node: NodeId, piece: PieceIndex, now: u64) {
        if let Some(copy) = self.copy(node, piece) {
            copy.arrived = copy.arrived.min(now);
        }
    }

    /// `node` has the piece.
    pub(crate) fn complete(&mut self, node: NodeId, piece: PieceIndex, now: u64) {
        if let Some(copy) = self.copy(node, piece) {
            copy.complete = copy.complete.min(now);
        }
    }

    /// How the followed pieces spread: those that left the seeder first, then, last.
    pub(crate) fn spreads(&self) -> Vec<Spread> {
        if self.stride == 0 {
            return Vec::new();
        }
        let rows = self.copies.chunks(self.nodes as usize);
        let left = |row: &[Copy]| {
            row.iter().filter(|c| c.from == NodeId(0)).map(|c| c.taken).min().unwrap_or(NEVER)
        };
        let mut rows: Vec<(u64, &[Copy])> = rows.map(|row| (left(row), row)).collect();
        rows.retain(|(left, _)| *left != NEVER);
        rows.sort_by_key(|(left, _)| *left);
        let tenth = (rows.len() / 10).max(1).min(rows.len());
        let (first, rest) = rows.split_at(tenth);
        let (middle, last) = rest.split_at(rest.len().saturating_sub(tenth));
        [first, middle, last].into_iter().filter(|rows| !rows.is_empty()).map(spread).collect()
    }
}

fn millis(from: u64, to: u64) -> f64 {
    real(to.saturating_sub(from)) / 1e6
}

fn spread(rows: &[(u64, &[Copy])]) -> Spread {
    let mut reached: Vec<(u32, f64, u32)> = Vec::new();
    let (mut hop, mut copies) = (Hop::default(), 0u32);
    for (left, row) in rows {
        let mut done: Vec<u64> = row.iter().map(|c| c.complete).filter(|at| *at != NEVER).collect();
        done.sort_unstable();
        let all = u32::try_from(done.len()).unwrap_or(u32::MAX);
        let steps = (0..32).map(|n| 1u32 << n).take_while(|n| *n < all).chain([all]);
        for (at, (count, when)) in
            steps.filter_map(|n| Some((n, *done.get(n.checked_sub(1)? as usize)?))).enumerate()
        {
            match reached.get_mut(at) {
                Some(entry) => {
                    *entry = (entry.0.max(count), entry.1 + millis(*left, when), entry.2 + 1);
                }
                None => reached.push((count, millis(*left, when), 1)),
            }
        }
        for copy in row.iter().filter(|c| c.complete != NEVER && c.taken != NEVER) {
            let Some(sender) = row.get(copy.from.at()).filter(|_| copy.from != NodeId(0)) else {
                continue;
            };
            let had = sender.complete.min(copy.asked);
            // it may have told it in its bitfield
            let heard = if copy.heard == NEVER { had } else { copy.heard.clamp(had, copy.asked) };
            copies += 1;
            hop.have += millis(had, heard);
            hop.ask += millis(heard, copy.asked);
            hop.queue += millis(copy.asked, copy.taken);
            hop.transfer += millis(copy.taken, copy.arrived);
            hop.rest += millis(copy.arrived, copy.complete);
        }
    }
    let each = f64::from(copies.max(1));
    for part in [&mut hop.have, &mut hop.ask, &mut hop.queue, &mut hop.transfer, &mut hop.rest] {
        *part /= each;
    }
    let reached = reached.into_iter().map(|(n, sum, of)| (n, sum / f64::from(of))).collect();
    Spread { pieces: rows.len(), reached, hop }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// The seeder gives piece 0 to node 1, which gives it to node 2.
    #[test]
    fn splits_a_hop_into_its_waits() {
        let mut trace = Trace::new(3, 1);
        let piece = PieceIndex(0);
        let block = Block { piece, begin: 0, length: 16_384 };
        let hops = [(1, 0, FlowId(1), 0), (2, 1, FlowId(3), 100 * MS)];
        for (node, from, flow, start) in hops {
            let (node, from) = (NodeId(node), NodeId(from));
            trace.heard(flow, piece, start + 5 * MS);
            trace.asked(node, from, flow, block, start + 12 * MS);
            trace.taken(node, from, piece, start + 42 * MS);
            trace.arrived(node, piece, start + 53 * MS);
            trace.complete(node, piece, start + 100 * MS);
        }
        let spreads = trace.spreads();
        assert_eq!(spreads.len(), 1);
        assert_eq!(spreads[0].reached, [(1, 58.0), (2, 158.0)]);
        let expected = Hop { have: 5.0, ask: 7.0, queue: 30.0, transfer: 11.0, rest: 47.0 };
        assert_eq!(spreads[0].hop, expected, "the seeder's copy does not count");
    }

    #[test]
    fn another_sender_takes_over_until_the_first_block_is_taken() {
        let mut trace = Trace::new(4, 1);
        let piece = PieceIndex(0);
        let block = Block { piece, begin: 0, length: 16_384 };
        trace.asked(NodeId(1), NodeId(2), FlowId(1), block, 1);
        trace.taken(NodeId(1), NodeId(3), piece, 2);
        trace.asked(NodeId(1), NodeId(3), FlowId(5), block, 3);
        trace.taken(NodeId(1), NodeId(3), piece, 4);
        trace.asked(NodeId(1), NodeId(2), FlowId(1), block, 5);
        let copy = trace.copies[1];
        assert_eq!((copy.from, copy.asked, copy.taken), (NodeId(3), 3, 4));
    }
}
