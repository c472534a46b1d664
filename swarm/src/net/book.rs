//! Addresses of peers: which to dial, when again, which are connected.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::segment;
use crate::core::{Moment, PeerKey};
use crate::sorted::SortedMap;

/// Most addresses kept.
const MAX_ADDRESSES: usize = 2_000;

/// First wait after a failure; doubles up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(800);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Of these, named by other peers or by multicast, in all and by one address.
const MAX_HEARSAY: usize = 500;
const MAX_FROM_ONE: usize = 50;

/// An address that another peer named is given up after this many failures in a row …
const GIVE_UP: u32 = 3;

/// … and not tried again for this long, whoever names it.
const GIVEN_UP: Duration = Duration::from_secs(600);

/// Dials in ten that go to our own subnet, while there is somebody to dial in it and elsewhere.
const NEAR: u8 = 8;

/// A peer that is complete, like us, is not worth dialling again for this long.
const COMPLETE_WAIT: Duration = Duration::from_secs(900);

/// Who named an address; the first are dialled first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A tracker or the user; or data went over a connection with it.
    Told,
    /// It did so itself: by multicast (BEP 14), or when it connected to us.
    Itself,
    /// A peer at this address (BEP 11).
    Peer(IpAddr),
}

impl Origin {
    fn rank(self) -> u8 {
        match self {
            Self::Told => 0,
            Self::Itself => 1,
            Self::Peer(_) => 2,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle {
        again_at: Moment,
    },
    Dialing,
    /// Hearsay that led nowhere.
    GivenUp {
        until: Moment,
    },
    Connected(PeerKey),
    /// Ourselves, or somebody banned.
    Never,
}

#[derive(Debug)]
struct Entry {
    state: State,
    origin: Origin,
    failures: u32,
    complete_at: Option<Moment>,
}

/// Known addresses.
#[derive(Debug, Default)]
pub(crate) struct Book {
    entries: SortedMap<SocketAddr, Entry>,
    dialing: usize,
    /// Our address, as the last connection shows it.
    home: Option<IpAddr>,
}

impl Book {
    /// Adds an address that a tracker or the user names. When full, one that failed most is
    /// replaced.
    pub(crate) fn add(&mut self, address: SocketAddr) {
        let address = canonical(address);
        if !is_usable(address) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.origin = Origin::Told;
            if matches!(entry.state, State::GivenUp { .. }) {
                entry.state = State::Idle { again_at: Moment::ZERO };
            }
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
        self.insert(address, Origin::Told);
    }

    fn insert(&mut self, address: SocketAddr, origin: Origin) {
        let state = State::Idle { again_at: Moment::ZERO };
        self.entries.insert(address, Entry { state, origin, failures: 0, complete_at: None });
    }

    /// Adds an address that only a peer vouches for, within bounds; whether it is new.
    pub(crate) fn hear(&mut self, address: SocketAddr, origin: Origin, now: Moment) -> bool {
        let address = canonical(address);
        if !is_usable(address) || self.entries.contains_key(&address) {
            return false;
        }
        self.entries.retain(|_, e| !matches!(e.state, State::GivenUp { until } if until <= now));
        let source = |address: &SocketAddr, origin: Origin| match origin {
            Origin::Peer(from) => from,
            Origin::Itself | Origin::Told => address.ip(),
        };
        let from = source(&address, origin);
        let (mut all, mut from_one) = (0, 0);
        for (known, entry) in self.entries.iter().filter(|(_, e)| e.origin != Origin::Told) {
            all += 1;
            from_one += usize::from(source(known, entry.origin) == from);
        }
        let full = self.entries.len() >= MAX_ADDRESSES || all >= MAX_HEARSAY;
        if full || from_one >= MAX_FROM_ONE {
            return false;
        }
        self.insert(address, origin);
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// We are at this address.
    pub(crate) fn at_home(&mut self, ours: IpAddr) {
        self.home = Some(ours);
    }

    pub(crate) fn dialing(&self) -> usize {
        self.dialing
    }

    /// A random address that may be dialled now, mostly of our own subnet; it counts as being dialled
    /// from here on. With `complete` set, peers known to be complete are left out.
    pub(crate) fn next(&mut self, now: Moment, complete: bool) -> Option<SocketAddr> {
        let due = |entry: &Entry| {
            let known_complete =
                entry.complete_at.is_some_and(|at| now.saturating_sub(at) < COMPLETE_WAIT);
            matches!(entry.state, State::Idle { again_at } if again_at <= now)
                && !(complete && known_complete)
        };
        let rank = self.entries.values().filter(|e| due(e)).map(|e| e.origin.rank()).min()?;
        let due = |entry: &Entry| entry.origin.rank() == rank && due(entry);
        let home = self.home;
        let is_near =
            |address: &SocketAddr| home.is_some_and(|ours| segment::is_shared(ours, address.ip()));
        let all = self.entries.values().filter(|e| due(e)).count();
        let near = self.entries.iter().filter(|(a, e)| due(e) && is_near(a)).count();
        let choose_near = near > 0 && (near == all || fastrand::u8(..10) < NEAR);
        let count = if choose_near { near } else { all };
        let (address, entry) = self
            .entries
            .iter_mut()
            .filter(|(address, entry)| due(entry) && (!choose_near || is_near(address)))
            .nth(fastrand::usize(..count))?;
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
            entry.state = match entry.origin {
                Origin::Peer(_) if entry.failures >= GIVE_UP => {
                    State::GivenUp { until: now + GIVEN_UP }
                }
                _ => State::Idle { again_at: now + jittered(wait) },
            };
        }
    }

    /// A connection to the address is up.
    pub(crate) fn connected(&mut self, address: SocketAddr, key: PeerKey) {
        self.leave_dialing(canonical(address), State::Connected(key));
    }

    /// Who is connected says that it listens at this address of its own.
    pub(crate) fn listens(&mut self, address: SocketAddr, key: PeerKey, now: Moment) {
        self.hear(address, Origin::Itself, now);
        self.leave_dialing(canonical(address), State::Connected(key));
    }

    /// The connection that was up is closed. `useful`: it carried something, so dial again soon.
    pub(crate) fn closed(&mut self, key: PeerKey, useful: bool, complete: bool, now: Moment) {
        for entry in self.entries.values_mut().filter(|e| e.state == State::Connected(key)) {
            entry.failures = if useful { 0 } else { (entry.failures + 1).min(6) };
            if useful {
                entry.origin = Origin::Told;
            }
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

fn is_usable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// IPv4 written as IPv6 (dual-stack sockets) and IPv4 are the same peer; the interface stays with a
/// link-local address.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
        }
        _ => SocketAddr::new(address.ip().to_canonical(), address.port()),
    }
}

/// The same host, and for a link-local address the same interface, on another port.
pub(crate) fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
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
            let state = book.entries.get(&address(1)).unwrap().state;
            let State::Idle { again_at } = state else { panic!("{state:?}") };
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
        book.listens(address(1), PeerKey(5), SEC(0));
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
    fn most_dials_stay_in_the_subnet_and_some_leave_it() {
        let mut near = 0;
        for _ in 0..200 {
            let mut book = Book::default();
            let at = |subnet: u8, host: u8| SocketAddr::from(([10, 0, subnet, host], 6881));
            (1..=20).for_each(|host| book.add(at(1, host)));
            (1..=200).for_each(|host| book.add(at(2, host)));
            book.at_home(IpAddr::from([10, 0, 1, 99]));
            let first = book.next(SEC(0), false).unwrap();
            near += u32::from(first.ip() < IpAddr::from([10, 0, 2, 0]));
            let rest = std::iter::from_fn(|| book.next(SEC(0), false)).count();
            assert_eq!(rest, 219, "everybody's turn comes");
        }
        assert!((130..190).contains(&near), "{near} of 200");
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

    #[test]
    fn hearsay_is_bounded_and_comes_last() {
        let mut book = Book::default();
        let from = |n: u8| Origin::Peer(IpAddr::from([10, 0, 0, n]));
        let named = |source: u8, n: u8| SocketAddr::from(([10, 1, source, n], 6881));
        for source in 0..=20 {
            let new = (0..=255).filter(|n| book.hear(named(source, *n), from(source), SEC(0)));
            assert_eq!(new.count(), if source < 10 { MAX_FROM_ONE } else { 0 }, "{source}");
        }
        assert_eq!(book.len(), MAX_HEARSAY);
        book.add(address(7));
        assert_eq!(book.next(SEC(1), false), Some(address(7)), "the tracker's first");
        assert!(book.next(SEC(1), false).is_some_and(|a| a != address(7)));
        // a tracker finds room whatever was heard
        (1..=2000).for_each(|port| book.add(address(port)));
        assert_eq!(book.len(), MAX_ADDRESSES);
    }

    #[test]
    fn hearsay_that_leads_nowhere_is_given_up() {
        let mut book = Book::default();
        let liar = Origin::Peer(IpAddr::from([10, 0, 0, 1]));
        assert!(book.hear(address(1), liar, SEC(0)));
        let mut dials = 0;
        for second in 0..500 {
            book.hear(address(1), liar, SEC(second));
            if book.next(SEC(second), false).is_some() {
                book.failed(address(1), SEC(second));
                dials += 1;
            }
        }
        assert_eq!(dials, GIVE_UP);
        book.add(address(1));
        assert_eq!(book.next(SEC(500), false), Some(address(1)), "unless the tracker says so");
        // and what was of use is believed from then on
        assert!(book.hear(address(2), liar, SEC(500)));
        book.connected(address(2), PeerKey(1));
        book.closed(PeerKey(1), true, false, SEC(600));
        assert_eq!(book.entries.get(&address(2)).unwrap().origin, Origin::Told);
    }

    #[test]
    fn link_local_addresses_keep_their_interface() {
        let address = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 6881, 5, 3));
        let SocketAddr::V6(kept) = canonical(address) else { panic!("IPv6") };
        assert_eq!((kept.scope_id(), kept.flowinfo()), (3, 0));
    }
}
