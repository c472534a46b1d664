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
//! half-life of seconds (see `Swarm::weight`): a count for ever would make each newcomer to an
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
//! what is left, over HTTP: a UDP answer holds one family (BEP 15).
//!
//! **Who cannot be reached comes last.** Peers that several others reported (`torrents::reports` says whom
//! we believe) are named when there is nobody else.
//!
//! **Never the asker itself**, by address and by peer id (a dual-stack node announces twice).
//!
//! **Intervals follow the crowd.** While anyone fetches, leechers that want peers ask every 3 to 5 s,
//! because a node that just came up knows nobody and its news is worth most in the first seconds;
//! complete peers, and leechers that want no peers (`numwant=0`) because they have enough, every 15 to
//! 30 s, since others dial them. With nobody fetching, everyone comes every 60 to 90 s. This is not about
//! our processor: on a link of 1 Mbit/s, which stands for a fast one with more nodes, the announces of
//! 200 nodes that all asked every 4 s took a third of what the admin host could send.
//! The jitter keeps nodes that were switched on together from asking together. Above 10,000
//! leechers the interval grows with their number, so that the announces stay near
//! [`ANNOUNCES_PER_SECOND`].

use std::net::SocketAddr;
use std::time::Instant;

use fastrand::Rng;
use proto::hash::PeerId;

use crate::torrents::subnet::Subnet;
use crate::torrents::swarm::{Group, Hot, Slot, Swarm};

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
    /// Whether the answer can hold peers of its own address family only.
    pub own_family_only: bool,
}

/// A peer in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Where it is reached.
    pub addr: SocketAddr,
    /// Its id.
    pub id: PeerId,
}

/// Room for choosing, used again for each announce.
#[derive(Debug, Default)]
pub struct Scratch {
    numbers: Vec<u32>,
    candidates: Vec<(u32, Slot)>,
    chosen: Vec<Slot>,
    /// The answer.
    pub named: Vec<Named>,
}

/// Chooses at most `want` peers (and at most [`MAX_WANT`]) for `asker` into `scratch.named`, and counts them
/// as handed out.
pub fn choose(
    swarm: &mut Swarm,
    asker: &Asker,
    want: usize,
    now: Instant,
    rng: &mut Rng,
    scratch: &mut Scratch,
) {
    let want = want.min(MAX_WANT);
    scratch.chosen.clear();
    scratch.named.clear();
    if want == 0 {
        return;
    }
    let mut choice = Choice { swarm, asker, me: None, rng, scratch };
    choice.me = choice.swarm.find(&asker.addr);
    let own = asker.addr.is_ipv6();
    if !asker.complete {
        choice.admins(want.min(ADMINS));
    }
    let subnet = Subnet::of(&asker.addr);
    let missing = want.saturating_sub(choice.scratch.chosen.len());
    if choice.swarm.members(subnet) < choice.swarm.len() {
        choice.balanced(Group::Subnet(subnet), missing * NEAR / 10);
    }
    for v6 in [own, !own].into_iter().take(if asker.own_family_only { 1 } else { 2 }) {
        let missing = want.saturating_sub(choice.scratch.chosen.len());
        choice.balanced(Group::Family { v6, complete_too: !asker.complete }, missing);
    }
    let weight = swarm.weight(now);
    for slot in &scratch.chosen {
        swarm.hand_out(*slot, weight);
        let peer = swarm.peer(*slot);
        scratch.named.push(Named { addr: peer.addr, id: peer.id });
    }
}

struct Choice<'a> {
    swarm: &'a mut Swarm,
    asker: &'a Asker,
    me: Option<Slot>,
    rng: &'a mut Rng,
    scratch: &'a mut Scratch,
}

impl Choice<'_> {
    fn admins(&mut self, count: usize) {
        let Self { swarm, asker, me, rng, scratch } = self;
        let admins = swarm.admins().iter().copied().filter(|slot| {
            let peer = swarm.peer(*slot);
            let foreign = peer.addr.is_ipv6() != asker.addr.is_ipv6();
            Some(*slot) != *me && peer.id != asker.id && !(foreign && asker.own_family_only)
        });
        scratch.chosen.extend(admins);
        rng.shuffle(&mut scratch.chosen);
        scratch.chosen.sort_by_key(|slot| {
            let foreign = swarm.peer(*slot).addr.is_ipv6() != asker.addr.is_ipv6();
            (swarm.hot(*slot).demoted, foreign)
        });
        scratch.chosen.truncate(count);
    }

    /// Of a random sample, those handed out least.
    fn balanced(&mut self, from: Group, missing: usize) {
        if missing == 0 {
            return;
        }
        let Self { swarm, asker, me, rng, scratch } = self;
        let Scratch { numbers, candidates, chosen, .. } = &mut **scratch;
        swarm.begin_drawing(chosen.iter().copied().chain(*me));
        let fit = |peer: &Hot| !(peer.admin || asker.complete && peer.complete);
        // a few more than needed: the asker may be among them
        let count = missing * SPREAD + 1 + ADMINS + chosen.len();
        swarm.draw(from, count, fit, rng, numbers, candidates);
        // one more than needed: the asker's other address may be among them
        if candidates.len() > missing + 1 {
            candidates.select_nth_unstable_by_key(missing, |(rank, _)| *rank);
        }
        let other = |slot: &Slot| swarm.peer(*slot).id != asker.id;
        let least = candidates.iter().take(missing + 1).map(|(_, slot)| *slot);
        chosen.extend(least.filter(other).take(missing));
    }
}

/// Seconds until a peer should announce again; `searching` is a leecher that wants peers.
pub fn interval(leechers: usize, searching: bool, rng: &mut Rng) -> u32 {
    if leechers == 0 {
        rng.u32(60..=90)
    } else if !searching {
        rng.u32(15..=30)
    } else {
        let base = u32::try_from(leechers / ANNOUNCES_PER_SECOND).unwrap_or(u32::MAX / 2).max(3);
        rng.u32(base..=base + 2)
    }
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
