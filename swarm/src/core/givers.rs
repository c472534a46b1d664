//! Who gave how much, by address: a peer that comes back over another connection is the same giver.

use std::net::IpAddr;

use crate::sorted::SortedMap;

/// Most addresses that are kept apart; what comes from further ones is a sum.
const MOST: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Givers {
    given: SortedMap<IpAddr, u64>,
    others: u64,
}

impl Givers {
    /// Verified bytes of a peer.
    pub(crate) fn add(&mut self, from: IpAddr, bytes: u64) {
        if self.given.len() < MOST || self.given.contains_key(&from) {
            *self.given.get_or_insert_with(from, || 0) += bytes;
        } else {
            self.others += bytes;
        }
    }

    /// Each address with its bytes, by address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, u64)> {
        self.given.iter().map(|(from, bytes)| (*from, *bytes))
    }

    /// Bytes of those that are not kept apart.
    pub(crate) fn others(&self) -> u64 {
        self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_lost_and_no_more_than_some_addresses_are_kept() {
        let mut givers = Givers::default();
        for round in 0..3_u64 {
            for n in 0..100_u8 {
                givers.add(IpAddr::from([10, 0, 0, n]), round + u64::from(n));
            }
        }
        assert_eq!(givers.iter().count(), MOST);
        let named: u64 = givers.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(named + givers.others(), 3 * (0..100).sum::<u64>() + 100 * 3);
        assert!(givers.iter().all(|(from, bytes)| match from {
            IpAddr::V4(ip) => bytes == 3 + 3 * u64::from(ip.octets()[3]),
            IpAddr::V6(_) => false,
        }));
    }
}
