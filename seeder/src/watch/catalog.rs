//! What is published, and what has become of each revision.
//!
//! ```text
//!            files are as the manifest says
//!  (new) ───────────────────────────────────▶ seeding ──┐
//!    │                                           │      │ files changed, or the engine
//!    │ they are not        files changed: again  │      │ found wrong data
//!    └──────────────▶ refused ◀──────────────────┼──────┘
//!                        └───────────────────────┴──▶ (gone) when it is no longer published
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::sync::Arc;

use proto::hash::InfoHash;
use store::{RevisionDir, RevisionRef, Store, StoreError};
use swarm::{InitialHave, Phase, Session, SessionError, Torrent, TorrentSpec, Verify};
use tokio_util::task::TaskTracker;

use super::revision::{self, Opened, Stamp};
use crate::output::{Event, Output, Uploaded};

/// The published revisions and the torrents that seed them.
pub(super) struct Catalog {
    store: Store,
    session: Option<Session>,
    trackers: Option<Vec<Vec<String>>>,
    output: Output,
    entries: BTreeMap<RevisionRef, Entry>,
    torrents: HashMap<InfoHash, Seeded>,
    /// Bytes sent by torrents that are gone.
    past_bytes: u64,
    removals: TaskTracker,
    store_is_readable: bool,
}

struct Entry {
    stamp: Stamp,
    /// `None`: refused.
    info_hash: Option<InfoHash>,
}

/// Two revisions may hold the same image: it is seeded once.
struct Seeded {
    /// `None`: the swarm is turned off.
    torrent: Option<Torrent>,
    revisions: BTreeSet<RevisionRef>,
}

impl Catalog {
    pub(super) fn new(
        store: Store,
        session: Option<Session>,
        trackers: Option<Vec<Vec<String>>>,
        output: Output,
    ) -> Self {
        Self {
            store,
            session,
            trackers,
            output,
            entries: BTreeMap::new(),
            torrents: HashMap::new(),
            past_bytes: 0,
            removals: TaskTracker::new(),
            store_is_readable: true,
        }
    }

    /// Asks the store, and takes up, gives up and tries again what that calls for.
    pub(super) async fn refresh(&mut self) {
        let published = match self.published().await {
            Ok(published) => {
                if !std::mem::replace(&mut self.store_is_readable, true) {
                    tracing::info!("the store can be read again");
                }
                published
            }
            Err(e) => {
                if std::mem::replace(&mut self.store_is_readable, false) {
                    let err = chain(&e);
                    tracing::error!(err, "cannot read the store: going on with what is seeded");
                }
                return;
            }
        };
        let known: Vec<RevisionRef> = self.entries.keys().cloned().collect();
        for gone in known.iter().filter(|known| !published.contains_key(known)) {
            self.remove(gone, "it is no longer published");
        }
        for (reference, (dir, stamp)) in published {
            self.look_at(&reference, dir, stamp).await;
        }
    }

    async fn published(&self) -> Result<BTreeMap<RevisionRef, (RevisionDir, Stamp)>, StoreError> {
        let store = self.store.clone();
        let look = move || {
            let mut found = BTreeMap::new();
            for reference in store.published()? {
                // One that is pruned at this moment is simply not there.
                let Ok(dir) = store.revision(&reference) else { continue };
                let stamp = Stamp::of(&dir);
                found.insert(reference, (dir, stamp));
            }
            Ok(found)
        };
        tokio::task::spawn_blocking(look)
            .await
            .unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
    }

    /// One published revision: new, changed, failed meanwhile, or as it was.
    async fn look_at(&mut self, reference: &RevisionRef, dir: RevisionDir, stamp: Stamp) {
        if let Some(entry) = self.entries.get(reference) {
            let failure = entry.info_hash.and_then(|info_hash| self.failure(info_hash));
            if entry.stamp == stamp {
                if let Some(reason) = failure {
                    self.remove(reference, &reason);
                    self.refuse(reference, stamp, reason);
                }
                return;
            }
            self.remove(reference, "its files changed");
        }
        match open(dir).await {
            Ok(opened) => self.take_up(reference, stamp, opened).await,
            Err(reason) => self.refuse(reference, stamp, reason),
        }
    }

    /// Why the engine gave a torrent up, if it did.
    fn failure(&self, info_hash: InfoHash) -> Option<String> {
        let progress = self.torrents.get(&info_hash)?.torrent.as_ref()?.progress();
        let phase = progress.borrow().phase.clone();
        match phase {
            Phase::Failed(reason) => Some(reason),
            _ => None,
        }
    }

    async fn take_up(&mut self, reference: &RevisionRef, stamp: Stamp, opened: Opened) {
        let info_hash = opened.metainfo.info_hash;
        let bytes = opened.metainfo.info.geometry.total();
        if !self.torrents.contains_key(&info_hash) {
            let torrent = match self.start(opened).await {
                Ok(torrent) => torrent,
                Err(SessionError::Duplicate(_)) => {
                    // It was given up a moment ago and is still saying goodbye: next time.
                    tracing::debug!(%reference, "still being removed");
                    return;
                }
                Err(e) => return self.refuse(reference, stamp, chain(&e)),
            };
            self.torrents.insert(info_hash, Seeded { torrent, revisions: BTreeSet::new() });
        }
        if let Some(seeded) = self.torrents.get_mut(&info_hash) {
            seeded.revisions.insert(reference.clone());
        }
        self.entries.insert(reference.clone(), Entry { stamp, info_hash: Some(info_hash) });
        tracing::info!(%reference, %info_hash, bytes, "seeding");
        self.output.emit(&Event::Seeding {
            revision: Some(reference.to_string()),
            info_hash: info_hash.to_string(),
            bytes,
        });
    }

    async fn start(&self, opened: Opened) -> Result<Option<Torrent>, SessionError> {
        let Some(session) = &self.session else { return Ok(None) };
        let mut spec = TorrentSpec::new(Arc::new(opened.metainfo), Arc::new(opened.storage));
        spec.have = InitialHave::Everything { verify: Verify::OnFirstRead };
        spec.trackers = self.trackers.clone();
        spec.initial_seeding = true;
        spec.web_seeds = false;
        session.add(spec).await.map(Some)
    }

    fn refuse(&mut self, reference: &RevisionRef, stamp: Stamp, reason: String) {
        tracing::error!(%reference, reason, "revision refused: it is not seeded");
        self.output.emit(&Event::Refused { revision: reference.to_string(), reason });
        self.entries.insert(reference.clone(), Entry { stamp, info_hash: None });
    }

    /// Forgets a revision; its torrent ends when no other revision has the same image.
    fn remove(&mut self, reference: &RevisionRef, reason: &str) {
        let Some(entry) = self.entries.remove(reference) else { return };
        let Some(info_hash) = entry.info_hash else { return };
        tracing::info!(%reference, reason, "no longer seeding");
        self.output
            .emit(&Event::Removed { revision: reference.to_string(), reason: reason.to_owned() });
        let Some(seeded) = self.torrents.get_mut(&info_hash) else { return };
        seeded.revisions.remove(reference);
        if !seeded.revisions.is_empty() {
            return;
        }
        let torrent = self.torrents.remove(&info_hash).and_then(|seeded| seeded.torrent);
        if let Some(torrent) = torrent {
            self.past_bytes += torrent.progress().borrow().bytes_uploaded;
            // Announcing `stopped` may take a while when the tracker does not answer.
            self.removals.spawn(async move { torrent.remove().await });
        }
    }

    /// What went over the peer wire since the start.
    pub(super) fn uploaded(&self) -> Uploaded {
        let mut uploaded = Uploaded {
            swarm_bytes: self.past_bytes,
            torrents: self.torrents.len(),
            ..Uploaded::default()
        };
        for torrent in self.torrents.values().filter_map(|seeded| seeded.torrent.as_ref()) {
            let progress = torrent.progress();
            let progress = progress.borrow();
            uploaded.swarm_bytes += progress.bytes_uploaded;
            uploaded.rate += progress.up_rate;
            uploaded.peers += progress.peers_connected;
        }
        uploaded
    }

    /// Ends everything; bounded by the session's own limit.
    pub(super) async fn shutdown(self) {
        self.removals.close();
        if let Some(session) = self.session {
            session.shutdown().await;
        }
        // Nothing of the session is left that these could wait for.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), self.removals.wait()).await;
    }
}

async fn open(dir: RevisionDir) -> Result<Opened, String> {
    let opened = tokio::task::spawn_blocking(move || revision::open(&dir)).await;
    opened.map_err(|e| e.to_string())?.map_err(|e| chain(&e))
}

/// An error with all its causes, for people.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
