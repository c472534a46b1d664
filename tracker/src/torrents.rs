//! The table of torrents and their peers. Pure state: the clock and the randomness come from outside.
//!
//! It lives in memory only. After a restart peers are back with their next announce, which is seconds
//! away while a crowd boots; an announce from a peer that this table has never seen is always taken.
//!
//! Memory is bounded: at most [`Limits::torrents`] torrents of [`Limits::peers_per_torrent`] peers; what
//! was not heard for the longest time gives way.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use proto::announce::AnnounceEvent as Event;
use proto::hash::{InfoHash, PeerId};

use crate::policy::{self, Asker};

pub mod peer;
pub mod pool;
pub mod subnet;
pub mod swarm;

use peer::{Load, Peer};
use swarm::Swarm;

/// A peer is forgotten after twice the interval it was given and this.
const EXPIRY_SLACK: Duration = Duration::from_secs(10);

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Torrents.
    pub torrents: usize,
    /// Peers of one torrent.
    pub peers_per_torrent: usize,
}

/// One announce, after address and port were checked.
#[derive(Debug, Clone)]
pub struct Announce {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Where others reach the peer.
    pub addr: SocketAddr,
    /// Its id.
    pub peer_id: PeerId,
    /// Its secret.
    pub key: Option<Box<str>>,
    /// Bytes it still wants.
    pub left: u64,
    /// What happened, if anything.
    pub event: Option<Event>,
    /// Peers it asks for.
    pub want: usize,
}

/// What the peer is told.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Seconds until it should announce again.
    pub interval: u32,
    /// Complete peers.
    pub seeds: usize,
    /// Peers that fetch.
    pub leechers: usize,
    /// The chosen peers.
    pub peers: Vec<Peer>,
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

#[derive(Debug)]
struct Torrent {
    swarm: Swarm,
    completed: u64,
    touched: Instant,
}

impl Torrent {
    fn counts(&self) -> Counts {
        Counts {
            seeds: self.swarm.count(true),
            leechers: self.swarm.count(false),
            completed: self.completed,
        }
    }
}

/// Every torrent that was announced.
#[derive(Debug)]
pub struct Torrents {
    limits: Limits,
    table: HashMap<InfoHash, Torrent>,
}

impl Torrents {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, table: HashMap::new() }
    }

    /// Takes an announce and answers it.
    pub fn announce(&mut self, announce: &Announce, now: Instant, rng: &mut Rng) -> Answer {
        if announce.event == Some(Event::Stopped) {
            return self.stop(announce);
        }
        self.make_room(&announce.info_hash);
        let torrent = self.table.entry(announce.info_hash).or_insert_with(|| Torrent {
            swarm: Swarm::default(),
            completed: 0,
            touched: now,
        });
        torrent.touched = now;
        let complete = announce.left == 0;
        let before = torrent.swarm.remove(&announce.addr);
        // A new peer id at an old address is a new session: what it fetched before does not count.
        let before = before.filter(|peer| peer.id == announce.peer_id);
        if complete && before.as_ref().is_some_and(|peer| !peer.complete()) {
            torrent.completed += 1;
        }
        while torrent.swarm.len() >= self.limits.peers_per_torrent {
            torrent.swarm.remove_oldest();
        }
        let leechers = torrent.swarm.count(false) + usize::from(!complete);
        let interval = policy::interval(leechers, complete, rng);
        torrent.swarm.insert(Peer {
            addr: announce.addr,
            id: announce.peer_id,
            key: announce.key.clone(),
            left: announce.left,
            seed_from_start: before.as_ref().map_or(complete, |peer| peer.seed_from_start),
            heard: now,
            expires: now + Duration::from_secs(u64::from(interval)) * 2 + EXPIRY_SLACK,
            load: before.map_or_else(|| Load::none(now), |peer| peer.load),
        });
        let asker = Asker { addr: announce.addr, id: announce.peer_id, complete };
        let peers = policy::choose(&mut torrent.swarm, &asker, announce.want, now, rng);
        let Counts { seeds, leechers, .. } = torrent.counts();
        Answer { interval, seeds, leechers, peers }
    }

    fn stop(&mut self, announce: &Announce) -> Answer {
        let counts = self.table.get_mut(&announce.info_hash).map(|torrent| {
            let peer = torrent.swarm.remove(&announce.addr);
            let fetched = peer.filter(|p| p.id == announce.peer_id && !p.complete());
            // ctorrent, told to leave when it has finished, says so in one announce
            torrent.completed += u64::from(fetched.is_some() && announce.left == 0);
            torrent.counts()
        });
        let (seeds, leechers) = counts.map_or((0, 0), |c| (c.seeds, c.leechers));
        Answer { interval: policy::STOPPED_INTERVAL, seeds, leechers, peers: Vec::new() }
    }

    fn make_room(&mut self, newcomer: &InfoHash) {
        while self.table.len() >= self.limits.torrents && !self.table.contains_key(newcomer) {
            let Some(oldest) = self.table.iter().min_by_key(|(_, t)| t.touched).map(|(h, _)| *h)
            else {
                return;
            };
            self.table.remove(&oldest);
        }
    }

    /// Numbers of one torrent; `None` when nobody announced it.
    #[must_use]
    pub fn counts(&self, info_hash: &InfoHash) -> Option<Counts> {
        self.table.get(info_hash).map(Torrent::counts)
    }

    /// Numbers of every torrent, in order of info-hash.
    #[must_use]
    pub fn all(&self) -> Vec<(InfoHash, Counts)> {
        let mut all: Vec<_> = self.table.iter().map(|(hash, t)| (*hash, t.counts())).collect();
        all.sort_by_key(|(hash, _)| *hash);
        all
    }

    /// How many peers of a torrent are no admin host's seeder.
    #[must_use]
    pub fn nodes(&self, info_hash: &InfoHash) -> usize {
        let swarm = |torrent: &Torrent| torrent.swarm.len() - torrent.swarm.admins().count();
        self.table.get(info_hash).map_or(0, swarm)
    }

    /// Forgets peers whose time is over; returns how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        self.table.values_mut().map(|torrent| torrent.swarm.expire(now)).sum()
    }

    /// Forgets every torrent that is not in `allowed`.
    pub fn retain(&mut self, allowed: &HashSet<InfoHash>) {
        self.table.retain(|info_hash, _| allowed.contains(info_hash));
    }
}

#[cfg(test)]
#[path = "torrents/tests.rs"]
mod tests;
