//! Who is in which part of the network.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// A part of the network, as addresses tell: an IPv4 /24 or an IPv6 /64. What is inside may be
/// joined to others by a link no faster than one node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet(u128);

impl Subnet {
    /// Where an address is.
    #[must_use]
    pub fn of(addr: &SocketAddr) -> Self {
        Self(match addr.ip().to_canonical() {
            IpAddr::V4(ip) => u128::from(ip.to_bits() >> 8),
            // no IPv6 prefix in use begins with 64 zeros
            IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
        })
    }
}

/// The peers of each subnet, from which a random one is found in constant time.
#[derive(Debug, Default)]
pub struct Subnets {
    members: HashMap<Subnet, Vec<SocketAddr>>,
    position: HashMap<SocketAddr, usize>,
}

impl Subnets {
    /// The peers in a subnet, in no order.
    #[must_use]
    pub fn members(&self, subnet: Subnet) -> &[SocketAddr] {
        self.members.get(&subnet).map_or(&[], Vec::as_slice)
    }

    /// Adds a peer that is not in.
    pub fn insert(&mut self, addr: SocketAddr) {
        let members = self.members.entry(Subnet::of(&addr)).or_default();
        self.position.insert(addr, members.len());
        members.push(addr);
    }

    /// Takes out a peer.
    pub fn remove(&mut self, addr: &SocketAddr) {
        let Some(position) = self.position.remove(addr) else { return };
        let subnet = Subnet::of(addr);
        let Some(members) = self.members.get_mut(&subnet) else { return };
        members.swap_remove(position);
        if let Some(moved) = members.get(position) {
            self.position.insert(*moved, position);
        }
        if members.is_empty() {
            self.members.remove(&subnet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_and_go() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut subnets = Subnets::default();
        let all = ["10.0.1.1:1", "10.0.1.2:1", "10.0.2.1:1", "[fd00::1]:1", "10.0.1.3:1"].map(addr);
        all.iter().for_each(|addr| subnets.insert(*addr));
        let here = Subnet::of(&addr("10.0.1.99:5"));
        assert_eq!(subnets.members(here), [all[0], all[1], all[4]]);
        subnets.remove(&all[0]);
        subnets.remove(&all[0]);
        assert_eq!(subnets.members(here), [all[4], all[1]]);
        subnets.remove(&all[4]);
        subnets.remove(&all[1]);
        assert!(subnets.members(here).is_empty() && subnets.members.len() == 2);
        assert_eq!(Subnet::of(&addr("[::ffff:10.0.1.7]:1")), here);
        assert_eq!(subnets.members(Subnet::of(&addr("[fd00::77:1]:1"))), [all[3]]);
    }
}
