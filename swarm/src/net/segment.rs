//! Which peers share our part of the network.

use std::net::IpAddr;

/// Bits of an address that are the same all over a subnet, as cluster networks are mostly cut. The
/// real length cannot tell: bridged and routed segments are joined under shorter prefixes, and a
/// thin link is no slower for being inside of one.
const V4_PREFIX: u32 = 24;
const V6_PREFIX: u32 = 64;

/// Whether two hosts are in one subnet, as far as their addresses tell. Hosts that see each other
/// by link-local addresses are.
pub(crate) fn is_shared(ours: IpAddr, theirs: IpAddr) -> bool {
    match (ours.to_canonical(), theirs.to_canonical()) {
        (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
            (ours.is_loopback() && theirs.is_loopback())
                || (ours.to_bits() ^ theirs.to_bits()) >> (32 - V4_PREFIX) == 0
        }
        (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
            (ours.to_bits() ^ theirs.to_bits()) >> (128 - V6_PREFIX) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_told_apart() {
        let cases = [
            ("10.1.2.3", "10.1.2.250", true),
            ("10.1.2.3", "10.1.3.3", false),
            ("::ffff:10.1.2.3", "10.1.2.9", true),
            ("127.0.0.1", "127.9.0.1", true),
            ("fd00::1:2", "fd00::9:9", true),
            ("fd00:0:0:1::1", "fd00:0:0:2::1", false),
            ("fe80::1", "fe80::2", true),
            ("10.1.2.3", "fd00::1", false),
        ];
        for (ours, theirs, shared) in cases {
            let (ours, theirs) = (ours.parse().unwrap(), theirs.parse().unwrap());
            assert_eq!(is_shared(ours, theirs), shared, "{ours} {theirs}");
            assert_eq!(is_shared(theirs, ours), shared, "{theirs} {ours}");
        }
    }
}
