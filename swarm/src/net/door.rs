//! Who may come in: bounds on handshakes under way, and pauses for those that misbehave.
//!
//! An address (IPv6: its /64) that fails handshakes or sends garbage has some tries free, then is
//! turned away at once for a time that doubles with every further failure. Time forgives.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::Moment;

/// Handshakes under way at once, in all and from one address.
const MAX_HANDSHAKES: usize = 512;
const MAX_PER_ADDRESS: usize = 64;

/// Failures without consequence.
const FREE: u32 = 8;

/// The first pause; it doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// One failure is forgiven after this long.
const FORGIVE: Duration = Duration::from_secs(30);

/// Most addresses remembered.
const MAX_ADDRESSES: usize = 4_096;

/// Why a connection was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("too many handshakes are under way")]
    Crowded,
    #[error("too many handshakes from this address are under way")]
    CrowdedAddress,
    #[error("this address failed too often; it is put off for {0:?}")]
    PutOff(Duration),
}

/// The door of a session.
#[derive(Debug, Default)]
pub(crate) struct Door(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    handshakes: usize,
    visitors: Vec<Visitor>,
}

#[derive(Debug, Clone, Copy)]
struct Visitor {
    address: IpAddr,
    handshakes: usize,
    strikes: u32,
    struck_at: Moment,
    put_off_until: Moment,
}

/// A handshake under way; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Pass {
    door: Arc<Door>,
    address: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inner = self.door.lock();
        inner.handshakes -= 1;
        let visitor = inner.visitor(self.address);
        visitor.handshakes -= 1;
        if visitor.handshakes == 0 && visitor.strikes == 0 {
            inner.visitors.retain(|visitor| visitor.address != self.address);
        }
    }
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection from `address` was accepted: may it shake hands?
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, now: Moment) -> Result<Pass, Refusal> {
        let address = network(address);
        let mut inner = self.lock();
        if inner.handshakes >= MAX_HANDSHAKES {
            return Err(Refusal::Crowded);
        }
        let visitor = inner.visitor(address);
        if visitor.put_off_until > now {
            return Err(Refusal::PutOff(visitor.put_off_until - now));
        }
        if visitor.handshakes >= MAX_PER_ADDRESS {
            return Err(Refusal::CrowdedAddress);
        }
        visitor.handshakes += 1;
        inner.handshakes += 1;
        Ok(Pass { door: self.clone(), address })
    }

    /// Somebody at `address` did not behave like a peer.
    pub(crate) fn strike(&self, address: IpAddr, now: Moment) {
        let mut inner = self.lock();
        if inner.visitors.len() >= MAX_ADDRESSES {
            inner.forget_the_oldest();
        }
        let visitor = inner.visitor(network(address));
        let quiet = now.saturating_sub(visitor.struck_at).as_secs() / FORGIVE.as_secs();
        let forgiven = u32::try_from(quiet).unwrap_or(u32::MAX);
        visitor.strikes = visitor.strikes.saturating_sub(forgiven).saturating_add(1);
        visitor.struck_at = now;
        if visitor.strikes > FREE {
            let doublings = (visitor.strikes - FREE - 1).min(16);
            visitor.put_off_until = now + (PAUSE * 2u32.pow(doublings)).min(MAX_PAUSE);
        }
    }
}

impl Inner {
    /// What is known of an address; nothing, at first.
    fn visitor(&mut self, address: IpAddr) -> &mut Visitor {
        let known = self.visitors.iter().position(|visitor| visitor.address == address);
        let at = known.unwrap_or_else(|| {
            let (struck_at, put_off_until) = (Moment::ZERO, Moment::ZERO);
            let new = Visitor { address, handshakes: 0, strikes: 0, struck_at, put_off_until };
            self.visitors.push(new);
            self.visitors.len() - 1
        });
        &mut self.visitors[at]
    }

    fn forget_the_oldest(&mut self) {
        let idle = self.visitors.iter().enumerate().filter(|(_, v)| v.handshakes == 0);
        if let Some((oldest, _)) = idle.min_by_key(|(_, v)| v.struck_at) {
            self.visitors.swap_remove(oldest);
        }
    }
}

/// Who controls one IPv6 address controls its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: fn(u64) -> Duration = Duration::from_secs;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn pauses_grow_and_are_forgiven() {
        let door = Arc::new(Door::default());
        let bad = ip("10.0.0.1");
        for _ in 0..FREE {
            door.strike(bad, SEC(1));
        }
        assert!(door.enter(bad, SEC(1)).is_ok(), "some failures are free");
        let mut pauses = Vec::new();
        for _ in 0..12 {
            door.strike(bad, SEC(1));
            match door.enter(bad, SEC(1)).unwrap_err() {
                Refusal::PutOff(pause) => pauses.push(pause.as_secs()),
                other => panic!("{other}"),
            }
        }
        assert_eq!(pauses[..5], [1, 2, 4, 8, 16]);
        assert_eq!(pauses[11], 300);
        assert!(door.enter(ip("10.0.0.2"), SEC(1)).is_ok(), "others are not meant");
        assert!(door.enter(bad, SEC(302)).is_ok());
        // ten minutes are twenty failures: it starts from nothing
        door.strike(bad, SEC(602));
        assert!(door.enter(bad, SEC(602)).is_ok());
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let door = Arc::new(Door::default());
        let held: Vec<Pass> =
            (0..MAX_PER_ADDRESS).map(|_| door.enter(ip("fd00::1"), SEC(0)).unwrap()).collect();
        // another address of the same /64, and of another one
        assert_eq!(door.enter(ip("fd00::2"), SEC(0)).unwrap_err(), Refusal::CrowdedAddress);
        let other = door.enter(ip("fd00:0:0:1::1"), SEC(0)).unwrap();
        drop(held);
        door.enter(ip("fd00::2"), SEC(0)).unwrap();
        drop(other);
        assert_eq!(door.lock().handshakes, 0);
        assert!(door.lock().visitors.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let door = Arc::new(Door::default());
        for n in 0..10_000u32 {
            door.strike(IpAddr::V4(n.into()), SEC(u64::from(n)));
        }
        assert_eq!(door.lock().visitors.len(), MAX_ADDRESSES);
        let all: Result<Vec<Pass>, Refusal> =
            (0..1_000u32).map(|n| door.enter(IpAddr::V4(n.into()), SEC(0))).collect();
        assert_eq!(all.unwrap_err(), Refusal::Crowded);
    }
}
