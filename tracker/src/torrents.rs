//! The table of torrents and their peers. Pure state: the clock and the randomness come from outside.
//!
//! It lives in memory only. After a restart peers are back with their next announce, which is seconds
//! away while a crowd boots; an announce from a peer that this table has never seen is always taken.
//!
//! Memory is bounded: at most [`Limits::torrents`] torrents of [`Limits::peers_per_torrent`] peers. Of
//! torrents the one with few peers gives way, of peers the one that was not heard for long.
//!
//! Torrents are spread over [`SHARDS`] locks, held for the two microseconds that an announce takes, so
//! that several threads can answer.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use fastrand::Rng;
use proto::announce::{AnnounceEvent as Event, ScrapeEntry};
use proto::hash::{InfoHash, PeerId};

use crate::app::lock;
use crate::policy::Scratch;

pub mod peer;
pub mod reports;
mod shard;
pub mod subnet;
pub mod swarm;

use peer::Key;
use shard::{Shard, Torrent};
use swarm::Slot;

/// Parts of the table; with fewer torrents than `SHARDED_FROM` allowed there is one.
pub const SHARDS: usize = 16;

/// With fewer, the parts would be too small to share room fairly.
const SHARDED_FROM: usize = 512;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Torrents.
    pub torrents: usize,
    /// Peers of one torrent.
    pub peers_per_torrent: usize,
    /// Peers of one torrent with one address (on different ports); loopback is not counted.
    pub peers_per_address: usize,
}

/// One announce, after address and port were checked.
#[derive(Debug, Clone, Copy)]
pub struct Announce<'a> {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Where others reach the peer.
    pub addr: SocketAddr,
    /// Its id.
    pub peer_id: PeerId,
    /// Its secret.
    pub key: Option<Key>,
    /// Bytes it still wants.
    pub left: u64,
    /// What happened, if anything.
    pub event: Option<Event>,
    /// Peers it asks for.
    pub want: usize,
    /// Whether it can be told of peers of its own address family only.
    pub own_family_only: bool,
    /// Peers that it could not reach.
    pub failed: &'a [SocketAddr],
}

/// What the peer is told, beside the peers.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Seconds until it should announce again.
    pub interval: u32,
    /// Complete peers.
    pub seeds: usize,
    /// Peers that fetch.
    pub leechers: usize,
}

/// An address has so many peers that another one is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{ip} has {limit} peers of this torrent already; limits.peers_per_address allows more")]
pub struct Crowded {
    /// The address.
    pub ip: IpAddr,
    /// How many it may have.
    pub limit: usize,
}

/// Numbers of one torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Complete peers.
    pub seeds: usize,
    /// Peers that fetch.
    pub leechers: usize,
    /// How many peers finished since the tracker started.
    pub completed: u64,
}

impl Counts {
    /// As a scrape tells them.
    #[must_use]
    pub fn scraped(&self, info_hash: InfoHash) -> ScrapeEntry {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        ScrapeEntry {
            info_hash,
            complete: number(self.seeds),
            downloaded: u32::try_from(self.completed).unwrap_or(u32::MAX),
            incomplete: number(self.leechers),
        }
    }
}

/// Every torrent that was announced.
#[derive(Debug)]
pub struct Torrents {
    /// Of each shard.
    limits: Limits,
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

impl Torrents {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let count = if limits.torrents < SHARDED_FROM { 1 } else { SHARDS };
        let shards = std::iter::repeat_with(Mutex::default).take(count).collect();
        let limits = Limits { torrents: limits.torrents.div_ceil(count), ..limits };
        Self { limits, shards, hasher: RandomState::new() }
    }

    fn shard(&self, info_hash: &InfoHash) -> MutexGuard<'_, Shard> {
        // keyed: who invents info-hashes must not be able to fill one shard
        let hash = self.hasher.hash_one(info_hash);
        let count = u64::try_from(self.shards.len()).unwrap_or(1);
        lock(&self.shards[usize::try_from(hash % count).unwrap_or(0)])
    }

    /// Takes an announce and answers it; the chosen peers are in `scratch.named`.
    ///
    /// # Errors
    /// [`Crowded`]: it is not taken.
    pub fn announce(
        &self,
        announce: &Announce<'_>,
        now: Instant,
        rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> Result<Answer, Crowded> {
        let mut shard = self.shard(&announce.info_hash);
        shard.announce(announce, &self.limits, now, rng, scratch)
    }

    /// Numbers of one torrent; `None` when nobody announced it.
    #[must_use]
    pub fn counts(&self, info_hash: &InfoHash) -> Option<Counts> {
        self.shard(info_hash).get(info_hash).map(Torrent::counts)
    }

    /// Numbers of every torrent, in order of info-hash.
    #[must_use]
    pub fn all(&self) -> Vec<(InfoHash, Counts)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(lock(shard).iter().map(|torrent| (torrent.info_hash, torrent.counts())));
        }
        all.sort_by_key(|(hash, _)| *hash);
        all
    }

    /// How many peers of a torrent are no admin host's seeder.
    #[must_use]
    pub fn nodes(&self, info_hash: &InfoHash) -> usize {
        let swarm = |torrent: &Torrent| torrent.swarm.len() - torrent.swarm.admins().len();
        self.shard(info_hash).get(info_hash).map_or(0, swarm)
    }

    /// Where peers are whose id says that they are an admin's seeder, in all torrents.
    #[must_use]
    pub fn admins(&self) -> BTreeSet<IpAddr> {
        let mut all = BTreeSet::new();
        for shard in &self.shards {
            for torrent in lock(shard).iter() {
                let swarm = &torrent.swarm;
                let addr = |slot: &Slot| swarm.peer(*slot).addr.ip().to_canonical();
                all.extend(swarm.admins().iter().map(addr));
            }
        }
        all
    }

    /// Peers that others could not reach, in all torrents.
    #[must_use]
    pub fn demoted(&self) -> usize {
        let demoted = |torrent: &Torrent| torrent.swarm.reports.demoted();
        self.shards.iter().map(|shard| lock(shard).iter().map(demoted).sum::<usize>()).sum()
    }

    /// Forgets peers whose time is over; returns how many.
    pub fn expire(&self, now: Instant) -> usize {
        self.shards.iter().map(|shard| lock(shard).expire(now)).sum()
    }

    /// Forgets every torrent that is not in `allowed`.
    pub fn retain(&self, allowed: &HashSet<InfoHash>) {
        self.shards.iter().for_each(|shard| lock(shard).retain(allowed));
    }
}

#[cfg(test)]
#[path = "torrents/tests.rs"]
mod tests;
