//! The peers of one torrent.
//!
//! A peer has a slot, a number that stays until it leaves. What peer choice looks at for a hundred peers
//! per announce is 16 bytes per slot in an array of its own, which stays in the processor's cache; address
//! and id are read for the chosen ones only. Every list has each slot once and each slot knows its place
//! there, so that a peer comes, changes and goes in constant time, and a random one is found likewise.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use proto::hash::PeerId;

use super::peer::{Key, Peer};
use super::reports::Reports;
use super::subnet::Subnet;

/// Hand-outs lose half of their weight in this time, so that a balance struck an hour ago does not
/// make a newcomer the only answer, and a crowd's balance outlasts several of its announces.
const LOAD_HALF_LIFE: Duration = Duration::from_secs(10);

/// After this long, loads are brought back to small numbers: 2^64 of 2^127.
const REBASE: Duration = LOAD_HALF_LIFE.saturating_mul(64);

/// Peers believed to be admin seeders; further ones are peers like others.
pub const MAX_ADMINS: usize = 64;

/// Peers looked at to find one that was not heard for long.
const OLD_SAMPLE: usize = 32;

/// Which list a peer is in: peer choice draws from leechers and seeds, IPv4 and IPv6 apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class {
    /// Complete peers.
    pub complete: bool,
    /// IPv6 addresses.
    pub v6: bool,
}

impl Class {
    fn index(self) -> usize {
        usize::from(self.complete) + 2 * usize::from(self.v6)
    }

    fn of(peer: &Peer) -> Self {
        Self { complete: peer.complete, v6: peer.addr.is_ipv6() }
    }
}

/// The number of a peer, for as long as it is there.
pub type Slot = u32;

/// What peer choice looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hot {
    /// Hand-outs, each with the weight of its time.
    load: f32,
    /// Seconds since the swarm's start.
    expires: u32,
    /// The drawing that has seen it.
    mark: u32,
    pub(crate) complete: bool,
    pub(crate) admin: bool,
    /// Several others failed to reach it.
    pub(crate) demoted: bool,
    used: bool,
}

#[derive(Debug, Clone, Copy)]
struct Cold {
    peer: Peer,
    class_at: u32,
    subnet_at: u32,
}

/// Who a client is apart from its address: its peer id, its secret, its address family.
type Identity = (PeerId, Key, bool);

fn identity(peer: &Peer) -> Option<Identity> {
    peer.key.map(|key| (peer.id, key, peer.addr.is_ipv6()))
}

/// The peers of one torrent. A peer is its address and port: a client that restarts with a new id
/// replaces itself. One that shows the same id and `key` from a new address is moved there.
#[derive(Debug)]
pub struct Swarm {
    start: Instant,
    hot: Vec<Hot>,
    cold: Vec<Cold>,
    free: Vec<Slot>,
    index: HashMap<SocketAddr, Slot>,
    classes: [Vec<Slot>; 4],
    subnets: HashMap<Subnet, Vec<Slot>>,
    admins: Vec<Slot>,
    identities: HashMap<Identity, Slot>,
    addresses: HashMap<IpAddr, u32>,
    pub(crate) reports: Reports,
    load_base: Instant,
    drawing: u32,
}

impl Swarm {
    /// Nobody yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            start: now,
            hot: Vec::new(),
            cold: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            classes: Default::default(),
            subnets: HashMap::new(),
            admins: Vec::new(),
            identities: HashMap::new(),
            addresses: HashMap::new(),
            reports: Reports::default(),
            load_base: now,
            drawing: 0,
        }
    }

    /// How many peers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Complete peers, or those that still fetch.
    #[must_use]
    pub fn count(&self, complete: bool) -> usize {
        [false, true].into_iter().map(|v6| self.class(Class { complete, v6 }).len()).sum()
    }

    /// One class of peers.
    #[must_use]
    pub fn class(&self, class: Class) -> &[Slot] {
        &self.classes[class.index()]
    }

    /// How many peers a subnet has.
    #[must_use]
    pub fn members(&self, subnet: Subnet) -> usize {
        self.subnets.get(&subnet).map_or(0, Vec::len)
    }

    /// How many peers, on different ports, an address has.
    #[must_use]
    pub fn at_address(&self, ip: IpAddr) -> usize {
        self.addresses.get(&ip).map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX))
    }

    /// The admin seeders.
    #[must_use]
    pub fn admins(&self) -> &[Slot] {
        &self.admins
    }

    /// The slot of the peer with this address.
    #[must_use]
    pub fn find(&self, addr: &SocketAddr) -> Option<Slot> {
        self.index.get(addr).copied()
    }

    /// The peer in a slot.
    #[must_use]
    pub fn peer(&self, slot: Slot) -> &Peer {
        &self.cold[at(slot)].peer
    }

    pub(crate) fn hot(&self, slot: Slot) -> &Hot {
        &self.hot[at(slot)]
    }

    /// Adds a peer or takes its news, for `life` from now on. Who showed the same identity at another
    /// address before has moved.
    pub fn put(&mut self, peer: Peer, now: Instant, life: Duration) -> Slot {
        let expires = self.seconds(now + life);
        let slot = match self.find(&peer.addr) {
            Some(slot) => {
                self.update(slot, peer);
                slot
            }
            None => {
                let former = identity(&peer).and_then(|i| self.identities.get(&i).copied());
                if let Some(former) = former {
                    self.remove(former);
                }
                self.insert(peer)
            }
        };
        self.hot[at(slot)].expires = expires;
        slot
    }

    fn insert(&mut self, peer: Peer) -> Slot {
        let used = true;
        let hot = Hot {
            load: 0.0,
            expires: 0,
            mark: 0,
            complete: false,
            admin: false,
            demoted: false,
            used,
        };
        let cold = Cold { peer, class_at: 0, subnet_at: 0 };
        let slot = match self.free.pop() {
            Some(slot) => {
                (self.hot[at(slot)], self.cold[at(slot)]) = (hot, cold);
                slot
            }
            None => {
                self.hot.push(hot);
                self.cold.push(cold);
                number(self.cold.len() - 1)
            }
        };
        self.index.insert(peer.addr, slot);
        *self.addresses.entry(peer.addr.ip()).or_default() += 1;
        let members = self.subnets.entry(Subnet::of(&peer.addr)).or_default();
        self.cold[at(slot)].subnet_at = number(members.len());
        members.push(slot);
        self.enter(slot);
        slot
    }

    fn update(&mut self, slot: Slot, peer: Peer) {
        let old = self.cold[at(slot)].peer;
        let same = (old.id, old.key, old.complete) == (peer.id, peer.key, peer.complete);
        if !same || old.admin() != peer.admin() {
            self.leave(slot);
            self.cold[at(slot)].peer = peer;
            self.enter(slot);
        }
        if old.id != peer.id {
            self.reports.forget(&peer.addr);
            let hot = &mut self.hot[at(slot)];
            (hot.load, hot.demoted) = (0.0, false);
        }
        self.cold[at(slot)].peer = peer;
    }

    /// Into the lists that depend on more than the address.
    fn enter(&mut self, slot: Slot) {
        let cold = &mut self.cold[at(slot)];
        let list = &mut self.classes[Class::of(&cold.peer).index()];
        cold.class_at = number(list.len());
        list.push(slot);
        let admin = cold.peer.admin() && self.admins.len() < MAX_ADMINS;
        if admin {
            self.admins.push(slot);
        }
        if let Some(identity) = identity(&cold.peer) {
            self.identities.insert(identity, slot);
        }
        let hot = &mut self.hot[at(slot)];
        (hot.complete, hot.admin) = (cold.peer.complete, admin);
    }

    fn leave(&mut self, slot: Slot) {
        let Cold { peer, class_at, .. } = self.cold[at(slot)];
        let list = &mut self.classes[Class::of(&peer).index()];
        list.swap_remove(at(class_at));
        if let Some(moved) = list.get(at(class_at)) {
            self.cold[at(*moved)].class_at = class_at;
        }
        if self.hot[at(slot)].admin {
            self.admins.retain(|admin| *admin != slot);
        }
        if let Some(identity) = identity(&peer)
            && self.identities.get(&identity) == Some(&slot)
        {
            self.identities.remove(&identity);
        }
    }

    /// Takes out a peer.
    pub fn remove(&mut self, slot: Slot) -> Peer {
        self.leave(slot);
        let Cold { peer, subnet_at, .. } = self.cold[at(slot)];
        let subnet = Subnet::of(&peer.addr);
        if let Some(members) = self.subnets.get_mut(&subnet) {
            members.swap_remove(at(subnet_at));
            if let Some(moved) = members.get(at(subnet_at)) {
                self.cold[at(*moved)].subnet_at = subnet_at;
            }
            if members.is_empty() {
                self.subnets.remove(&subnet);
            }
        }
        let ip = peer.addr.ip();
        if let Some(count) = self.addresses.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&ip);
            }
        }
        self.index.remove(&peer.addr);
        self.reports.forget(&peer.addr);
        self.hot[at(slot)].used = false;
        self.free.push(slot);
        peer
    }

    /// Takes out a peer that was not heard for long: of a random few, the one for the longest time.
    pub fn remove_old(&mut self, rng: &mut Rng) {
        let total = self.hot.len();
        let all = total <= OLD_SAMPLE * 2;
        let oldest = (0..if all { total } else { OLD_SAMPLE })
            .map(|n| number(if all { n } else { rng.usize(..total) }))
            .filter(|slot| self.hot(*slot).used)
            .min_by_key(|slot| self.peer(*slot).heard);
        // a sample of slots that are all free: the first in any list
        let oldest = oldest.or_else(|| self.classes.iter().flatten().next().copied());
        if let Some(slot) = oldest {
            self.remove(slot);
        }
    }

    /// Takes out the peers whose time is over; returns how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let seconds = self.seconds(now);
        let over = |(_, hot): &(usize, &Hot)| hot.used && hot.expires <= seconds;
        let gone: Vec<Slot> =
            self.hot.iter().enumerate().filter(over).map(|(slot, _)| number(slot)).collect();
        for slot in &gone {
            self.remove(*slot);
        }
        for cleared in self.reports.fade(now) {
            if let Some(slot) = self.find(&cleared) {
                self.hot[at(slot)].demoted = false;
            }
        }
        if self.is_empty() && self.hot.len() > OLD_SAMPLE {
            *self = Self::new(now);
        }
        gone.len()
    }

    /// Others could not reach these peers, says the one at `reporter`.
    pub fn report(&mut self, reporter: IpAddr, failed: &[SocketAddr], now: Instant) {
        for target in failed {
            // who has no IPv6 must not have all of IPv6 demoted; nobody can be told of who is unknown
            let Some(slot) = self.find(target) else { continue };
            if target.is_ipv6() != reporter.is_ipv6() || target.ip() == reporter {
                continue;
            }
            let believed = self.reports.vote(reporter, *target, now);
            let room = self.reports.demoted() * 2 < self.len();
            if believed && room && !self.hot[at(slot)].demoted {
                self.reports.demote(target);
                self.hot[at(slot)].demoted = true;
            }
        }
    }

    fn seconds(&self, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.start);
        u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
    }

    /// What a hand-out adds to a load at this time: later ones weigh more, so that loads of different
    /// times can be compared as they are.
    pub(crate) fn weight(&mut self, now: Instant) -> f32 {
        let age = now.saturating_duration_since(self.load_base);
        let halvings = age.as_secs_f32() / LOAD_HALF_LIFE.as_secs_f32();
        if age < REBASE {
            return halvings.exp2();
        }
        let faded = (-halvings).exp2();
        self.hot.iter_mut().for_each(|hot| hot.load *= faded);
        self.load_base = now;
        1.0
    }

    /// Counts a hand-out.
    pub(crate) fn hand_out(&mut self, slot: Slot, weight: f32) {
        self.hot[at(slot)].load += weight;
    }

    /// Begins a drawing in which these are not drawn.
    pub(crate) fn begin_drawing(&mut self, not: impl IntoIterator<Item = Slot>) {
        self.drawing = self.drawing.wrapping_add(1);
        for slot in not {
            self.hot[at(slot)].mark = self.drawing;
        }
    }

    /// Draws up to `count` different peers without preference, in random order, into `out`: each with a
    /// rank, in which the less loaded are lower and the demoted come last. `numbers` is scratch.
    pub(crate) fn draw(
        &mut self,
        from: Group,
        count: usize,
        fit: impl Fn(&Hot) -> bool,
        rng: &mut Rng,
        numbers: &mut Vec<u32>,
        out: &mut Vec<(u32, Slot)>,
    ) {
        let none: &[Slot] = &[];
        let (first, second) = match from {
            Group::Subnet(subnet) => (self.subnets.get(&subnet).map_or(none, Vec::as_slice), none),
            Group::Family { v6, complete_too } => {
                let class = |complete| self.classes[Class { complete, v6 }.index()].as_slice();
                (class(false), if complete_too { class(true) } else { none })
            }
        };
        out.clear();
        let (hot, drawing) = (&mut self.hot, self.drawing);
        let total = first.len() + second.len();
        let mut take = |position: usize| {
            let slot = first.get(position).or_else(|| second.get(position - first.len()));
            let Some((slot, hot)) = slot.and_then(|s| Some((*s, hot.get_mut(at(*s))?))) else {
                return;
            };
            if hot.mark != drawing && fit(hot) {
                out.push((hot.load.to_bits() | u32::from(hot.demoted) << 31, slot));
            }
            hot.mark = drawing;
        };
        if total <= count * 2 {
            numbers.clear();
            numbers.extend(0..number(total));
            for done in 0..total {
                numbers.swap(done, rng.usize(done..total));
                take(at(numbers[done]));
            }
        } else {
            (0..count).for_each(|_| take(rng.usize(..total)));
        }
    }
}

/// Where peers are drawn from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Group {
    Subnet(Subnet),
    Family { v6: bool, complete_too: bool },
}

fn at(slot: Slot) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

fn number(position: usize) -> Slot {
    Slot::try_from(position).unwrap_or(Slot::MAX)
}

#[cfg(test)]
#[path = "swarm/tests.rs"]
mod tests;
