//! The handle on a running torrent.

use std::sync::Arc;

use proto::bitfield::Bitfield;
use proto::event::exchange::{Exchange, Gift, Holding, MAX_GIVERS};
use proto::geometry::PieceIndex;
use proto::hash::InfoHash;
use tokio::sync::watch;

use super::torrent::Shared;
use crate::core::{self, Moment, PeerKey, Priority};
use crate::progress::{Completed, PeerStat, Progress, TorrentError};

/// A running torrent; clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct Torrent {
    shared: Arc<Shared>,
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

    /// From whom what is verified came, and which pieces that is, as it is reported.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        let state = self.shared.lock();
        let holding = Some(Holding::of(&state.have()));
        let (mut from, mut others) = (Vec::new(), 0);
        if let Some(core) = &state.core {
            let (given, more) = core.given();
            others = more;
            for (ip, bytes) in given {
                insert(&mut from, &mut others, Gift { from: ip.to_canonical(), bytes });
            }
        }
        Exchange { from, others, holding }
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

/// Keeps those that gave most, in order; who falls out is one of the others.
fn insert(from: &mut Vec<Gift>, others: &mut u64, gift: Gift) {
    let at = from.partition_point(|other| other.bytes >= gift.bytes);
    from.insert(at, gift);
    if from.len() > MAX_GIVERS {
        *others += from.pop().map_or(0, |last| last.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_gave_most_are_named() {
        let (mut from, mut others) = (Vec::new(), 0);
        for n in [9_u8, 30, 2, 14].into_iter().chain(40..60) {
            let gift = Gift { from: [10, 0, 0, n].into(), bytes: n.into() };
            insert(&mut from, &mut others, gift);
        }
        let bytes: Vec<u64> = from.iter().map(|gift| gift.bytes).collect();
        assert_eq!(bytes, (44..60).rev().collect::<Vec<_>>());
        assert_eq!(others, 9 + 30 + 2 + 14 + 40 + 41 + 42 + 43);
    }
}
