//! The numbers of the policies, each with where it comes from.

use std::time::Duration;

/// So much fits into the pipe that blocks are sent with, their headers beside them.
const LONGEST_TURN: u64 = 256 * 1024;

/// For each so many bytes that a peer has and we do not, one block more may be asked for there, …
const BEHIND: u64 = 1536 * 1024;

/// … up to so many.
const MOST_BEHIND: u64 = 4;

/// … where so many bytes come in a second. On a faster link a block is over sooner, and those beyond the
/// first are as many more.
const BEHIND_AT: u64 = 2_500_000;

/// Policy settings of one torrent.
///
/// The defaults are the best measured ones of a prototype: 30 peers behind shaped links, see
/// `docs/` of the project for the method.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Unchoked peers: their requests wait here, so that the uplink always has something to send.
    /// 4 lose a quarter. As many as there are connections in a crowd of 30: slots never pass on there,
    /// and with 16 the last node was one with fewer connections than others, unchoked by fewer. With 128
    /// pieces and 60 nodes 32 cost a sixth, and a quarter of an image from the seeder.
    pub upload_slots: usize,
    /// Unchoked peers while nothing is here; one more for every second piece, up to `upload_slots` and a
    /// 48th of all pieces.
    /// With 8 crowds of 300 and more started a little sooner, but slow nodes held up the others.
    pub first_slots: usize,
    /// Of these, the ones that are sent blocks at a time. Simulated with 30 nodes: with 1 or 2 full
    /// receivers hold the uplink back (1.35 and 1.21 against 1.15); 8 is worse from 100 nodes on.
    pub served_at_once: usize,
    /// Of those that are sent blocks, the ones that have hardly any piece. As `first_slots`: with 2 the
    /// others of a crowd with slow nodes took 1.6 instead of 1.2.
    pub beginners_at_once: usize,
    /// Bytes a slot serves before it passes on, when somebody waits, and of a turn; at least one piece.
    /// 64 KiB cost crowds of 100, 300 and 1,000 nodes 0.02, 0.04 and 0.06 with pieces of 16 KiB; 16 KiB
    /// gain nothing more, and cost packets.
    pub quantum: u32,
    /// How long the uplink may take for what sockets have and peers' kernels have not acknowledged;
    /// turns wait meanwhile. Zero: no bound. It holds what waits in front of the receivers' links, too:
    /// simulated, 60 nodes at 2.5 Mbit/s took 2.0 with 400 ms, 1.8 with 600.
    pub longest_queue: Duration,
    /// A slot without a request for this long is taken away. Scaled up with the observed delay
    /// between unchoke and request: 30 ms took slots before the request could arrive.
    pub idle: Duration,
    /// Haves wait at most this long for outgoing data to ride on; 20 to 400 ms make no difference.
    /// Longer below 25 Mbit/s: the same for each piece.
    pub have_batch: Duration,
    /// That we want nothing of a peer is told to ours when it has lasted this long. Simulated with
    /// 30 and 300 nodes: saves a fifth and a third of the writes without blocks, and costs nothing and
    /// a hundredth; 200 ms cost three hundredths. Longer below 25 Mbit/s, as `have_batch`.
    pub interest_lasts: Duration,
    /// Haves of pieces that fewer neighbours than this have do not wait, …
    pub rare_below: u32,
    /// … until so many pieces are here: what a crowd lags behind at its start it never makes up. For
    /// the whole fetch it doubles the writes without blocks, and gives another hundredth.
    pub rare_until: u32,
    /// Smallest request window per peer, in bytes. Small, so that no piece is tied to a busy peer
    /// while another could give it sooner: simulated, 64 KiB each cost a tenth, more cost more.
    pub min_window: u32,
    /// Bytes to keep requested at all peers together; each has its share, at least `min_window`. A
    /// node with few peers asks each for more: otherwise what a node gets went by its connections.
    pub total_window: u32,
    /// Largest request window per peer, in bytes.
    pub max_window: u32,
    /// Time worth of data to keep requested at the observed rate of a peer.
    pub queue_time: Duration,
    /// Most requests outstanding at a peer, and most it may have outstanding here (BEP 10 `reqq`).
    pub reqq: u32,
    /// Pieces picked at random before rarest-first starts.
    pub random_first: u32,
    /// Most bytes of pieces in progress.
    pub max_partial_bytes: u64,
    /// Most requests at one peer for blocks that another was asked for too (end-game).
    pub end_game_requests: usize,
    /// Shortest silence after which the requests of a peer are given to others as well.
    pub min_patience: Duration,
    /// Silence with requests outstanding after which the connection is closed, at least.
    pub give_up: Duration,
    /// Hide pieces and give each out once until it is seen elsewhere (after BEP 16), when complete.
    pub initial_seeding: bool,
    /// Ask peers for the digests of a wrong piece's blocks (BEP 52): a piece has several, and not too many
    /// for one question.
    pub ask_hashes: bool,
    /// Pieces shown to a peer and not yet fetched by it, while seeding initially.
    pub open_reveals: usize,
}

impl CoreConfig {
    /// Bytes of one turn when the uplink sends so many in a second: what it sends in a millisecond,
    /// between [`Self::quantum`] and [`LONGEST_TURN`]. On a fast link each turn is a push into the
    /// socket, and little is lost to those who wait.
    pub(crate) fn turn(&self, per_second: u64) -> u64 {
        u64::from(self.quantum).max((per_second / 1000).min(LONGEST_TURN))
    }

    /// Smallest window of a peer that shows each piece to one node alone: the piece, since nobody else will
    /// bring any of it, and all wait for it. Asked for block by block it waits for the seeder's round after
    /// each: simulated, 1,000 nodes and pieces of 64 KiB, 1.7 s until the first node had one.
    pub(crate) fn window_shown(&self, piece: u32) -> u32 {
        piece.min(self.max_window)
    }

    /// Smallest window of a peer, in bytes, with `outstanding` bytes asked for in all: a piece, or a
    /// turn's worth of it, while little is asked for, so that a piece need not wait block by block.
    pub(crate) fn least_window(&self, piece: u32, outstanding: u64) -> u32 {
        let piece = piece.min(self.quantum);
        let fits = outstanding + u64::from(piece) <= u64::from(self.total_window);
        if fits { self.min_window.max(piece) } else { self.min_window }
    }

    /// Smallest window at a peer that has so many bytes which are wanted: a node that fell behind has
    /// enough to choose from, so that what it asks for at one peer is not missed at others. Its answers
    /// take longer than those of others when its uplink is full, and nothing else lets it catch up:
    /// simulated, 1,000 nodes and 64 MB, the last one took 1.22, with this 1.17. `per_second` bytes come in
    /// now: with as many blocks as at 25 Mbit/s the last of 300 nodes took 1.19 at 100 Mbit/s, with this 1.17.
    pub(crate) fn window_behind(&self, useful: u64, per_second: u64) -> u32 {
        let scale = (per_second / BEHIND_AT).max(1);
        let more = (useful / BEHIND).min(MOST_BEHIND - 1) * scale;
        self.min_window.saturating_mul(u32::try_from(1 + more).unwrap_or(1))
    }
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            upload_slots: 32,
            first_slots: 16,
            served_at_once: 4,
            beginners_at_once: 4,
            quantum: 32 * 1024,
            longest_queue: Duration::from_millis(500),
            idle: Duration::from_millis(250),
            have_batch: Duration::from_millis(250),
            interest_lasts: Duration::from_millis(100),
            rare_below: 4,
            rare_until: 64,
            min_window: 16 * 1024,
            total_window: 256 * 1024,
            max_window: 4 * 1024 * 1024,
            queue_time: Duration::from_millis(100),
            reqq: 250,
            random_first: 4,
            max_partial_bytes: 32 * 1024 * 1024,
            end_game_requests: 2,
            min_patience: Duration::from_secs(3),
            give_up: Duration::from_secs(60),
            initial_seeding: false,
            ask_hashes: false,
            open_reveals: 4,
        }
    }
}
