//! What one peer has asked for and not been sent yet.

use std::collections::VecDeque;

use proto::geometry::{BLOCK_LEN, Block};

/// Requests in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    queue: VecDeque<Block>,
    bytes: u64,
    /// The peer asks for several adjacent blocks at once, and takes them in any number of parts. Others
    /// are sent what they asked for in one message.
    in_parts: bool,
}

impl Requests {
    pub(crate) fn set_in_parts(&mut self, in_parts: bool) {
        self.in_parts = in_parts;
    }

    pub(crate) fn in_parts(&self) -> bool {
        self.in_parts
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many there are, by the peer's own count.
    pub(crate) fn count(&self) -> u64 {
        match self.in_parts {
            true => self.bytes / u64::from(BLOCK_LEN),
            false => self.queue.len() as u64,
        }
    }

    /// Adds one, unless some of it waits already.
    pub(crate) fn push(&mut self, block: Block) {
        let end = |of: &Block| of.begin.saturating_add(of.length);
        let overlaps = |queued: &Block| {
            queued.piece == block.piece && queued.begin < end(&block) && block.begin < end(queued)
        };
        if !self.queue.iter().any(overlaps) {
            self.bytes += u64::from(block.length);
            self.queue.push_back(block);
        }
    }

    /// Takes the next one off, or its first `most` bytes where the peer takes parts.
    pub(crate) fn pop(&mut self, most: u32) -> Option<Block> {
        let first = self.queue.front_mut()?;
        let block = if self.in_parts && first.length > most {
            let part = Block { length: most, ..*first };
            (first.begin, first.length) = (first.begin + most, first.length - most);
            part
        } else {
            self.queue.pop_front()?
        };
        self.bytes = self.bytes.saturating_sub(u64::from(block.length));
        Some(block)
    }

    /// Takes some off; returns them as the peer counts them.
    pub(crate) fn remove(&mut self, which: impl Fn(&Block) -> bool) -> Vec<Block> {
        let in_parts = self.in_parts;
        let each = |block: Block| {
            let parts = in_parts.then(|| block.parts());
            parts.into_iter().flatten().chain((!in_parts).then_some(block))
        };
        let (gone, kept): (Vec<Block>, Vec<Block>) =
            self.queue.drain(..).flat_map(each).partition(which);
        self.bytes = kept.iter().map(|block| u64::from(block.length)).sum();
        self.queue.extend(kept);
        gone
    }
}

#[cfg(test)]
mod tests {
    use proto::geometry::PieceIndex;

    use super::*;

    fn run(piece: u32, begin: u32, blocks: u32) -> Block {
        Block { piece: PieceIndex(piece), begin: begin * BLOCK_LEN, length: blocks * BLOCK_LEN }
    }

    #[test]
    fn whole_for_who_expects_them_so_and_in_parts_for_others() {
        let mut whole = Requests::default();
        whole.push(run(1, 0, 8));
        whole.push(run(1, 0, 8));
        assert_eq!(whole.count(), 1);
        assert_eq!(whole.pop(BLOCK_LEN), Some(run(1, 0, 8)));
        assert!(whole.is_empty() && whole.pop(BLOCK_LEN).is_none());

        let mut parts = Requests::default();
        parts.set_in_parts(true);
        parts.push(run(1, 0, 5));
        parts.push(run(1, 4, 2));
        assert_eq!(parts.count(), 5, "some of the second waits already");
        assert_eq!(parts.pop(2 * BLOCK_LEN), Some(run(1, 0, 2)));
        parts.push(run(2, 0, 1));
        assert_eq!(parts.remove(|block| *block == run(1, 3, 1)), [run(1, 3, 1)]);
        assert_eq!(parts.count(), 3);
        let rest: Vec<Block> = std::iter::from_fn(|| parts.pop(u32::MAX)).collect();
        assert_eq!(rest, [run(1, 2, 1), run(1, 4, 1), run(2, 0, 1)]);
        assert_eq!(parts.count(), 0);
    }
}
