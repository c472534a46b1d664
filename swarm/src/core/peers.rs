//! The connected peers, in the order of their keys.
//!
//! Keys only grow, so a new peer goes to the end and a plain vector stays sorted: looking at all peers,
//! which happens for every block, walks through memory in order.

use proto::geometry::PieceIndex;

use super::action::PeerKey;
use super::peer::Peer;

/// Connected peers by key.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Sorted; apart from the peers, so that a search touches little memory.
    keys: Vec<PeerKey>,
    /// In the order of `keys`.
    peers: Vec<Peer>,
    /// Those that can be asked, counted for every request.
    askable: usize,
}

impl Peers {
    fn at(&self, key: PeerKey) -> Option<usize> {
        // keys are given one after another: while nobody has left, a key says where it is
        let first = self.keys.first()?.0;
        let guess = key.0.checked_sub(first)? as usize;
        match self.keys.get(guess) {
            Some(there) if *there == key => Some(guess),
            _ => self.keys.binary_search(&key).ok(),
        }
    }

    pub(crate) fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.peers.get(self.at(key)?)
    }

    pub(crate) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let at = self.at(key)?;
        self.peers.get_mut(at)
    }

    /// Adds a peer, or takes the place of the one with this key.
    pub(crate) fn insert(&mut self, key: PeerKey, peer: Peer) {
        match self.keys.binary_search(&key) {
            Ok(at) => {
                self.change_at(at, |old| *old = peer);
            }
            Err(at) => {
                self.askable += usize::from(peer.can_be_asked());
                self.keys.insert(at, key);
                self.peers.insert(at, peer);
            }
        }
    }

    pub(crate) fn remove(&mut self, key: PeerKey) -> Option<Peer> {
        let at = self.at(key)?;
        self.keys.remove(at);
        let peer = self.peers.remove(at);
        self.askable -= usize::from(peer.can_be_asked());
        Some(peer)
    }

    /// Changes a peer in a way that may decide whether it can be asked.
    pub(crate) fn change<R>(
        &mut self,
        key: PeerKey,
        how: impl FnOnce(&mut Peer) -> R,
    ) -> Option<R> {
        let at = self.at(key)?;
        self.change_at(at, how)
    }

    /// The same for the peer at a place in the order.
    pub(crate) fn change_at<R>(
        &mut self,
        at: usize,
        how: impl FnOnce(&mut Peer) -> R,
    ) -> Option<R> {
        let peer = self.peers.get_mut(at)?;
        self.askable -= usize::from(peer.can_be_asked());
        let result = how(peer);
        self.askable += usize::from(peer.can_be_asked());
        Some(result)
    }

    /// How many can be asked ([`Peer::can_be_asked`]).
    pub(crate) fn askable(&self) -> usize {
        debug_assert_eq!(
            self.askable,
            self.peers.iter().filter(|p| p.can_be_asked()).count(),
            "changed beside `change`"
        );
        self.askable
    }

    /// Who lacks a piece, in order. All bits are looked at before anything else is done: they are far
    /// apart in memory, and fetched side by side like this.
    pub(crate) fn lacking(&self, piece: PieceIndex) -> Vec<bool> {
        self.peers.iter().map(|peer| !peer.has.has(piece)).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key at a place in the order; none past the end. For loops that change peers on the way
    /// and neither add nor remove any.
    pub(crate) fn key_at(&self, at: usize) -> Option<PeerKey> {
        self.keys.get(at).copied()
    }

    /// The peer at a place in the order, with its key.
    pub(crate) fn entry_at(&mut self, at: usize) -> Option<(PeerKey, &mut Peer)> {
        Some((*self.keys.get(at)?, self.peers.get_mut(at)?))
    }

    pub(crate) fn keys(&self) -> Vec<PeerKey> {
        self.keys.clone()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    /// For changes that do not decide whether a peer can be asked.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerKey, &mut Peer)> {
        self.keys.iter().copied().zip(&mut self.peers)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        self.keys.iter().copied().zip(&self.peers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::Identity;
    use proto::hash::PeerId;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn peer(n: u8) -> Peer {
        let identity = Identity { ip: Ipv4Addr::LOCALHOST.into(), id: PeerId([n; 20]) };
        Peer::new(identity, true, 8, Duration::ZERO, 250)
    }

    #[test]
    fn keeps_the_order_of_keys_whatever_comes_and_goes() {
        let mut peers = Peers::default();
        let mut model = std::collections::BTreeMap::new();
        let mut rng = fastrand::Rng::with_seed(7);
        for step in 0..2_000u32 {
            let (key, id) = (PeerKey(rng.u32(..40)), rng.u8(..));
            if rng.bool() {
                peers.insert(key, peer(id));
                model.insert(key, id);
            } else {
                let removed = peers.remove(key).map(|p| p.identity.id.0[0]);
                assert_eq!(removed, model.remove(&key), "step {step}");
            }
            let useful = rng.u32(..2);
            peers.change(PeerKey(rng.u32(..40)), |peer| {
                (peer.chokes_us, peer.useful) = (false, useful);
            });
            let askable = peers.iter().filter(|(_, p)| p.can_be_asked()).count();
            assert_eq!(peers.askable(), askable, "step {step}");
            let seen: Vec<(PeerKey, u8)> =
                peers.iter().map(|(k, p)| (k, p.identity.id.0[0])).collect();
            assert!(seen.iter().copied().eq(model.iter().map(|(k, id)| (*k, *id))), "step {step}");
            assert_eq!(
                (peers.len(), peers.get(key).is_some()),
                (model.len(), model.contains_key(&key))
            );
            let last = peers.len().checked_sub(1).and_then(|at| peers.key_at(at));
            assert_eq!(last, model.keys().last().copied());
        }
    }
}
