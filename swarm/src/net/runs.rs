//! Adjacent blocks that travel together, between peers that both say `bee_run` (BEP 10 handshake).
//!
//! The core asks for, serves and counts blocks of 16 KiB. On a fast link a message for each of them, there
//! and back, costs as much as what is in it: requests for adjacent blocks become one request, and adjacent
//! blocks of one turn one piece message. Blocks are taken apart again on arrival; requests wait as they came
//! (`core::requests`) and are told apart when they are sent or refused.

use std::iter::Peekable;

use proto::geometry::{BLOCK_LEN, Block};
use proto::wire::MAX_REQUEST_LEN;

use crate::core::Control;

/// Longest run that we take: no longer request is one. Longer ones would be a longer wait in a receiver's buffer,
/// and more of it.
pub(super) const LONGEST: u32 = MAX_REQUEST_LEN;

/// What may be sent to a peer with such a handshake.
pub(super) fn agreed(theirs: Option<u32>) -> u32 {
    theirs.unwrap_or(0).clamp(BLOCK_LEN, LONGEST)
}

/// Blocks in order, adjacent ones as one of up to `longest` bytes.
pub(super) fn of_blocks(blocks: &[Block], longest: u32) -> impl Iterator<Item = Block> {
    let mut rest = blocks.iter().copied().peekable();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        Some(grown(first, &mut rest, longest, |block| Some(*block)))
    })
}

/// Messages in order, requests for adjacent blocks as one for up to `longest` bytes.
pub(super) fn of_requests(
    messages: impl Iterator<Item = Control>,
    longest: u32,
) -> impl Iterator<Item = Control> {
    let mut rest = messages.peekable();
    std::iter::from_fn(move || match rest.next()? {
        Control::Request(first) => {
            let block = |message: &Control| match message {
                Control::Request(block) => Some(*block),
                _ => None,
            };
            Some(Control::Request(grown(first, &mut rest, longest, block)))
        }
        other => Some(other),
    })
}

/// A run with what follows it in `rest`, as far as that are adjacent blocks.
fn grown<T>(
    first: Block,
    rest: &mut Peekable<impl Iterator<Item = T>>,
    longest: u32,
    block: impl Fn(&T) -> Option<Block>,
) -> Block {
    let mut run = first;
    while let Some(joined) = rest.peek().and_then(&block).and_then(|next| run.joined(next, longest))
    {
        run = joined;
        rest.next();
    }
    run
}

#[cfg(test)]
mod tests {
    use proto::geometry::PieceIndex;

    use super::*;

    fn block(piece: u32, number: u32, length: u32) -> Block {
        Block { piece: PieceIndex(piece), begin: number * BLOCK_LEN, length }
    }

    fn full(piece: u32, number: u32) -> Block {
        block(piece, number, BLOCK_LEN)
    }

    #[test]
    fn adjacent_blocks_are_one_and_come_apart_again() {
        let blocks = [
            full(1, 0),
            full(1, 1),
            full(1, 2), // one run
            full(1, 4), // a gap
            full(2, 5),
            full(2, 6),
            block(2, 7, 100), // the last one of the content
            full(2, 2),
            full(2, 1), // not in order
        ];
        let runs: Vec<Block> = of_blocks(&blocks, LONGEST).collect();
        let lengths: Vec<u32> = runs.iter().map(|run| run.length).collect();
        assert_eq!(lengths, [3 * BLOCK_LEN, BLOCK_LEN, 2 * BLOCK_LEN + 100, BLOCK_LEN, BLOCK_LEN]);
        assert_eq!(runs.iter().flat_map(|run| run.parts()).collect::<Vec<_>>(), blocks);
        for longest in [BLOCK_LEN, 2 * BLOCK_LEN, 3 * BLOCK_LEN - 1] {
            let runs = of_blocks(&blocks, longest);
            let apart: Vec<Block> =
                runs.inspect(|run| assert!(run.length <= longest)).flat_map(Block::parts).collect();
            assert_eq!(apart, blocks);
        }
    }

    #[test]
    fn other_messages_stay_where_they_are() {
        let messages = [
            Control::Request(full(1, 0)),
            Control::Request(full(1, 1)),
            Control::Have(PieceIndex(9)),
            Control::Request(full(1, 2)),
            Control::Interested,
        ];
        let out: Vec<Control> = of_requests(messages.clone().into_iter(), LONGEST).collect();
        let both = Control::Request(block(1, 0, 2 * BLOCK_LEN));
        let wanted = [&[both], &messages[2..]].concat();
        assert_eq!(out, wanted);
        assert_eq!(
            of_requests(messages.clone().into_iter(), BLOCK_LEN).collect::<Vec<_>>(),
            messages
        );
    }

    #[test]
    fn who_says_nothing_gets_blocks() {
        assert_eq!(agreed(None), BLOCK_LEN);
        assert_eq!(agreed(Some(1)), BLOCK_LEN);
        assert_eq!(agreed(Some(u32::MAX)), LONGEST);
        assert_eq!(agreed(Some(65_536)), 65_536);
    }
}
