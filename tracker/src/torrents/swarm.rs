//! The peers of one torrent.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use proto::hash::PeerId;

use super::peer::Peer;
use super::pool::Pool;
use super::subnet::{Subnet, Subnets};

/// Which pool a peer is in: peer choice draws from leechers and seeds, IPv4 and IPv6 apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class {
    /// Complete peers.
    pub complete: bool,
    /// IPv6 addresses.
    pub v6: bool,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 4] = [
        Self { complete: false, v6: false },
        Self { complete: true, v6: false },
        Self { complete: false, v6: true },
        Self { complete: true, v6: true },
    ];

    fn index(self) -> usize {
        usize::from(self.complete) + 2 * usize::from(self.v6)
    }

    fn of(peer: &Peer) -> Self {
        Self { complete: peer.complete(), v6: peer.addr.is_ipv6() }
    }
}

/// Who a client is apart from its address: its peer id, its secret, its address family.
type Identity = (PeerId, Box<str>, bool);

fn identity(peer: &Peer) -> Option<Identity> {
    peer.key.clone().map(|key| (peer.id, key, peer.addr.is_ipv6()))
}

/// The peers of one torrent. A peer is its address and port: a client that restarts with a new id
/// replaces itself. One that shows the same id and `key` from a new address is moved there.
#[derive(Debug, Default)]
pub struct Swarm {
    pools: [Pool; 4],
    admins: HashSet<SocketAddr>,
    subnets: Subnets,
    identities: HashMap<Identity, SocketAddr>,
}

impl Swarm {
    /// How many peers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pools.iter().map(Pool::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pools.iter().all(Pool::is_empty)
    }

    /// Complete peers, or those that still fetch.
    #[must_use]
    pub fn count(&self, complete: bool) -> usize {
        Class::ALL.iter().filter(|c| c.complete == complete).map(|&c| self.pool(c).len()).sum()
    }

    /// One class of peers.
    #[must_use]
    pub fn pool(&self, class: Class) -> &Pool {
        &self.pools[class.index()]
    }

    /// The peers of a subnet.
    #[must_use]
    pub fn members(&self, subnet: Subnet) -> &[SocketAddr] {
        self.subnets.members(subnet)
    }

    /// In which pool a peer is, and where.
    #[must_use]
    pub fn find(&self, addr: &SocketAddr) -> Option<(Class, usize)> {
        Class::ALL.into_iter().find_map(|class| Some((class, self.pool(class).position(addr)?)))
    }

    /// One peer, to change its load.
    pub(crate) fn peer_mut(&mut self, class: Class, position: usize) -> Option<&mut Peer> {
        self.pools[class.index()].at_mut(position)
    }

    /// The admin seeders.
    pub fn admins(&self) -> impl Iterator<Item = &SocketAddr> {
        self.admins.iter()
    }

    /// The peer with this address.
    #[must_use]
    pub fn get(&self, addr: &SocketAddr) -> Option<&Peer> {
        Class::ALL.iter().find_map(|&class| self.pool(class).get(addr))
    }

    /// Every peer.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.pools.iter().flat_map(|pool| pool.as_slice())
    }

    /// Adds a peer, replacing what was known of its address and of its identity.
    pub fn insert(&mut self, peer: Peer) {
        self.remove(&peer.addr);
        if let Some(identity) = identity(&peer) {
            if let Some(former) = self.identities.get(&identity).copied() {
                self.remove(&former);
            }
            self.identities.insert(identity, peer.addr);
        }
        if peer.admin() {
            self.admins.insert(peer.addr);
        }
        self.subnets.insert(peer.addr);
        self.pools[Class::of(&peer).index()].insert(peer);
    }

    /// Takes out the peer with this address.
    pub fn remove(&mut self, addr: &SocketAddr) -> Option<Peer> {
        let peer = self.pools.iter_mut().find_map(|pool| pool.remove(addr))?;
        self.forget(&peer);
        Some(peer)
    }

    /// Takes out the peer that was not heard for the longest time.
    pub fn remove_oldest(&mut self) -> Option<Peer> {
        let addr = self.iter().min_by_key(|peer| peer.heard).map(|peer| peer.addr)?;
        self.remove(&addr)
    }

    /// Takes out the peers whose time is over; returns how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut gone = Vec::new();
        for pool in &mut self.pools {
            pool.retain(|peer| peer.expires > now, |peer| gone.push(peer.clone()));
        }
        gone.iter().for_each(|peer| self.forget(peer));
        gone.len()
    }

    fn forget(&mut self, peer: &Peer) {
        self.admins.remove(&peer.addr);
        self.subnets.remove(&peer.addr);
        if let Some(identity) = identity(peer)
            && self.identities.get(&identity) == Some(&peer.addr)
        {
            self.identities.remove(&identity);
        }
    }
}
