//! How often an address may ask, in a memory that does not grow.
//!
//! Each address has a slot in a table of fixed size, by a hash with a secret key; what a slot holds is when the
//! requests that were made so far would be used up at the allowed rate (GCRA). Two addresses in one slot
//! share what one may do, which among 10,000 nodes with a request per second each is not felt. No lock is taken,
//! and nothing has to be forgotten.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Slots: half a MiB.
const SLOTS: usize = 65_536;

/// Requests per second of one address, unless the settings say something else.
const DEFAULT: usize = 500;

/// Seconds of requests that may come at once.
const BURST_S: u64 = 2;

/// When each address may ask again.
pub(crate) struct Rates {
    slots: Box<[AtomicU64]>,
    key: RandomState,
    started: Instant,
    /// Microseconds that one request costs.
    cost: u64,
    /// The host itself is not limited, unless the limit was set.
    loopback: bool,
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rates({} µs)", self.cost)
    }
}

impl Rates {
    pub(crate) fn new(per_second: Option<usize>) -> Self {
        let rate = u64::try_from(per_second.unwrap_or(DEFAULT)).unwrap_or(u64::MAX);
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            key: RandomState::new(),
            started: Instant::now(),
            cost: (1_000_000 / rate.max(1)).max(1),
            loopback: per_second.is_some(),
        }
    }

    /// Whether a request of this address is to be answered.
    pub(crate) fn take(&self, ip: IpAddr, now: Instant) -> bool {
        if ip.is_loopback() && !self.loopback {
            return true;
        }
        let slot = usize::try_from(self.key.hash_one(network(ip))).unwrap_or(0) % SLOTS;
        let now = now.saturating_duration_since(self.started).as_micros();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let latest = now.saturating_add(BURST_S * 1_000_000);
        let next = |used: u64| {
            let used = used.max(now).saturating_add(self.cost);
            (used <= latest).then_some(used)
        };
        let Some(slot) = self.slots.get(slot) else { return true };
        slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// What one host has: an IPv4 address, or a /64.
fn network(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits() & (u128::MAX << 64),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn taken(rates: &Rates, ip: &str, now: Instant) -> usize {
        let ip = ip.parse().unwrap();
        (0..5000).filter(|_| rates.take(ip, now)).count()
    }

    #[test]
    fn an_address_has_its_rate_and_a_burst() {
        let rates = Rates::new(None);
        let now = rates.started;
        assert_eq!(taken(&rates, "10.0.0.1", now), 1000);
        assert_eq!(taken(&rates, "::ffff:10.0.0.1", now), 0, "the same host");
        assert_eq!(taken(&rates, "10.0.0.1", now + Duration::from_secs(1)), 500);
        assert_eq!(taken(&rates, "10.0.0.1", now + Duration::from_secs(99)), 1000);
        assert_eq!(taken(&rates, "2001:db8::1", now), 1000);
        assert_eq!(taken(&rates, "2001:db8::ffff:1", now), 0, "the same /64");
        assert_eq!(taken(&rates, "127.0.0.1", now), 5000);
        assert_eq!(taken(&Rates::new(Some(3)), "127.0.0.1", now), 6);
    }

    #[test]
    fn a_flood_from_everywhere_takes_no_memory_and_harms_few() {
        let rates = Rates::new(Some(1));
        let now = rates.started;
        // some hosts ask as often as they may, from ten thousand addresses
        for host in 0..10_000u32 {
            let ip = IpAddr::from((0x0a00_0000 + host).to_be_bytes());
            for _ in 0..4 {
                rates.take(ip, now);
            }
        }
        let others = (0..1000u32).map(|host| IpAddr::from((0xc0a8_0000 + host).to_be_bytes()));
        let served = others.filter(|ip| rates.take(*ip, now)).count();
        assert!(served > 700, "{served} of 1000");
    }
}
