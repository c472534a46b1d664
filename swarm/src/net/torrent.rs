//! One torrent on the network: its tasks and the handle on them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::event::Sources;
use proto::geometry::PieceIndex;
use proto::hash::InfoHash;
use proto::metainfo::Metainfo;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hashing::Disk;
use super::session::SessionShared;
use super::stall::View;
use super::state::{State, Todo};
use super::{announce, dial, webseed};
use crate::config::{InitialHave, TorrentSpec, Verify};
use crate::core::{self, CoreConfig, Moment, PeerKey, Priority};
use crate::progress::{Completed, PeerStat, Phase, Progress, TorrentError};

/// How often timers of the core run while peers are connected, and otherwise.
const TICK: Duration = Duration::from_millis(50);
const IDLE_TICK: Duration = Duration::from_millis(250);

/// How often progress is published.
const PUBLISH: Duration = Duration::from_millis(250);

/// A running torrent; clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct Torrent {
    shared: Arc<Shared>,
}

/// What the tasks of a torrent share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) session: Arc<SessionShared>,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Wakes the announcer when the fetch completes.
    pub(crate) completed_wake: Notify,
    /// Wakes the timer task: there may be somebody to dial.
    pub(crate) ticker: Notify,
    finished: CancellationToken,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    completed: watch::Sender<Option<Completed>>,
    failure: watch::Sender<Option<TorrentError>>,
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
        Arc::new(Self {
            cancel: session.cancel.child_token(),
            session,
            metainfo: spec.metainfo.clone(),
            disk: Arc::new(Disk::new(spec.metainfo.clone(), spec.storage.clone(), doubtful)),
            trackers,
            tasks: TaskTracker::new(),
            completed_wake: Notify::new(),
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

    /// The state; never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Moment {
        self.session.started.elapsed()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.lock().core.as_ref().is_some_and(core::Torrent::is_done)
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
        if first {
            if !matches!(error, TorrentError::Stopped) {
                tracing::error!(info_hash = %self.metainfo.info_hash, error = %error.text(), "torrent failed");
            }
            self.progress.send_modify(|p| p.phase = Phase::Failed(error.text()));
        }
        self.cancel.cancel();
    }

    /// Hashes and stores complete pieces, here or on a thread for blocking work.
    pub(crate) fn carry_out(self: &Arc<Self>, todo: Todo) {
        let mut pending = vec![todo];
        while let Some(todo) = pending.pop() {
            if todo.completed {
                self.on_completed();
            }
            for (piece, data) in todo.verify {
                if self.disk.is_quick() {
                    let good = self.disk.check_and_write(piece, &data);
                    pending.push(self.checked(piece, good, &data));
                } else {
                    let shared = self.clone();
                    self.tasks.spawn(async move {
                        let disk = shared.disk.clone();
                        let job = move || (disk.check_and_write(piece, &data), data);
                        if let Some((good, data)) = shared.disk.blocking(job).await {
                            let todo = shared.checked(piece, good, &data);
                            shared.carry_out(todo);
                        }
                    });
                }
            }
        }
    }

    fn checked(&self, piece: PieceIndex, good: Result<bool, TorrentError>, data: &[u8]) -> Todo {
        match good {
            Ok(good) => {
                if !good {
                    tracing::warn!(piece = piece.0, "piece failed its hash");
                }
                let now = self.now();
                let mut state = self.lock();
                if good {
                    state.trouble.last_data = now;
                }
                state.checked(now, piece, good, data)
            }
            Err(error) => {
                self.fail(error);
                Todo::default()
            }
        }
    }

    /// A whole piece from a web seed: hashed and stored. `None` when peers were faster.
    pub(crate) async fn web_piece(
        self: &Arc<Self>,
        piece: PieceIndex,
        data: Vec<u8>,
    ) -> Option<bool> {
        let now = self.now();
        let needed = {
            let mut state = self.lock();
            let needed = state.core.as_mut().is_some_and(|core| core.web_done(now, piece));
            let todo = state.drain();
            drop(state);
            self.carry_out(todo);
            needed
        };
        if !needed {
            return None;
        }
        let disk = self.disk.clone();
        let job = move || (disk.check_and_write(piece, &data), data);
        let (result, data) = self.disk.blocking(job).await?;
        let good = matches!(result, Ok(true));
        let todo = self.checked(piece, result, &data);
        self.carry_out(todo);
        Some(good)
    }

    fn on_completed(&self) {
        let now = self.now();
        let (totals, started) = {
            let state = self.lock();
            let Some(core) = &state.core else { return };
            (core.totals(), state.started)
        };
        let completed = Completed {
            bytes: self.metainfo.info.geometry.total(),
            elapsed: now.saturating_sub(started),
            sources: sources(&totals),
            hash_failures: totals.hash_failures,
        };
        tracing::info!(info_hash = %self.metainfo.info_hash, bytes = completed.bytes,
            elapsed_ms = completed.elapsed.as_millis(), "image complete");
        self.publish();
        self.completed.send_replace(Some(completed));
        self.completed_wake.notify_one();
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
        tracing::debug!(peer = %link.address, reason = ?link.closing, "peer gone");
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
            self.tasks.spawn(announce::run(self.clone()));
            if self.web_seeds && !self.metainfo.web_seeds.is_empty() {
                self.tasks.spawn(webseed::run(self.clone()));
            }
            tokio::select! {
                () = self.keep_time() => {}
                () = self.cancel.cancelled() => {}
            }
        }
        self.fail(TorrentError::Stopped);
        self.tasks.close();
        let grace = self.session.config.stop_timeout + Duration::from_secs(1);
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(info_hash = %self.metainfo.info_hash, "some tasks did not end in time");
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
                        if seen % 16 == 0 {
                            let (count, bytes) = (found.count(), self.bytes_of(&found));
                            self.progress.send_modify(|p| {
                                (p.pieces_have, p.bytes_verified) = (count, bytes);
                            });
                        }
                    })
                    .await;
                tracing::info!(info_hash = %self.metainfo.info_hash, pieces = found.count(), of = pieces, "checked what was there");
                found
            }
        }
    }

    fn begin(&self, have: Bitfield) {
        let config = CoreConfig {
            initial_seeding: self.initial_seeding,
            ..self.session.config.core.clone()
        };
        let core = core::Torrent::new(config, self.metainfo.info.geometry, have, fastrand::u64(..));
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
                if let Some(core) = &mut state.core {
                    core.tick(now);
                }
                let todo = state.drain();
                let busy = !state.links.is_empty() || state.book.dialing() > 0;
                drop(state);
                self.carry_out(todo);
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
                tokio::time::sleep(TICK).await;
            } else {
                // an announce that brings peers ends the wait
                let _ = tokio::time::timeout(IDLE_TICK, self.ticker.notified()).await;
            }
        }
    }

    /// Closes connections from which nothing was heard for too long.
    fn sweep(&self, now: Moment) {
        let timeout = self.session.config.peer_timeout;
        for link in self.lock().links.values_mut() {
            if now.saturating_sub(link.heard) >= timeout {
                link.closing.get_or_insert(core::CloseReason::Silent);
                link.cancel.cancel();
            }
        }
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
        if down_rate > 0 && totals.wasted == 0 {
            state.trouble.last_data = now;
        }
        let (known, connected) = (state.book.len(), state.links.len());
        let view = View { known, connected, useful, hash_failures: totals.hash_failures };
        let stall = if done { None } else { state.trouble.stall(now, view) };
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

impl Torrent {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Its info-hash.
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        self.shared.metainfo.info_hash
    }

    /// Where it stands, from now on.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// The connected peers.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStat> {
        let now = self.shared.now();
        let state = self.shared.lock();
        let Some(core) = &state.core else { return Vec::new() };
        let stat = |(key, link): (&PeerKey, &super::state::Link)| {
            core.peer(*key, now).map(|view| PeerStat {
                address: link.address,
                peer_id: link.peer_id,
                client: link.client.clone(),
                outgoing: link.outgoing,
                pieces_have: view.pieces,
                unchoked: view.unchoked,
                unchokes_us: view.unchokes_us,
                interested: view.interested,
                downloaded: view.downloaded,
                uploaded: view.uploaded,
                down_rate: view.down_rate,
                up_rate: view.up_rate,
                outstanding: view.outstanding,
            })
        };
        state.links.iter().filter_map(stat).collect()
    }

    /// The verified pieces.
    #[must_use]
    pub fn have(&self) -> Bitfield {
        self.shared.lock().have()
    }

    /// Adds a peer by its address, besides those that trackers name.
    pub fn add_peer(&self, address: std::net::SocketAddr) {
        self.shared.lock().book.add(address);
        self.shared.ticker.notify_one();
    }

    /// Changes how much a piece is wanted.
    pub fn set_priority(&self, piece: PieceIndex, priority: Priority) {
        self.with_core(|core, now| core.set_priority(now, piece, priority));
    }

    /// A reader waits for these bytes: their pieces come before everything else.
    pub fn want(&self, offset: u64, length: u64) {
        self.with_core(|core, now| core.want(now, offset, length));
    }

    fn with_core(&self, act: impl FnOnce(&mut core::Torrent, Moment)) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if let Some(core) = &mut state.core {
            act(core, now);
        }
        let todo = state.drain();
        drop(state);
        self.shared.carry_out(todo);
    }

    /// Waits until everything is here and verified. Returns at once for a seed.
    ///
    /// # Errors
    /// [`TorrentError`] when the torrent failed or was stopped first.
    pub async fn completed(&self) -> Result<Completed, TorrentError> {
        let mut completed = self.shared.completed.subscribe();
        let done = completed.wait_for(Option::is_some);
        tokio::select! {
            biased;
            done = done => match done.ok().and_then(|value| *value) {
                Some(completed) => Ok(completed),
                None => Err(TorrentError::Stopped),
            },
            error = self.failed() => Err(error),
        }
    }

    /// Waits until the torrent cannot go on: storage trouble, wrong data, or it was stopped. For a
    /// seed this is the only way it ends.
    pub async fn failed(&self) -> TorrentError {
        let mut failure = self.shared.failure.subscribe();
        let ended = failure.wait_for(Option::is_some).await;
        ended.ok().and_then(|value| value.clone()).unwrap_or(TorrentError::Stopped)
    }

    /// Takes the torrent out of its session: `stopped` is announced, connections close.
    pub async fn remove(&self) {
        self.shared.cancel.cancel();
        self.shared.finished.cancelled().await;
    }
}
