//! Who is in which part of the network.

use std::net::{IpAddr, SocketAddr};

/// A part of the network, as addresses tell: an IPv4 /24 or an IPv6 /64. What is inside may be
/// joined to others by a link no faster than one node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet(u64, bool);

impl Subnet {
    /// Where an address is.
    #[must_use]
    pub fn of(addr: &SocketAddr) -> Self {
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(ip.to_bits() >> 8), false),
            IpAddr::V6(ip) => {
                Self(u64::from_be_bytes(ip.octets()[..8].try_into().unwrap_or_default()), true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_subnet() {
        let of = |text: &str| Subnet::of(&text.parse().unwrap());
        assert_eq!(of("10.0.1.1:1"), of("10.0.1.254:9"));
        assert_eq!(of("[::ffff:10.0.1.7]:1"), of("10.0.1.1:1"));
        assert_ne!(of("10.0.1.1:1"), of("10.0.2.1:1"));
        assert_eq!(of("[fd00::1]:1"), of("[fd00::77:1]:1"));
        assert_ne!(of("[fd00::1]:1"), of("[fd00:0:0:1::1]:1"));
        assert_ne!(of("0.0.0.1:1"), of("[::1]:1"));
    }
}
