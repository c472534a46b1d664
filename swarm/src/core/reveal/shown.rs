//! What one peer was shown, and how fast it is.

use std::collections::BinaryHeap;
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::PieceIndex;

use crate::core::Moment;
use crate::core::action::PeerKey;
use crate::sorted::SortedMap;

/// Pieces that the median peer must have got, from anybody, before any peer is called slow.
const PIECES_TO_JUDGE: u64 = 16;

/// A peer is not judged before: it tells what it has once a second.
const TIME_TO_JUDGE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) piece: PieceIndex,
    pub(super) shown_at: Moment,
    pub(super) sent: u32,
}

#[derive(Debug)]
pub(super) struct Shown {
    pub(super) pieces: Bitfield,
    pub(super) open: Vec<Open>,
    /// Times in a row that it had a slot and asked for nothing.
    pub(super) idle_turns: u32,
    pub(super) joined: Moment,
    pub(super) last_gain: Moment,
    /// Pieces that it said it has.
    pub(super) gained: u32,
    /// It gains pieces less than half as fast as the median peer. What only it has is as slow to
    /// spread, so it is shown one piece at a time, and none when few are left.
    pub(super) slow: bool,
}

impl Shown {
    pub(super) fn new(pieces: u32, joined: Moment) -> Self {
        let pieces = Bitfield::empty(pieces);
        Self {
            pieces,
            open: Vec::new(),
            idle_turns: 0,
            joined,
            last_gain: joined,
            gained: 0,
            slow: false,
        }
    }

    /// Pieces in a million seconds.
    fn speed(&self, now: Moment) -> u64 {
        let millis = u64::try_from(now.saturating_sub(self.joined).as_millis()).unwrap_or(u64::MAX);
        u64::from(self.gained) * 1_000_000_000 / millis.max(1)
    }
}

/// Finds out who is slow: who has little and gains little. Newcomers have little, and who was
/// there first can only gain what is new.
pub(super) fn judge(peers: &mut SortedMap<PeerKey, Shown>, now: Moment) {
    let median = |of: &dyn Fn(&Shown) -> u64| {
        let mut larger: BinaryHeap<u64> = peers.values().map(of).collect();
        let middle = larger.len() / 2;
        while larger.len() > middle + 1 {
            larger.pop();
        }
        larger.pop().filter(|_| middle > 0).unwrap_or(0)
    };
    let usual_gain = median(&|shown| u64::from(shown.gained));
    let usual_speed = median(&|shown| shown.speed(now));
    for shown in peers.values_mut() {
        shown.slow = usual_gain >= PIECES_TO_JUDGE
            && now.saturating_sub(shown.joined) >= TIME_TO_JUDGE
            && u64::from(shown.gained) * 2 < usual_gain
            && shown.speed(now) * 2 < usual_speed;
    }
}
