//! A set of peers from which a random one is found in constant time.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::peer::Peer;

/// Peers by address and by position. Removing one moves the last into its place, so positions are
/// good until the next change only.
#[derive(Debug, Default)]
pub struct Pool {
    peers: Vec<Peer>,
    position: HashMap<SocketAddr, usize>,
}

impl Pool {
    /// How many peers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The peers by position.
    #[must_use]
    pub fn as_slice(&self) -> &[Peer] {
        &self.peers
    }

    /// The peer at `position`, to change; its address must stay.
    pub fn at_mut(&mut self, position: usize) -> Option<&mut Peer> {
        self.peers.get_mut(position)
    }

    /// The peer with this address.
    #[must_use]
    pub fn get(&self, addr: &SocketAddr) -> Option<&Peer> {
        self.position.get(addr).and_then(|&position| self.peers.get(position))
    }

    /// Where the peer with this address stands now.
    #[must_use]
    pub fn position(&self, addr: &SocketAddr) -> Option<usize> {
        self.position.get(addr).copied()
    }

    /// Adds a peer, or replaces the one with its address.
    pub fn insert(&mut self, peer: Peer) {
        if let Some(&position) = self.position.get(&peer.addr) {
            self.peers[position] = peer;
        } else {
            self.position.insert(peer.addr, self.peers.len());
            self.peers.push(peer);
        }
    }

    /// Takes out the peer with this address.
    pub fn remove(&mut self, addr: &SocketAddr) -> Option<Peer> {
        let position = self.position.remove(addr)?;
        let peer = self.peers.swap_remove(position);
        if let Some(moved) = self.peers.get(position) {
            self.position.insert(moved.addr, position);
        }
        Some(peer)
    }

    /// Keeps the peers that `keep` wants and calls `gone` with each other one.
    pub fn retain(&mut self, keep: impl Fn(&Peer) -> bool, mut gone: impl FnMut(&Peer)) {
        let mut position = 0;
        while let Some(peer) = self.peers.get(position) {
            if keep(peer) {
                position += 1;
            } else {
                let addr = peer.addr;
                if let Some(peer) = self.remove(&addr) {
                    gone(&peer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrents::peer::Load;
    use proto::hash::PeerId;
    use std::time::Instant;

    fn peer(port: u16) -> Peer {
        let now = Instant::now();
        Peer {
            addr: SocketAddr::from(([10, 0, 0, 1], port)),
            id: PeerId([0; 20]),
            key: None,
            left: u64::from(port),
            seed_from_start: false,
            heard: now,
            expires: now,
            load: Load::none(now),
        }
    }

    #[test]
    fn addresses_and_positions_agree_after_any_removals() {
        let mut pool = Pool::default();
        for port in 1..=50 {
            pool.insert(peer(port));
        }
        pool.insert(peer(7));
        assert_eq!(pool.len(), 50);
        for port in (1..=50).step_by(3) {
            assert_eq!(pool.remove(&peer(port).addr).map(|p| p.left), Some(u64::from(port)));
            assert!(pool.remove(&peer(port).addr).is_none());
        }
        let mut gone = Vec::new();
        pool.retain(|p| p.left % 2 == 0, |p| gone.push(p.left));
        assert!(gone.iter().all(|left| left % 2 == 1));
        for position in 0..pool.len() {
            let addr = pool.as_slice()[position].addr;
            assert_eq!(pool.get(&addr).unwrap().addr, addr);
        }
        assert_eq!(pool.len() + gone.len(), 50 - 17);
    }
}
