//! State of one connection, as the core sees it.

use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::{BLOCK_LEN, Block, PieceIndex};
use proto::hash::PeerRole;

use super::Moment;
use super::action::Identity;
use super::config::CoreConfig;
use super::rate::{Rate, time_for, time_worth};
use super::requests::Requests;
use crate::sorted::SortedSet;

/// A request on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outstanding {
    pub(crate) block: Block,
    pub(crate) asked_at: Moment,
    /// Given to others as well, since the peer was silent for too long.
    pub(crate) lapsed: bool,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    pub(crate) fast: bool,
    /// In our subnet.
    pub(crate) near: bool,
    /// It can be asked for hashes (BEP 52).
    pub(crate) v2: bool,
    pub(crate) has: Bitfield,
    /// Whether its first message came, after which bitfield and have-all are not allowed.
    pub(crate) opened: bool,
    pub(crate) upload_only: bool,
    /// We choke it.
    pub(crate) choked: bool,
    /// It wants something of ours.
    pub(crate) interested: bool,
    /// It chokes us.
    pub(crate) chokes_us: bool,
    /// We told it that we want something.
    pub(crate) told_interest: bool,
    /// Since when it has nothing that we want.
    pub(crate) useless_since: Option<Moment>,
    /// Its pieces that we want.
    pub(crate) useful: u32,
    pub(crate) outstanding: Vec<Outstanding>,
    /// Their bytes, kept in step by `ask`, `settle` and `forget_asked`: looked at for every block.
    outstanding_bytes: u64,
    pub(crate) refused: SortedSet<PieceIndex>,
    /// Its limit on our requests.
    pub(crate) reqq: u32,
    pub(crate) down: Rate,
    pub(crate) up: Rate,
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    /// Last block, or first request after none were outstanding.
    pub(crate) quiet_since: Moment,
    pub(crate) snubbed: bool,
    /// What it takes to answer.
    pub(crate) answers: Answers,
    pub(crate) unsolicited: u32,
    /// Requests taken back whose blocks may still be on the way.
    pub(crate) cancelled: u32,
    /// Blocks taken off the queue and not yet with the socket.
    pub(crate) sending: u32,
    pub(crate) uploads: Requests,
    /// Position in the log of our pieces up to which it was told.
    pub(crate) told: usize,
    pub(crate) have_due: Option<Moment>,
    /// It has heard of a piece that came from somebody else.
    pub(crate) knows_of_others: bool,
    /// Pieces of which it sent us at least one block: it is told that we have them in any case.
    pub(crate) gave: SortedSet<PieceIndex>,
    /// Hidden pieces: it was shown some of ours only.
    pub(crate) hidden: bool,
}

/// How soon a peer should hear what we got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HaveWish {
    /// With the next data, or after a while.
    Soon,
    /// It shows more when it hears of what it showed before (BEP 16).
    AtOnce,
    /// A seeder of ours that hides pieces: it goes by what it sent, and the packets of a thousand
    /// nodes, each acknowledged, would take a tenth of its uplink.
    Rarely,
}

/// The shortest time from a request to its block, in the last two spans of some seconds. The
/// shortest, because the others include the turns of other peers: a link with a long delay, and a
/// client that answers in pulses, need a deep window to be fast, and a busy peer must not have one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answers {
    before: Option<Duration>,
    lately: Option<Duration>,
    since: Moment,
}

impl Answers {
    const SPAN: Duration = Duration::from_secs(4);

    pub(crate) fn note(&mut self, took: Duration, now: Moment) {
        if now.saturating_sub(self.since) >= Self::SPAN {
            (self.before, self.lately, self.since) = (self.lately, None, now);
        }
        self.lately = Some(self.lately.map_or(took, |least| least.min(took)));
    }

    /// `None` before the first answer.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.before.into_iter().chain(self.lately).min()
    }
}

impl Peer {
    pub(crate) fn new(identity: Identity, fast: bool, pieces: u32, now: Moment, reqq: u32) -> Self {
        Self {
            identity,
            fast,
            near: true,
            v2: false,
            has: Bitfield::empty(pieces),
            opened: false,
            upload_only: false,
            choked: true,
            interested: false,
            chokes_us: true,
            told_interest: false,
            useless_since: None,
            useful: 0,
            outstanding: Vec::new(),
            outstanding_bytes: 0,
            refused: SortedSet::new(),
            reqq,
            down: Rate::default(),
            up: Rate::default(),
            downloaded: 0,
            uploaded: 0,
            quiet_since: now,
            snubbed: false,
            answers: Answers::default(),
            unsolicited: 0,
            cancelled: 0,
            sending: 0,
            uploads: Requests::default(),
            told: 0,
            have_due: None,
            knows_of_others: false,
            gave: SortedSet::new(),
            hidden: false,
        }
    }

    /// Bytes asked for and expected.
    pub(crate) fn outstanding_bytes(&self) -> u64 {
        self.outstanding_bytes
    }

    /// Books a request.
    pub(crate) fn ask(&mut self, request: Outstanding) {
        self.outstanding_bytes += u64::from(request.block.length);
        self.outstanding.push(request);
    }

    /// Whether a request for the block, given up or not, is out already. If so it counts again.
    pub(crate) fn asked_again(&mut self, block: Block) -> bool {
        let request = self.outstanding.iter_mut().find(|request| request.block == block);
        request.map(|request| request.lapsed = false).is_some()
    }

    /// Forgets all requests, and returns them.
    pub(crate) fn forget_asked(&mut self) -> Vec<Outstanding> {
        self.outstanding_bytes = 0;
        std::mem::take(&mut self.outstanding)
    }

    /// Whether it has something we want and lets us ask for it.
    pub(crate) fn can_be_asked(&self) -> bool {
        !self.chokes_us && self.useful > 0
    }

    /// Bytes that may be asked for now: what it delivers in the time in which it can answer and a
    /// fraction of a second more, so that the rest can still be asked for elsewhere.
    /// `sources` peers can be asked, for `least` bytes each at least.
    pub(crate) fn room(&self, config: &CoreConfig, sources: usize, least: u32, now: Moment) -> u64 {
        if self.snubbed {
            return 0;
        }
        let time = config.queue_time + self.answers.shortest().unwrap_or_default();
        let at_rate = time_worth(self.down.per_second(now), time);
        let share = u64::from(config.total_window) / (sources.max(1) as u64);
        let window = at_rate.max(share).max(u64::from(least)).min(u64::from(config.max_window));
        // asked for when half of it is there: two requests in one packet cost what one costs
        let outstanding = self.outstanding_bytes();
        if outstanding * 2 > window {
            return 0;
        }
        let free =
            self.reqq.saturating_sub(u32::try_from(self.outstanding.len()).unwrap_or(u32::MAX));
        window.saturating_sub(outstanding).min(u64::from(free) * u64::from(BLOCK_LEN))
    }

    /// How long it may be silent with requests outstanding. Derived from what it delivered and from
    /// what all peers deliver together, never a constant: on a slow link a full window takes long.
    pub(crate) fn patience(&self, config: &CoreConfig, total: (u64, u64), now: Moment) -> Duration {
        let (all_outstanding, all_rate) = total;
        let longest = Duration::from_secs(60);
        let own = match self.down.per_second(now) {
            0 => Duration::ZERO,
            rate => time_for(self.outstanding_bytes(), rate),
        };
        let shared = match all_rate {
            // nothing came from anybody yet: nothing is known about the link
            0 => Duration::from_secs(5),
            rate => time_for(all_outstanding, rate),
        };
        (config.min_patience + own.max(shared).min(longest) * 3).min(longest)
    }

    /// Takes an outstanding request off the list.
    pub(crate) fn settle(&mut self, block: Block) -> Option<Outstanding> {
        let at = self.outstanding.iter().position(|o| o.block == block)?;
        let request = self.outstanding.remove(at);
        self.outstanding_bytes -= u64::from(request.block.length);
        Some(request)
    }

    /// Whether it hides what it has (BEP 16): only uploads, and does not seem complete.
    pub(crate) fn hides(&self) -> bool {
        self.upload_only && !self.is_complete()
    }

    /// How soon it should hear what we got.
    pub(crate) fn wants_haves(&self) -> HaveWish {
        match (self.hides(), self.is_ours()) {
            (false, _) => HaveWish::Soon,
            (true, false) => HaveWish::AtOnce,
            (true, true) => HaveWish::Rarely,
        }
    }

    /// Whether our interest is another than we told, or began or ended without being noted.
    pub(crate) fn has_news_of_interest(&self) -> bool {
        let wanted = self.useful > 0;
        self.told_interest != wanted || self.useless_since.is_some() == wanted
    }

    /// Whether it is this engine at the other end.
    pub(crate) fn is_ours(&self) -> bool {
        self.identity.id.role() != PeerRole::Foreign
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.has.is_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hash::PeerId;
    use std::net::Ipv4Addr;

    fn peer() -> Peer {
        let identity = Identity { ip: Ipv4Addr::LOCALHOST.into(), id: PeerId([1; 20]) };
        Peer::new(identity, true, 100, Duration::ZERO, 250)
    }

    fn ask(peer: &mut Peer, blocks: u32) {
        for n in 0..blocks {
            let block = Block { piece: PieceIndex(n), begin: 0, length: BLOCK_LEN };
            peer.ask(Outstanding { block, asked_at: Duration::ZERO, lapsed: false });
        }
    }

    #[test]
    fn window_follows_rate_and_the_peers_limit() {
        let config = CoreConfig::default();
        let mut peer = peer();
        assert_eq!(
            peer.room(&config, 100, config.min_window, Duration::ZERO),
            u64::from(config.min_window)
        );
        assert_eq!(
            peer.room(&config, 4, config.min_window, Duration::ZERO),
            u64::from(config.total_window / 4)
        );
        for tick in 0..100 {
            peer.down.add(Duration::from_millis(tick * 20), 40_000);
        }
        let now = Duration::from_secs(2);
        let fast = peer.room(&config, 100, config.min_window, now);
        assert!((180_000..220_000).contains(&fast), "{fast}");
        peer.reqq = 3;
        ask(&mut peer, 2);
        assert_eq!(peer.room(&config, 100, config.min_window, now), u64::from(BLOCK_LEN));
    }

    #[test]
    fn a_whole_piece_is_asked_for_while_little_is() {
        let config = CoreConfig::default();
        let (block, piece) = (config.min_window, 2 * config.min_window);
        assert_eq!(config.least_window(piece, 0), piece);
        assert_eq!(config.least_window(piece, u64::from(config.total_window)), block);
        assert_eq!(config.least_window(1 << 20, 0), config.quantum, "never more than a turn");
    }

    #[test]
    fn a_piece_that_nobody_else_is_shown_is_asked_for_whole() {
        let config = CoreConfig::default();
        let peer = peer();
        let room = |piece| peer.room(&config, 1000, config.window_shown(piece), Duration::ZERO);
        assert_eq!(room(1 << 18), 1 << 18);
        assert_eq!(room(1 << 30), u64::from(config.max_window).min(250 * u64::from(BLOCK_LEN)));
    }

    #[test]
    fn who_is_far_behind_asks_for_more_at_each() {
        let config = CoreConfig::default();
        let blocks = |useful| config.window_behind(useful, 3_000_000) / config.min_window;
        assert_eq!([0, 1 << 20, 2 << 20, 4 << 20, 1 << 40].map(blocks), [1, 1, 2, 3, 4]);
        let faster = |useful| config.window_behind(useful, 12_500_000) / config.min_window;
        assert_eq!([0, 1 << 20, 2 << 20, 4 << 20, 1 << 40].map(faster), [1, 1, 6, 11, 16]);
    }

    #[test]
    fn a_peer_that_answers_late_gets_a_deep_window() {
        // answers come every 500 ms, all that was asked for until then
        let config = CoreConfig::default();
        let mut peer = peer();
        let mut window = u64::from(config.min_window);
        for pulse in 0..60 {
            let now = Duration::from_millis(500 * pulse);
            peer.answers.note(Duration::from_millis(500), now);
            peer.down.add(now, window);
            window = peer.room(&config, 100, config.min_window, now);
        }
        assert!(window >= 1024 * 1024, "{window}");
        // one fast answer says that the rest was waiting only
        peer.answers.note(Duration::from_millis(1), Duration::from_secs(30));
        assert!(peer.room(&config, 100, config.min_window, Duration::from_secs(30)) < window / 4);
    }

    #[test]
    fn patience_grows_on_slow_links() {
        let config = CoreConfig::default();
        let mut peer = peer();
        ask(&mut peer, 4);
        // 2.5 Mbit/s shared by 20 peers with 64 KiB each outstanding: 4.2 s of queue
        let slow = peer.patience(&config, (20 * 65_536, 312_500), Duration::ZERO);
        assert!(slow > Duration::from_secs(15), "{slow:?}");
        let fast = peer.patience(&config, (20 * 65_536, 125_000_000), Duration::ZERO);
        assert!(fast < Duration::from_millis(3_100), "{fast:?}");
    }
}
