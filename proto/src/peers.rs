//! Compact peer lists: 6 bytes a peer for IPv4 (BEP 23), 18 for IPv6 (BEP 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most peers taken from one list.
pub const MAX_PEERS: usize = 2_000;

/// Bytes of one IPv4 peer.
pub const COMPACT_V4_LEN: usize = 6;

/// Bytes of one IPv6 peer.
pub const COMPACT_V6_LEN: usize = 18;

/// A compact list whose length is no multiple of a peer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compact peer list of {got} bytes is no multiple of {unit}")]
pub struct CompactError {
    /// Bytes of the list.
    pub got: usize,
    /// Bytes of one peer.
    pub unit: usize,
}

/// Splits a mixed list into the `peers` and `peers6` strings of an announce reply.
///
/// IPv4-mapped IPv6 addresses count as IPv4.
#[must_use]
pub fn encode(peers: &[SocketAddr]) -> (Vec<u8>, Vec<u8>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for peer in peers {
        match peer.ip().to_canonical() {
            IpAddr::V4(ip) => {
                v4.extend(ip.octets());
                v4.extend(peer.port().to_be_bytes());
            }
            IpAddr::V6(ip) => {
                v6.extend(ip.octets());
                v6.extend(peer.port().to_be_bytes());
            }
        }
    }
    (v4, v6)
}

/// Reads a compact IPv4 list; peers with port 0 are left out, and only [`MAX_PEERS`] are taken.
///
/// # Errors
/// [`CompactError`] when the length does not fit.
pub fn decode_v4(bytes: &[u8]) -> Result<Vec<SocketAddr>, CompactError> {
    decode(bytes, COMPACT_V4_LEN, |peer| {
        let ip: [u8; 4] = peer[..4].try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(ip)))
    })
}

/// Reads a compact IPv6 list; peers with port 0 are left out, and only [`MAX_PEERS`] are taken.
///
/// # Errors
/// [`CompactError`] when the length does not fit.
pub fn decode_v6(bytes: &[u8]) -> Result<Vec<SocketAddr>, CompactError> {
    decode(bytes, COMPACT_V6_LEN, |peer| {
        let ip: [u8; 16] = peer[..16].try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(ip)).to_canonical())
    })
}

fn decode(
    bytes: &[u8],
    unit: usize,
    ip: impl Fn(&[u8]) -> Option<IpAddr>,
) -> Result<Vec<SocketAddr>, CompactError> {
    if !bytes.len().is_multiple_of(unit) {
        return Err(CompactError { got: bytes.len(), unit });
    }
    let peers = bytes.chunks_exact(unit).take(MAX_PEERS).filter_map(|peer| {
        let port = u16::from_be_bytes([peer[unit - 2], peer[unit - 1]]);
        ip(peer).filter(|_| port != 0).map(|ip| SocketAddr::new(ip, port))
    });
    Ok(peers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(v4 in prop::collection::vec((any::<[u8; 4]>(), 1u16..), 0..50),
                      v6 in prop::collection::vec((any::<[u8; 16]>(), 1u16..), 0..50)) {
            let v4: Vec<SocketAddr> = v4.into_iter().map(|(ip, port)| (ip, port).into()).collect();
            let v6: Vec<SocketAddr> = v6.into_iter().map(|(ip, port)| SocketAddr::from((ip, port)))
                .filter(|a| a.ip().to_canonical().is_ipv6()).collect();
            let (a, b) = encode(&[v4.clone(), v6.clone()].concat());
            prop_assert_eq!(decode_v4(&a).unwrap(), v4);
            prop_assert_eq!(decode_v6(&b).unwrap(), v6);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (decode_v4(&bytes), decode_v6(&bytes));
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let (v4, v6) = encode(&["[::ffff:10.0.0.1]:80".parse().unwrap()]);
        assert_eq!((v4.as_slice(), v6.as_slice()), (&[10, 0, 0, 1, 0, 80][..], &[][..]));
        assert!(decode_v4(&[0; 7]).is_err());
    }
}
