//! Addresses of peers: which to dial, when again, which are connected.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::core::{Moment, PeerKey};

/// Most addresses kept.
const MAX_ADDRESSES: usize = 2_000;

/// First wait after a failure; doubles up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(800);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A peer that is complete, like us, is not worth dialling again for this long.
const COMPLETE_WAIT: Duration = Duration::from_secs(900);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle {
        again_at: Moment,
    },
    Dialing,
    Connected(PeerKey),
    /// Ourselves, or somebody banned.
    Never,
}

#[derive(Debug)]
struct Entry {
    state: State,
    failures: u32,
    complete_at: Option<Moment>,
}

/// Known addresses.
#[derive(Debug, Default)]
pub(crate) struct Book {
    entries: BTreeMap<SocketAddr, Entry>,
    dialing: usize,
}

impl Book {
    /// Adds an address from outside. When full, one that failed most is replaced.
    pub(crate) fn add(&mut self, address: SocketAddr) {
        let address = canonical(address);
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            return;
        }
        if self.entries.contains_key(&address) {
            return;
        }
        if self.entries.len() >= MAX_ADDRESSES {
            let worst = self
                .entries
                .iter()
                .filter(|(_, e)| matches!(e.state, State::Idle { .. }) && e.failures > 0)
                .max_by_key(|(_, e)| e.failures)
                .map(|(address, _)| *address);
            match worst {
                Some(worst) => drop(self.entries.remove(&worst)),
                None => return,
            }
        }
        let state = State::Idle { again_at: Moment::ZERO };
        self.entries.insert(address, Entry { state, failures: 0, complete_at: None });
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn dialing(&self) -> usize {
        self.dialing
    }

    /// A random address that may be dialled now; it counts as being dialled from here on. With
    /// `complete` set, peers known to be complete are left out.
    pub(crate) fn next(&mut self, now: Moment, complete: bool) -> Option<SocketAddr> {
        let due = |entry: &Entry| {
            let known_complete =
                entry.complete_at.is_some_and(|at| now.saturating_sub(at) < COMPLETE_WAIT);
            matches!(entry.state, State::Idle { again_at } if again_at <= now)
                && !(complete && known_complete)
        };
        let count = self.entries.values().filter(|e| due(e)).count();
        if count == 0 {
            return None;
        }
        let (address, entry) =
            self.entries.iter_mut().filter(|(_, e)| due(e)).nth(fastrand::usize(..count))?;
        entry.state = State::Dialing;
        self.dialing += 1;
        Some(*address)
    }

    fn leave_dialing(&mut self, address: SocketAddr, state: State) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&address)?;
        if entry.state == State::Dialing {
            self.dialing -= 1;
        }
        entry.state = state;
        Some(entry)
    }

    /// The dial failed, or the peer hung up before it was of use.
    pub(crate) fn failed(&mut self, address: SocketAddr, now: Moment) {
        let address = canonical(address);
        if let Some(entry) = self.leave_dialing(address, State::Dialing) {
            entry.failures += 1;
            let wait = (FIRST_WAIT * 2u32.saturating_pow(entry.failures.min(10) - 1)).min(MAX_WAIT);
            entry.state = State::Idle { again_at: now + jittered(wait) };
        }
    }

    /// A connection to (or, with its listen port known, from) the address is up.
    pub(crate) fn connected(&mut self, address: SocketAddr, key: PeerKey) {
        let address = canonical(address);
        self.add(address);
        self.leave_dialing(address, State::Connected(key));
    }

    /// The connection that was up is closed. `useful`: it carried something, so dial again soon.
    pub(crate) fn closed(&mut self, key: PeerKey, useful: bool, complete: bool, now: Moment) {
        for entry in self.entries.values_mut().filter(|e| e.state == State::Connected(key)) {
            entry.failures = if useful { 0 } else { (entry.failures + 1).min(6) };
            if complete {
                entry.complete_at = Some(now);
            }
            let wait = FIRST_WAIT * 2u32.saturating_pow(entry.failures);
            entry.state = State::Idle { again_at: now + jittered(wait.min(MAX_WAIT)) };
        }
    }

    /// It is us, or somebody banned: never again.
    pub(crate) fn forget(&mut self, address: SocketAddr) {
        self.leave_dialing(canonical(address), State::Never);
    }

    /// Dial everybody again at once: the network came back, or the tracker says that they live.
    pub(crate) fn hurry(&mut self, addresses: &[SocketAddr], now: Moment) {
        for address in addresses {
            if let Some(entry) = self.entries.get_mut(&canonical(*address))
                && let State::Idle { again_at } = &mut entry.state
            {
                *again_at = (*again_at).min(now + Duration::from_secs(1));
            }
        }
    }
}

/// IPv4 written as IPv6 (dual-stack sockets) and IPv4 are the same peer.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

/// Between 75 % and 125 % of `wait`.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 4);
    Duration::from_millis(millis * 3 / 4 + fastrand::u64(0..=millis / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    const SEC: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn waits_longer_after_each_failure() {
        let mut book = Book::default();
        book.add(address(1));
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(book.next(now, false), Some(address(1)));
            assert_eq!(book.next(now + SEC(1000), false), None, "it is being dialled");
            book.failed(address(1), now);
            assert_eq!(book.dialing(), 0);
            let State::Idle { again_at } = book.entries[&address(1)].state else { panic!("idle") };
            waits.push(again_at - now);
            now = again_at;
        }
        // a quarter of jitter either way: two doublings always show
        assert!(waits.windows(3).take(4).all(|w| w[2] > w[0]), "{waits:?}");
        assert!(waits[7] <= MAX_WAIT * 5 / 4);
    }

    #[test]
    fn complete_peers_are_left_alone_by_complete_ones() {
        let mut book = Book::default();
        book.connected(address(1), PeerKey(5));
        assert_eq!(book.next(SEC(9), false), None);
        book.closed(PeerKey(5), true, true, SEC(10));
        assert_eq!(book.next(SEC(20), true), None);
        assert_eq!(book.next(SEC(20), false), Some(address(1)));
        book.forget(address(1));
        assert_eq!(book.dialing(), 0);
        book.add(address(1));
        assert_eq!(book.next(SEC(9999), false), None);
    }

    #[test]
    fn is_bounded_and_skips_nonsense() {
        let mut book = Book::default();
        for port in 0..=u16::MAX {
            book.add(address(port));
        }
        assert_eq!(book.len(), MAX_ADDRESSES);
        book.add("[::ffff:127.0.0.1]:1".parse().unwrap());
        assert_eq!(book.len(), MAX_ADDRESSES);
        let mut small = Book::default();
        small.add("0.0.0.0:5".parse().unwrap());
        small.add("224.0.0.1:5".parse().unwrap());
        assert_eq!(small.len(), 0);
    }
}
