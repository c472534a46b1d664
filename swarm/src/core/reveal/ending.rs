//! When hiding ends, for one peer or for all.

use std::time::Duration;

use proto::bitfield::Bitfield;

use super::Reveal;
use super::shown::Shown;
use crate::core::Moment;
use crate::core::action::PeerKey;

/// With everything shown and fetched, the uplink may idle for this long before all is shown to all.
const DRAINED_PATIENCE: Duration = Duration::from_millis(150);

/// The same while some peer has not fetched what it was shown: its slot may take a while to come.
const UNFETCHED_PATIENCE: Duration = Duration::from_secs(1);

/// A peer that gains nothing for so long, with everything shown, has no other source.
const STALLED: Duration = Duration::from_secs(2);

impl Reveal {
    /// Whether hiding has no purpose any more: everything was seen, or everything was shown and the
    /// uplink idles (`busy` says that it does not), where nobody is a source for others; or nothing moves
    /// for `patience` although somebody wants something.
    pub(crate) fn should_finish(
        &mut self,
        all_seen: bool,
        busy: bool,
        crowd: usize,
        patience: Duration,
        now: Moment,
    ) -> bool {
        if self.finished || crowd == 0 {
            return false;
        }
        // peers are left to each other, unless there are no others, or what they have is only claimed
        let others = crowd > 1 || self.has_graduates(now);
        let alone = !others || self.sent_whole < self.pieces / 2;
        if busy || !self.in_pool.is_empty() {
            self.drained_since = None;
        } else {
            self.drained_since.get_or_insert(now);
        }
        let drained = self.is_drained(now);
        // nodes of ours say so when they have their first piece from others, so it would be known by now
        let in_vain =
            drained && !self.relayed && self.has_idled(DRAINED_PATIENCE + self.round * 2, now);
        let stuck = now.saturating_sub(self.last_progress) >= patience;
        (alone && (all_seen || drained)) || in_vain || stuck
    }

    /// Peers to whom all must be shown: they have nothing more to take here, and nothing gets to them
    /// from elsewhere.
    pub(crate) fn stalled(&mut self, now: Moment) -> Vec<(PeerKey, Bitfield)> {
        let all_shown = self.in_pool.is_empty();
        let all_taken = self.peers.values().all(|shown| shown.open.is_empty());
        let nothing_here = |shown: &Shown| match all_shown {
            // in a large crowd it takes a while until the first pieces have gone around
            true => all_taken || self.is_drained(now),
            false => shown.open.is_empty(),
        };
        let patience = STALLED + self.round * 2;
        let stalled =
            |shown: &Shown| nothing_here(shown) && now.saturating_sub(shown.last_gain) >= patience;
        let keys: Vec<PeerKey> =
            self.peers.iter().filter(|(_, shown)| stalled(shown)).map(|(key, _)| *key).collect();
        let release = |key| Some((key, self.peers.remove(&key)?.pieces));
        keys.into_iter().filter_map(release).collect()
    }

    /// Whether everything is shown and the uplink idles.
    fn is_drained(&self, now: Moment) -> bool {
        let unfetched = self.peers.values().any(|shown| !shown.open.is_empty());
        self.has_idled(if unfetched { UNFETCHED_PATIENCE } else { DRAINED_PATIENCE }, now)
    }

    /// Whether the uplink has idled for so long with everything shown.
    fn has_idled(&self, time: Duration, now: Moment) -> bool {
        self.drained_since.is_some_and(|since| now.saturating_sub(since) >= time)
    }

    /// Ends hiding. Returns each peer with what was shown to it.
    pub(crate) fn finish(&mut self) -> Vec<(PeerKey, Bitfield)> {
        self.finished = true;
        self.drained_since = None;
        self.pool.clear();
        self.in_pool = Bitfield::empty(self.pieces);
        std::mem::take(&mut self.peers)
            .into_iter()
            .map(|(key, shown)| (key, shown.pieces))
            .collect()
    }
}
