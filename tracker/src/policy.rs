//! Whom a peer is told about, and when it asks again.
//!
//! A tracker that serves one booting cluster is not short of speed: 400 nodes that ask every few
//! seconds are a hundred requests a second. What it decides is the *shape* of the swarm, so the
//! decisions are here, apart from tables and HTTP, each with its reason.
//!
//! **Random, without replacement.** Every fixed order ("the first 50") makes some nodes the parents of
//! all and leaves others alone. A random graph whose mean degree is above ln N (6 for 300 nodes, 9
//! for 5,000) is connected; 30 per answer is far above, and small enough that a client with 10 to 20
//! connections can still choose.
//!
//! **Balanced in-degree.** With a purely random choice, the peers that came first are handed out to
//! everybody after them: with 300 arrivals the earliest are named more than three times as often as the
//! mean, and their queues are full while others idle. So of a random sample [`SPREAD`] times as large
//! as the answer, those handed out least lately are taken, ties at random. Hand-outs fade with a
//! half-life of seconds (see `torrents::peer::Load`): a count for ever would make each newcomer to an
//! old swarm the only answer until it has caught up.
//!
//! **Complete peers get no complete peers.** They have nothing to give each other, and the
//! connection would take a slot from a node that needs it.
//!
//! **Admin seeders are always in a leecher's answer**, up to [`ADMINS`]. They alone have every piece
//! at the start, and steer who gets which piece first; a node that does not know one starts late.
//! More than a few are not needed, and the bound keeps peers that only claim to be one from filling
//! the answer.
//!
//! **Mostly the own subnet.** The link between two subnets may be no faster than one node's, and all
//! nodes behind it share it. [`NEAR`] of an answer are peers of the asker's own subnet (IPv4 /24, IPv6
//! /64 of the addresses that the tracker sees), as long as there are so many; the others are from
//! anywhere, so the parts stay one graph: with 10 from anywhere in each answer of 50, a thousand nodes in
//! each part are joined by thousands of connections. All are taken by the same balance, so the bound on
//! the in-degree holds. A swarm in one subnet is not changed by this.
//!
//! **Own address family first.** A peer that asked over IPv4 surely reaches IPv4; the others fill
//! what is left.
//!
//! **Never the asker itself**, by address and by peer id (a dual-stack node announces twice).
//!
//! **Intervals follow the crowd.** While anyone fetches, leechers ask every 3 to 5 s, because a node
//! that just came up knows nobody and its news is worth most in the first seconds; complete peers
//! every 15 to 30 s, since leechers dial them. With nobody fetching, everyone comes every 60 to 90 s.
//! The jitter keeps nodes that were switched on together from asking together. Above 10,000
//! leechers the interval grows with their number, so that the announces stay near
//! [`ANNOUNCES_PER_SECOND`].

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use fastrand::Rng;
use proto::hash::PeerId;

use crate::torrents::peer::Peer;
use crate::torrents::subnet::Subnet;
use crate::torrents::swarm::{Class, Swarm};

/// Peers in an answer when the client names no number.
pub const DEFAULT_WANT: usize = 30;

/// Peers in an answer at most, whatever the client asks for.
pub const MAX_WANT: usize = 100;

/// Admin seeders in an answer at most.
pub const ADMINS: usize = 4;

/// How much larger than the answer the random sample is from which the least loaded are taken.
pub const SPREAD: usize = 3;

/// The part of an answer that is from the asker's own subnet, in tenths.
pub const NEAR: usize = 8;

/// Announces per second that a growing crowd is held to.
pub const ANNOUNCES_PER_SECOND: usize = 2_500;

/// Seconds named to a peer that said `stopped`; nobody reads it, but BEP 3 wants a number.
pub const STOPPED_INTERVAL: u32 = 60;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// Its address as the swarm knows it.
    pub addr: SocketAddr,
    /// Its peer id.
    pub id: PeerId,
    /// Whether it has everything.
    pub complete: bool,
}

impl Asker {
    fn is(&self, peer: &Peer) -> bool {
        peer.addr == self.addr || peer.id == self.id
    }
}

/// Chooses at most `want` peers (and at most [`MAX_WANT`]) for `asker`, and counts them as handed out.
pub fn choose(
    swarm: &mut Swarm,
    asker: &Asker,
    want: usize,
    now: Instant,
    rng: &mut Rng,
) -> Vec<Peer> {
    let want = want.min(MAX_WANT);
    let mut chosen = Vec::new();
    if !asker.complete {
        choose_admins(swarm, asker, want, now, rng, &mut chosen);
    }
    choose_near(swarm, asker, want, now, rng, &mut chosen);
    let own = asker.addr.is_ipv6();
    for v6 in [own, !own] {
        choose_balanced(swarm, asker, v6, want, now, rng, &mut chosen);
    }
    chosen
        .into_iter()
        .filter_map(|(class, position)| {
            let peer = swarm.peer_mut(class, position)?;
            peer.load.add(now);
            Some(peer.clone())
        })
        .collect()
}

fn choose_admins(
    swarm: &Swarm,
    asker: &Asker,
    want: usize,
    now: Instant,
    rng: &mut Rng,
    chosen: &mut Vec<(Class, usize)>,
) {
    let mut admins: Vec<_> = swarm
        .admins()
        .filter_map(|addr| {
            let class = Class { complete: true, v6: addr.is_ipv6() };
            let position = swarm.pool(class).position(addr)?;
            let peer = &swarm.pool(class).as_slice()[position];
            (!asker.is(peer) && peer.expires > now).then_some((class, position))
        })
        .collect();
    rng.shuffle(&mut admins);
    admins.sort_by_key(|(class, _)| class.v6 != asker.addr.is_ipv6());
    chosen.extend(admins.into_iter().take(want.min(ADMINS)));
}

fn choose_near(
    swarm: &Swarm,
    asker: &Asker,
    want: usize,
    now: Instant,
    rng: &mut Rng,
    chosen: &mut Vec<(Class, usize)>,
) {
    let members = swarm.members(Subnet::of(&asker.addr));
    if members.len() == swarm.len() {
        return;
    }
    let missing = want.saturating_sub(chosen.len()) * NEAR / 10;
    let fit = |peer: &Peer| {
        let useful = !(asker.complete && peer.complete());
        useful && !asker.is(peer) && !peer.admin() && peer.expires > now
    };
    let candidates = sample(members.len(), missing * SPREAD + 1 + ADMINS, rng)
        .into_iter()
        .filter_map(|number| {
            let (class, position) = swarm.find(&members[number])?;
            let peer = &swarm.pool(class).as_slice()[position];
            fit(peer).then(|| (peer.load.get(now), (class, position)))
        })
        .collect();
    chosen.extend(least_loaded(candidates).take(missing));
}

fn choose_balanced(
    swarm: &Swarm,
    asker: &Asker,
    v6: bool,
    want: usize,
    now: Instant,
    rng: &mut Rng,
    chosen: &mut Vec<(Class, usize)>,
) {
    let missing = want.saturating_sub(chosen.len());
    if missing == 0 {
        return;
    }
    let (fetching, complete) = (Class { complete: false, v6 }, Class { complete: true, v6 });
    let leechers = swarm.pool(fetching).len();
    let total = if asker.complete { leechers } else { leechers + swarm.pool(complete).len() };
    // One more than needed: the asker may be among them.
    let count = missing * SPREAD + 1 + ADMINS + chosen.len();
    let candidates = sample(total, count, rng)
        .into_iter()
        .map(|i| if i < leechers { (fetching, i) } else { (complete, i - leechers) })
        .filter_map(|(class, position)| {
            let peer = &swarm.pool(class).as_slice()[position];
            let new = !chosen.contains(&(class, position));
            let fit = new && !asker.is(peer) && !peer.admin() && peer.expires > now;
            fit.then(|| (peer.load.get(now), (class, position)))
        })
        .collect();
    chosen.extend(least_loaded(candidates).take(missing));
}

/// Those handed out least come first. A sample comes in random order and the sort is stable: ties
/// stay random.
fn least_loaded<T>(mut candidates: Vec<(f32, T)>) -> impl Iterator<Item = T> {
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
    candidates.into_iter().map(|(_, at)| at)
}

/// `count` distinct numbers below `total` in random order; all of them when there are no more.
fn sample(total: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    if total <= count * 2 {
        let mut all: Vec<usize> = (0..total).collect();
        rng.shuffle(&mut all);
        all.truncate(count);
        return all;
    }
    let mut seen = HashSet::with_capacity(count);
    let mut picked = Vec::with_capacity(count);
    while picked.len() < count {
        let number = rng.usize(..total);
        if seen.insert(number) {
            picked.push(number);
        }
    }
    picked
}

/// Seconds until a peer should announce again.
pub fn interval(leechers: usize, complete: bool, rng: &mut Rng) -> u32 {
    if leechers == 0 {
        rng.u32(60..=90)
    } else if complete {
        rng.u32(15..=30)
    } else {
        let base = u32::try_from(leechers / ANNOUNCES_PER_SECOND).unwrap_or(u32::MAX / 2).max(3);
        rng.u32(base..=base + 2)
    }
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
