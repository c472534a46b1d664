//! One torrent on the network: what its tasks share, its timers and its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::event::Sources;
use proto::geometry::PieceIndex;
use proto::metainfo::Metainfo;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handshake::Hello;
use super::hashing::Disk;
use super::session::SessionShared;
use super::stall::View;
use super::state::State;
use super::{announce, dial, pex, tasks, webseed};
use crate::config::{InitialHave, TorrentSpec, Verify};
use crate::core::{self, CoreConfig, Moment, PeerKey};
use crate::log;
use crate::progress::{Completed, Phase, Progress, TorrentError};

/// How often timers of the core run while peers are connected, and otherwise.
const TICK: Duration = Duration::from_millis(50);
const IDLE_TICK: Duration = Duration::from_millis(250);

/// How often progress is published.
const PUBLISH: Duration = Duration::from_millis(250);

/// What the tasks of a torrent share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) session: Arc<SessionShared>,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Wakes the announcers when the fetch completes.
    pub(crate) completed_wake: Notify,
    /// Wakes the announcers when a tracker begins or ceases to answer.
    pub(crate) tier_wake: Notify,
    /// Wakes the timer task: there may be somebody to dial.
    pub(crate) ticker: Notify,
    pub(crate) finished: CancellationToken,
    state: Mutex<State>,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) completed: watch::Sender<Option<Completed>>,
    pub(crate) failure: watch::Sender<Option<TorrentError>>,
    web_seeds: bool,
    initial_seeding: bool,
}

impl Shared {
    pub(crate) fn new(session: Arc<SessionShared>, spec: &TorrentSpec) -> Arc<Self> {
        let geometry = spec.metainfo.info.geometry;
        let doubtful = spec.have == InitialHave::Everything { verify: Verify::OnFirstRead };
        let trackers = spec.trackers.clone().unwrap_or_else(|| spec.metainfo.trackers.clone());
        let progress = Progress {
            pieces_total: geometry.pieces(),
            bytes_total: geometry.total(),
            ..Progress::default()
        };
        let (metainfo, storage) = (spec.metainfo.clone(), spec.storage.clone());
        Arc::new(Self {
            cancel: session.cancel.child_token(),
            session,
            metainfo: spec.metainfo.clone(),
            disk: Arc::new(Disk::new(metainfo, storage, doubtful, spec.sha256)),
            trackers,
            tasks: TaskTracker::new(),
            completed_wake: Notify::new(),
            tier_wake: Notify::new(),
            ticker: Notify::new(),
            finished: CancellationToken::new(),
            state: Mutex::new(State::new(geometry)),
            progress: watch::Sender::new(progress),
            completed: watch::Sender::new(None),
            failure: watch::Sender::new(None),
            web_seeds: spec.web_seeds,
            initial_seeding: spec.initial_seeding,
        })
    }

    /// What handshakes say.
    pub(crate) fn hello(&self) -> Hello {
        let v2 = self.metainfo.info_hash_v2.map(|hash| hash.truncated());
        Hello { info_hash: self.metainfo.info_hash, v2, peer_id: self.session.peer_id }
    }

    /// The state; never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Moment {
        self.session.started.elapsed()
    }

    /// Whether a piece is here and verified.
    pub(crate) fn has(&self, piece: PieceIndex) -> bool {
        self.lock().core.as_ref().is_some_and(|core| core.have().has(piece))
    }

    pub(crate) fn is_done(&self) -> bool {
        self.lock().core.as_ref().is_some_and(core::Torrent::is_done)
    }

    /// Most of the connections that the dialer aims at: others that want some find us.
    pub(crate) fn enough_peers(&self) -> usize {
        let target = self.session.config.target_peers;
        target - target / 4
    }

    pub(crate) fn has_enough_peers(&self) -> bool {
        self.lock().links.len() >= self.enough_peers()
    }

    /// Bytes of a set of pieces.
    pub(crate) fn bytes_of(&self, have: &Bitfield) -> u64 {
        let geometry = &self.metainfo.info.geometry;
        let last = PieceIndex(geometry.pieces() - 1);
        let whole = u64::from(have.count()) * u64::from(geometry.piece_length());
        let short = u64::from(geometry.piece_length() - geometry.piece_size(last));
        if have.has(last) { whole - short } else { whole }
    }

    /// The torrent cannot go on.
    pub(crate) fn fail(&self, error: TorrentError) {
        let first = self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| error.clone());
            first
        });
        // being stopped is no failure
        if first && !matches!(error, TorrentError::Stopped) {
            log::error!(info_hash = %self.metainfo.info_hash, error = %error.text(), "torrent failed");
            self.progress.send_modify(|p| p.phase = Phase::Failed(error.text()));
        }
        self.cancel.cancel();
    }

    pub(super) fn on_completed(&self) {
        let now = self.now();
        let (totals, downlink, started) = {
            let state = self.lock();
            let Some(core) = &state.core else { return };
            (core.totals(), core.downlink(), state.started)
        };
        let completed = Completed {
            bytes: self.metainfo.info.geometry.total(),
            elapsed: now.saturating_sub(started),
            sources: sources(&totals),
            hash_failures: totals.hash_failures,
            downlink,
        };
        log::info!(info_hash = %self.metainfo.info_hash, bytes = completed.bytes,
            elapsed_ms = completed.elapsed.as_millis(), "image complete");
        self.publish();
        self.completed.send_replace(Some(completed));
        self.completed_wake.notify_waiters();
    }

    /// A connection ended.
    pub(crate) fn unlink(self: &Arc<Self>, key: PeerKey) {
        let now = self.now();
        let mut state = self.lock();
        let Some(link) = state.links.remove(&key) else { return };
        let view = state.core.as_ref().and_then(|core| core.peer(key, now));
        let useful = view.is_some_and(|v| v.downloaded + v.uploaded > 0)
            || now.saturating_sub(link.since) > Duration::from_secs(10);
        let complete = view.is_some_and(|v| v.complete);
        state.book.closed(key, useful, complete, now);
        if link.closing == Some(core::CloseReason::Banned) {
            state.book.forget(link.address);
        }
        if let Some(core) = &mut state.core {
            core.disconnected(now, key);
        }
        let todo = state.drain();
        drop(state);
        log::debug!(peer = %link.address, reason = ?link.closing, "peer gone");
        self.carry_out(todo);
        self.ticker.notify_one();
    }

    /// Hashes what is there, then runs until cancelled.
    pub(crate) async fn run(self: Arc<Self>, have: InitialHave) {
        tokio::select! {
            have = self.initial(have) => self.begin(have),
            () = self.cancel.cancelled() => {}
        }
        if !self.cancel.is_cancelled() {
            self.session.lsd_wake.notify_one();
            announce::start(&self);
            if self.web_seeds && !self.metainfo.web_seeds.is_empty() {
                tasks::spawn(&self.tasks, webseed::run(self.clone()));
            }
            tokio::select! {
                () = self.keep_time() => {}
                () = self.cancel.cancelled() => {}
            }
        }
        self.fail(TorrentError::Stopped);
        self.tasks.close();
        let grace = self.session.config.stop_timeout * 5 / 4;
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            log::warn!(info_hash = %self.metainfo.info_hash, "some tasks did not end in time");
        }
        self.session.remove(self.metainfo.info_hash);
        self.finished.cancel();
    }

    async fn initial(&self, have: InitialHave) -> Bitfield {
        let pieces = self.metainfo.info.geometry.pieces();
        match have {
            InitialHave::Nothing => Bitfield::empty(pieces),
            InitialHave::Everything { .. } => Bitfield::full(pieces),
            InitialHave::Check => {
                let mut found = Bitfield::empty(pieces);
                let mut seen = 0u32;
                self.disk
                    .check_all(|piece, good| {
                        seen += 1;
                        if good {
                            found.insert(piece);
                        }
                        if seen.is_multiple_of(16) {
                            let (count, bytes) = (found.count(), self.bytes_of(&found));
                            self.progress.send_modify(|p| {
                                (p.pieces_have, p.bytes_verified) = (count, bytes);
                            });
                        }
                    })
                    .await;
                log::info!(info_hash = %self.metainfo.info_hash, pieces = found.count(), of = pieces, "checked what was there");
                found
            }
        }
    }

    fn begin(&self, have: Bitfield) {
        let tree = self.metainfo.info.tree();
        let config = CoreConfig {
            initial_seeding: self.initial_seeding,
            ask_hashes: tree.is_some_and(|tree| tree.blocks_of(PieceIndex(0)).is_some()),
            ..self.session.config.core.clone()
        };
        let mut core =
            core::Torrent::new(config, self.metainfo.info.geometry, have, fastrand::u64(..));
        core.set_id(self.session.peer_id);
        let now = self.now();
        let done = core.is_done();
        {
            let mut state = self.lock();
            state.core = Some(core);
            state.started = now;
            state.trouble.last_data = now;
        }
        self.publish();
        if done {
            self.completed.send_replace(Some(Completed {
                bytes: self.metainfo.info.geometry.total(),
                elapsed: Duration::ZERO,
                sources: Sources::default(),
                hash_failures: 0,
                downlink: core::Downlink::default(),
            }));
        }
    }

    /// Timers: the core's, the dialer's, dead connections, progress.
    async fn keep_time(self: &Arc<Self>) {
        let mut publish_at = Moment::ZERO;
        let mut sweep_at = Moment::ZERO;
        loop {
            let now = self.now();
            let busy = {
                let mut state = self.lock();
                state.look_at_sockets(now);
                if let Some(core) = &mut state.core {
                    core.tick(now);
                }
                let todo = state.drain();
                let busy = !state.links.is_empty() || state.book.dialing() > 0;
                drop(state);
                self.carry_out(todo);
                self.hurry();
                busy
            };
            dial::dial_more(self);
            if now >= sweep_at {
                self.sweep(now);
                sweep_at = now + Duration::from_secs(1);
            }
            if now >= publish_at {
                self.publish();
                publish_at = now + PUBLISH;
            }
            if busy {
                self.wait_until(now + TICK).await;
            } else {
                // an announce that brings peers ends the wait
                let _ = tokio::time::timeout(IDLE_TICK, self.ticker.notified()).await;
            }
        }
    }

    /// Waits for the next tick. While turns wait for the sockets, those are looked at more often.
    async fn wait_until(self: &Arc<Self>, tick: Moment) {
        loop {
            let again = self.lock().core.as_ref().and_then(core::Torrent::look_again);
            let left = tick.saturating_sub(self.now());
            let Some(wait) = again.filter(|wait| *wait < left) else {
                tokio::select! {
                    () = tokio::time::sleep(left) => return,
                    // turns have begun to wait
                    () = self.ticker.notified() => continue,
                }
            };
            tokio::time::sleep(wait).await;
            let todo = {
                let mut state = self.lock();
                state.look_at_sockets(self.now());
                state.drain()
            };
            self.carry_out(todo);
        }
    }

    /// Closes connections from which nothing was heard for too long; tells peers of each other.
    fn sweep(&self, now: Moment) {
        let timeout = self.session.config.peer_timeout;
        let mut state = self.lock();
        for link in state.links.values_mut() {
            if now.saturating_sub(link.heard) >= timeout {
                link.closing.get_or_insert(core::CloseReason::Silent);
                link.cancel.cancel();
            }
        }
        pex::exchange(&mut state, now);
    }

    fn publish(&self) {
        let now = self.now();
        let mut state = self.lock();
        let Some(core) = &state.core else { return };
        let totals = core.totals();
        let (down_rate, up_rate) = core.rates(now);
        let done = core.is_done();
        let views = state.links.keys().filter_map(|key| core.peer(*key, now));
        let useful = views.filter(|v| v.useful > 0).count();
        let verified = self.bytes_of(core.have());
        let pieces_have = core.have().count();
        // not by the rate: what came last is spread over all the silence since, and never quite nothing
        if totals.downloaded > state.trouble.downloaded && totals.hash_failures == 0 {
            state.trouble.last_data = now;
        }
        state.trouble.downloaded = totals.downloaded;
        let (known, connected) = (state.book.len(), state.links.len());
        let view = View { known, connected, useful, hash_failures: totals.hash_failures };
        let stall = if done { None } else { state.trouble.stall(now, view) };
        let crowd = state.tiers.crowd;
        drop(state);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let fresh = Progress {
            phase: if done { Phase::Seeding } else { Phase::Fetching },
            pieces_have,
            pieces_total: self.metainfo.info.geometry.pieces(),
            bytes_verified: verified,
            bytes_total: self.metainfo.info.geometry.total(),
            sources: sources(&totals),
            bytes_uploaded: totals.uploaded,
            bytes_wasted: totals.wasted,
            hash_failures: totals.hash_failures,
            peers_connected: count(connected),
            peers_known: count(known),
            crowd,
            down_rate,
            up_rate,
            stall,
        };
        self.progress.send_if_modified(|progress| {
            if matches!(progress.phase, Phase::Failed(_)) || *progress == fresh {
                return false;
            }
            *progress = fresh;
            true
        });
    }
}

fn sources(totals: &core::Totals) -> Sources {
    Sources { admin: totals.from_admin, peers: totals.from_peers, web: totals.from_web }
}
