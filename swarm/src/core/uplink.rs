//! What is on its way: handed to sockets, and not acknowledged by the peers' kernels yet.
//!
//! A fresh connection's socket takes a whole turn at once, however slow the link is. Turns then pass
//! on as fast as sockets take blocks, and with 200 peers at 2 Mbit/s the kernel held ten seconds'
//! worth: the order of turns meant nothing any more, packets were dropped by the hundred in the queue
//! of the link, and a hiding seeder took for lost what was still in that queue, and sent everything
//! again. So turns are given only while the link will be done soon with what is on its way.
//!
//! How much that is shows itself: while the bound is what holds turns back, it is doubled when so much
//! was acknowledged quickly; else it is what the link carries in the time allowed, at the best rate of
//! late. Receivers that hold things up lower the rate of the moment, which would hold back the more.

use std::time::Duration;

use super::Moment;
use super::action::PeerKey;
use super::rate::per_second;
use crate::sorted::SortedMap;

/// The bound at first: a few turns. Simulated crowds at 25 Mbit/s lose three hundredths while it doubles,
/// in the lab none; with 512 KiB, at 1 Mbit/s, all that the bound is there for is lost.
const FIRST: u64 = 128 * 1024;

/// The bound is never below: two turns, or one link's queue would wait for one peer.
const LEAST: u64 = 64 * 1024;

/// … nor above: a link for which this is little has no queue to speak of.
const MOST: u64 = 1 << 30;

/// A peer whose kernel acknowledges nothing for so long holds nobody up.
const STUCK: Duration = Duration::from_secs(2);

/// While turns are held back the sockets are looked at at least this often …
const LOOK: Duration = Duration::from_millis(50);

/// … and at most this often.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy)]
struct OnItsWay {
    bytes: u64,
    /// When some were acknowledged, or the first of them were sent.
    moved: Moment,
}

/// Bounds what is on its way to all peers together.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// How long the link may take for it.
    longest: Duration,
    peers: SortedMap<PeerKey, OnItsWay>,
    bound: u64,
    /// The bound held a turn back in this round.
    held_back: bool,
    /// It did so just now, and nobody was told yet.
    look_soon: bool,
    /// Bytes acknowledged since …
    acknowledged: u64,
    since: Moment,
    /// What the last round took.
    round: Duration,
    /// Bytes per second that were acknowledged in the best one of late.
    rate: Option<u64>,
}

impl Uplink {
    /// No bound when `longest` is zero.
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            longest,
            peers: SortedMap::new(),
            bound: if longest.is_zero() { MOST } else { FIRST },
            held_back: false,
            look_soon: false,
            acknowledged: 0,
            since: Moment::ZERO,
            round: Duration::ZERO,
            rate: None,
        }
    }

    /// Bytes are with a peer's socket.
    pub(crate) fn sent(&mut self, peer: PeerKey, bytes: u64, now: Moment) {
        if self.longest.is_zero() {
            return;
        }
        match self.peers.get_mut(&peer) {
            Some(way) => way.bytes += bytes,
            None => {
                self.peers.insert(peer, OnItsWay { bytes, moved: now });
            }
        }
    }

    /// A peer is gone.
    pub(crate) fn leave(&mut self, peer: PeerKey) {
        self.peers.remove(&peer);
    }

    /// Whether one more turn may be given when those given will send `promised` more bytes.
    pub(crate) fn has_room(&mut self, promised: u64, now: Moment) -> bool {
        let moves = |way: &&OnItsWay| now.saturating_sub(way.moved) < STUCK;
        let on_its_way: u64 = self.peers.values().filter(moves).map(|way| way.bytes).sum();
        let room = on_its_way + promised < self.bound;
        self.look_soon |= !room && !self.held_back;
        self.held_back |= !room;
        room
    }

    /// Whether turns have begun to wait since this was last asked. Who only looked at the sockets at the
    /// next tick left a link idle that carries the bound in less: simulated crowds of 100 at 25 Mbit/s
    /// took 1.24 instead of 1.20.
    pub(crate) fn wants_look(&mut self) -> bool {
        std::mem::take(&mut self.look_soon)
    }

    /// Looks at the sockets: `left` says how many bytes one has sent or will send that are not
    /// acknowledged.
    pub(crate) fn look(&mut self, now: Moment, left: impl Fn(PeerKey) -> u64) {
        let mut acknowledged = 0;
        self.peers.retain(|peer, way| {
            let left = left(*peer).min(way.bytes);
            if left < way.bytes {
                acknowledged += way.bytes - left;
                *way = OnItsWay { bytes: left, moved: now };
            }
            left > 0
        });
        if !self.held_back {
            // what the link could carry does not show
            (self.acknowledged, self.since) = (0, now);
            return;
        }
        self.acknowledged += acknowledged;
        if self.acknowledged < self.bound {
            return;
        }
        self.round = now.saturating_sub(self.since);
        let rate = per_second(self.acknowledged, self.round);
        // the best of late: it is less when receivers hold things up, and with a bound that followed it
        // down it would be less still
        let best = self.rate.map_or(rate, |best| rate.max(best - best / 64));
        self.rate = Some(best);
        if self.round * 2 < self.longest {
            self.bound = (self.bound * 2).min(MOST);
        } else if self.round > self.longest {
            let fits = u128::from(best) * self.longest.as_micros() / 1_000_000;
            self.bound = u64::try_from(fits).unwrap_or(MOST).clamp(LEAST, MOST);
        }
        (self.acknowledged, self.since, self.held_back) = (0, now, false);
    }

    /// Bytes per second that the link carried when it was last full, if it ever was.
    pub(crate) fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// How soon the sockets should be looked at again, if turns wait for that.
    pub(crate) fn look_again(&self) -> Option<Duration> {
        self.held_back.then(|| (self.round / 8).clamp(LOOK_AGAIN, LOOK))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A link of so many bytes in a millisecond that is always given as much as fits.
    fn bound_after(rounds: u64, per_ms: u64) -> u64 {
        let mut uplink = Uplink::new(MS(400));
        let queue = Cell::new(0_u64);
        for ms in 0..rounds {
            while uplink.has_room(0, MS(ms)) {
                uplink.sent(PeerKey(1), 16_384, MS(ms));
                queue.set(queue.get() + 16_384);
            }
            queue.set(queue.get().saturating_sub(per_ms));
            uplink.look(MS(ms + 1), |_| queue.get());
        }
        uplink.bound
    }

    #[test]
    fn the_bound_goes_by_what_the_link_carries() {
        let slow = bound_after(20_000, 125);
        assert!((64 << 10..=75_000).contains(&slow), "at least {LEAST}: {slow}");
        let usual = bound_after(5_000, 3_125);
        assert!((600_000..1_300_000).contains(&usual), "200 to 400 ms: {usual}");
        let fast = bound_after(100, 1_250_000);
        assert!(fast > 20_000_000, "found in a tenth of a second: {fast}");
    }

    #[test]
    fn the_rate_of_the_link_is_kept_while_it_idles() {
        let mut uplink = Uplink::new(MS(400));
        assert_eq!(uplink.rate(), None);
        uplink.sent(PeerKey(1), FIRST, MS(0));
        assert!(!uplink.has_room(0, MS(0)));
        uplink.look(MS(100), |_| 0);
        assert_eq!(uplink.rate(), Some(FIRST * 10));
        uplink.look(MS(60_000), |_| 0);
        assert_eq!(uplink.rate(), Some(FIRST * 10));
    }

    #[test]
    fn turns_wait_for_what_is_on_its_way_and_no_longer() {
        let mut uplink = Uplink::new(MS(400));
        assert!(uplink.has_room(FIRST - 1, MS(0)));
        assert_eq!(uplink.look_again(), None);
        uplink.sent(PeerKey(1), FIRST / 2, MS(0));
        uplink.sent(PeerKey(2), FIRST / 2, MS(0));
        assert!(!uplink.wants_look());
        assert!(!uplink.has_room(0, MS(0)) && !uplink.has_room(0, MS(0)));
        assert!(uplink.wants_look() && !uplink.wants_look(), "once");
        assert_eq!(uplink.look_again(), Some(LOOK_AGAIN));
        uplink.look(MS(100), |peer| if peer == PeerKey(1) { 10_000 } else { u64::MAX });
        assert!(uplink.has_room(0, MS(100)), "one is acknowledged");
        uplink.sent(PeerKey(1), FIRST, MS(100));
        assert!(!uplink.has_room(0, MS(1_999)));
        uplink.leave(PeerKey(1));
        uplink.sent(PeerKey(2), FIRST, MS(1_999));
        assert!(!uplink.has_room(0, MS(1_999)));
        assert!(uplink.has_room(0, MS(2_000)), "the other one is stuck");
        uplink.look(MS(2_100), |_| FIRST);
        assert!(!uplink.has_room(0, MS(2_100)), "it moves, and counts again");
    }

    #[test]
    fn without_a_bound_nothing_is_counted() {
        let mut uplink = Uplink::new(Duration::ZERO);
        uplink.sent(PeerKey(1), 1 << 40, MS(0));
        assert!(uplink.has_room(1 << 20, MS(0)));
        assert_eq!(uplink.look_again(), None);
    }
}
