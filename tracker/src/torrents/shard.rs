//! Some of the torrents, behind one lock.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use proto::announce::AnnounceEvent as Event;
use proto::hash::InfoHash;

use super::peer::Peer;
use super::swarm::Swarm;
use super::{Announce, Answer, Counts, Crowded, Limits};
use crate::policy::{self, Asker, Scratch};

/// A peer is forgotten after twice the interval it was given and this.
pub(super) const EXPIRY_SLACK: Duration = Duration::from_secs(10);

/// Torrents looked at to find one that gives way.
const SAMPLE: usize = 32;

#[derive(Debug)]
pub(super) struct Torrent {
    pub(super) info_hash: InfoHash,
    pub(super) swarm: Swarm,
    completed: u64,
    touched: Instant,
}

impl Torrent {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            seeds: self.swarm.count(true),
            leechers: self.swarm.count(false),
            completed: self.completed,
        }
    }
}

/// Torrents by info-hash and by number, so that a random one is found in constant time.
#[derive(Debug, Default)]
pub(super) struct Shard {
    index: HashMap<InfoHash, usize>,
    torrents: Vec<Torrent>,
}

impl Shard {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Torrent> {
        self.torrents.iter()
    }

    pub(super) fn get(&self, info_hash: &InfoHash) -> Option<&Torrent> {
        self.index.get(info_hash).and_then(|at| self.torrents.get(*at))
    }

    fn get_mut(&mut self, info_hash: &InfoHash) -> Option<&mut Torrent> {
        self.index.get(info_hash).and_then(|at| self.torrents.get_mut(*at))
    }

    pub(super) fn announce(
        &mut self,
        announce: &Announce<'_>,
        limits: &Limits,
        now: Instant,
        rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> Result<Answer, Crowded> {
        scratch.named.clear();
        if announce.event == Some(Event::Stopped) {
            return Ok(self.stop(announce));
        }
        let torrent = self.torrent(announce.info_hash, limits.torrents, now, rng);
        torrent.touched = now;
        let complete = announce.left == 0;
        let ip = announce.addr.ip();
        let swarm = &mut torrent.swarm;
        let known = swarm.find(&announce.addr).map(|slot| *swarm.peer(slot));
        if known.is_none() {
            if swarm.at_address(ip) >= limits.peers_per_address && !ip.is_loopback() {
                return Err(Crowded { ip, limit: limits.peers_per_address });
            }
            while swarm.len() >= limits.peers_per_torrent {
                swarm.remove_old(rng);
            }
        }
        // A new peer id at an old address is a new session: what it fetched before does not count.
        let before = known.filter(|peer| peer.id == announce.peer_id);
        torrent.completed += u64::from(complete && before.is_some_and(|peer| !peer.complete));
        let leeching = known.is_some_and(|peer| !peer.complete);
        let others = swarm.count(false) - usize::from(leeching);
        let searching = !complete && announce.want > 0;
        let interval = policy::interval(others + usize::from(!complete), searching, rng);
        let peer = Peer {
            addr: announce.addr,
            id: announce.peer_id,
            key: announce.key,
            complete,
            seed_from_start: before.map_or(complete, |peer| peer.seed_from_start),
            heard: now,
        };
        let life = Duration::from_secs(u64::from(interval)) * 2 + EXPIRY_SLACK;
        swarm.put(peer, now, life);
        if !announce.failed.is_empty() {
            swarm.report(ip, announce.failed, now);
        }
        let own_family_only = announce.own_family_only;
        let asker = Asker { addr: announce.addr, id: announce.peer_id, complete, own_family_only };
        policy::choose(swarm, &asker, announce.want, now, rng, scratch);
        let Counts { seeds, leechers, .. } = torrent.counts();
        Ok(Answer { interval, seeds, leechers })
    }

    fn stop(&mut self, announce: &Announce<'_>) -> Answer {
        let counts = self.get_mut(&announce.info_hash).map(|torrent| {
            let slot = torrent.swarm.find(&announce.addr);
            let peer = slot.map(|slot| torrent.swarm.remove(slot));
            let fetched = peer.filter(|p| p.id == announce.peer_id && !p.complete);
            // ctorrent, told to leave when it has finished, says so in one announce
            torrent.completed += u64::from(fetched.is_some() && announce.left == 0);
            torrent.counts()
        });
        let (seeds, leechers) = counts.map_or((0, 0), |c| (c.seeds, c.leechers));
        Answer { interval: policy::STOPPED_INTERVAL, seeds, leechers }
    }

    fn torrent(
        &mut self,
        info_hash: InfoHash,
        limit: usize,
        now: Instant,
        rng: &mut Rng,
    ) -> &mut Torrent {
        let at = match self.index.get(&info_hash) {
            Some(at) => *at,
            None => {
                while self.torrents.len() >= limit.max(1) {
                    self.give_way(rng);
                }
                self.index.insert(info_hash, self.torrents.len());
                let swarm = Swarm::new(now);
                self.torrents.push(Torrent { info_hash, swarm, completed: 0, touched: now });
                self.torrents.len() - 1
            }
        };
        &mut self.torrents[at]
    }

    /// Takes out one of few peers that was not asked for long: a flood of invented torrents, a peer each,
    /// pushes out its own ones.
    fn give_way(&mut self, rng: &mut Rng) {
        let total = self.torrents.len();
        let worth = |at: &usize| {
            let torrent = &self.torrents[*at];
            (torrent.swarm.len().checked_ilog2(), torrent.touched)
        };
        let least = if total <= SAMPLE {
            (0..total).min_by_key(worth)
        } else {
            (0..SAMPLE).map(|_| rng.usize(..total)).min_by_key(worth)
        };
        if let Some(at) = least {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        let gone = self.torrents.swap_remove(at);
        self.index.remove(&gone.info_hash);
        if let Some(moved) = self.torrents.get(at) {
            self.index.insert(moved.info_hash, at);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) -> usize {
        self.torrents.iter_mut().map(|torrent| torrent.swarm.expire(now)).sum()
    }

    pub(super) fn retain(&mut self, allowed: &HashSet<InfoHash>) {
        let gone = |torrent: &Torrent| !allowed.contains(&torrent.info_hash);
        while let Some(at) = self.torrents.iter().position(gone) {
            self.remove(at);
        }
    }
}
