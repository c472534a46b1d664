//! What keeps a downlink from being full: looked at with every tick, for a benchmark to tell where
//! the time of a fetch went.

use std::time::Duration;

use super::Moment;
use super::torrent::Torrent;

/// What a fetch waits for, when its link could carry more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownCause {
    /// There is no connection.
    Unconnected,
    /// No peer has a piece that is lacking here.
    NothingOffered,
    /// Peers have pieces that are lacking; none of them unchokes us.
    Choked,
    /// Peers unchoke us; none of those has a piece that is lacking, others have.
    Uninteresting,
    /// An unchoking peer has pieces that are lacking, and nothing is asked for.
    NotAsked,
    /// A request has waited for longer than its peer's fastest answer: in the sender's queue.
    SenderQueue,
    /// Requests are out for no longer than answers take.
    RoundTrip,
    /// Every block that is lacking is asked for.
    EndGame,
}

impl DownCause {
    /// Every cause, in the order of a fetch.
    pub const ALL: [Self; 8] = [
        Self::Unconnected,
        Self::NothingOffered,
        Self::Choked,
        Self::Uninteresting,
        Self::NotAsked,
        Self::SenderQueue,
        Self::RoundTrip,
        Self::EndGame,
    ];

    /// Its name in tables and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unconnected => "unconnected",
            Self::NothingOffered => "nothing offered",
            Self::Choked => "choked by all that have something",
            Self::Uninteresting => "nothing interesting at unchoked",
            Self::NotAsked => "not asked",
            Self::SenderQueue => "asked: queue of the sender",
            Self::RoundTrip => "asked: round trip",
            Self::EndGame => "end-game",
        }
    }
}

/// Time under one cause, and what arrived in it: a link was idle for the time less what the bytes
/// take at its rate, which the core does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spell {
    /// Together.
    pub time: Duration,
    /// Blocks that came meanwhile, in bytes, needed or not.
    pub bytes: u64,
}

/// The time of a fetch by cause, from the first tick to completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Downlink([Spell; DownCause::ALL.len()]);

impl Downlink {
    /// Each cause and what was under it.
    pub fn spells(&self) -> impl Iterator<Item = (DownCause, Spell)> {
        DownCause::ALL.into_iter().zip(self.0)
    }

    fn add(&mut self, cause: DownCause, time: Duration, bytes: u64) {
        // the array is as long as the enum
        if let Some(spell) = self.0.get_mut(cause as usize) {
            spell.time += time;
            spell.bytes += bytes;
        }
    }
}

impl Torrent {
    /// What a fetch waits for now, if it waits.
    #[must_use]
    pub fn down_cause(&self, now: Moment) -> DownCause {
        if self.picker.is_done() {
            return DownCause::EndGame;
        }
        if self.peers.len() == 0 {
            return DownCause::Unconnected;
        }
        let (mut asked, mut queued) = (false, false);
        let (mut offered, mut unchoked, mut open) = (false, false, false);
        for peer in self.peers.values() {
            offered |= peer.useful > 0;
            unchoked |= !peer.chokes_us;
            open |= peer.can_be_asked();
            if let Some(oldest) = peer.outstanding.first() {
                asked = true;
                // one that has not answered yet is given a usual round trip
                let answer = peer.answers.shortest().unwrap_or(self.config.queue_time);
                queued |= now.saturating_sub(oldest.asked_at) > answer;
            }
        }
        match (asked, open, offered, unchoked) {
            (true, ..) if self.picker.nothing_left_to_ask() => DownCause::EndGame,
            (true, ..) if queued => DownCause::SenderQueue,
            (true, ..) => DownCause::RoundTrip,
            (_, true, ..) => DownCause::NotAsked,
            (_, _, false, _) => DownCause::NothingOffered,
            (_, _, _, true) => DownCause::Uninteresting,
            _ => DownCause::Choked,
        }
    }

    /// Where the time of the fetch went so far.
    #[must_use]
    pub fn downlink(&self) -> Downlink {
        self.downlink
    }

    /// Books the time since the last look on what is waited for now.
    pub(super) fn look_at_downlink(&mut self, now: Moment) {
        let bytes = self.totals.downloaded;
        if let Some((then, before)) = self.looked.replace((now, bytes)) {
            let cause = self.down_cause(now);
            self.downlink.add(cause, now.saturating_sub(then), bytes - before);
        }
    }
}
