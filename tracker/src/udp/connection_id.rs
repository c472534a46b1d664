//! Connection ids (BEP 15): who shows one has received a datagram at its address.
//!
//! ```text
//!  16 bits: second of issue, modulo 2^16 │ 48 bits: keyed digest of (address, second of issue)
//! ```
//!
//! Nothing is kept per client, so a flood of connects with invented addresses fills nothing. The digest
//! is SipHash with a key made at start: after a restart clients connect anew. Of 2^48 guesses one is
//! right, for one address; and it would announce a peer that is not there, which is demoted.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long an id is taken (BEP 15: two minutes).
pub(crate) const LIFE: Duration = Duration::from_secs(120);

const DIGEST: u64 = (1 << 48) - 1;

/// Issues and verifies connection ids.
#[derive(Debug)]
pub(crate) struct ConnectionIds {
    secret: RandomState,
    start: Instant,
}

impl ConnectionIds {
    /// With a key of its own.
    pub(crate) fn new(now: Instant) -> Self {
        Self { secret: RandomState::new(), start: now }
    }

    /// An id for the client at this address.
    pub(crate) fn issue(&self, ip: IpAddr, now: Instant) -> u64 {
        let second = self.second(now);
        (second & 0xffff) << 48 | self.digest(ip, second)
    }

    /// Whether the client at this address was given the id in the last two minutes.
    pub(crate) fn is_valid(&self, id: u64, ip: IpAddr, now: Instant) -> bool {
        let second = self.second(now);
        let age = second.wrapping_sub(id >> 48) & 0xffff;
        age <= LIFE.as_secs() && age <= second && id & DIGEST == self.digest(ip, second - age)
    }

    fn digest(&self, ip: IpAddr, second: u64) -> u64 {
        self.secret.hash_one((ip, second)) & DIGEST
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_good_for_its_address_and_two_minutes() {
        let start = Instant::now();
        let ids = ConnectionIds::new(start);
        let [here, there, v6] =
            ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        // also when the 16 bits of the second have gone round
        for age in [0, 1, 7, 119, 65_530, 65_536, 200_000] {
            let issued = start + Duration::from_secs(age);
            for ip in [here, v6] {
                let id = ids.issue(ip, issued);
                assert!(ids.is_valid(id, ip, issued), "{age}");
                assert!(ids.is_valid(id, ip, issued + LIFE), "{age}");
                assert!(!ids.is_valid(id, ip, issued + LIFE + Duration::from_secs(1)));
                assert!(!ids.is_valid(id, ip, issued + Duration::from_secs(1 << 16)));
                assert!(!ids.is_valid(id, there, issued));
                assert!(!ConnectionIds::new(start).is_valid(id, ip, issued), "another key");
                (0..64).for_each(|bit| assert!(!ids.is_valid(id ^ 1 << bit, ip, issued)));
            }
        }
    }

    #[test]
    fn guesses_fail() {
        let ids = ConnectionIds::new(Instant::now());
        let (ip, mut rng) = ("10.0.0.1".parse().unwrap(), fastrand::Rng::with_seed(1));
        assert!((0..100_000).all(|_| !ids.is_valid(rng.u64(..), ip, Instant::now())));
        assert!(!ids.is_valid(0, ip, Instant::now()));
    }
}
