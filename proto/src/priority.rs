//! Canonical peer priority (BEP 40): both ends of a connection rate it alike, nobody can choose
//! the value, and so a full swarm sheds connections without splitting.

use std::net::{IpAddr, SocketAddr};

/// The priority of a connection between two peers; higher is kept rather than lower.
///
/// Addresses of different families have no common form: they get 0.
#[must_use]
pub fn canonical(one: SocketAddr, other: SocketAddr) -> u32 {
    let (mut a, mut b) = match (one.ip().to_canonical(), other.ip().to_canonical()) {
        (a, b) if a == b => {
            (one.port().to_be_bytes().to_vec(), other.port().to_be_bytes().to_vec())
        }
        (IpAddr::V4(a), IpAddr::V4(b)) => masked(&a.octets(), &b.octets(), 2),
        (IpAddr::V6(a), IpAddr::V6(b)) => masked(&a.octets(), &b.octets(), 6),
        _ => return 0,
    };
    if a > b {
        std::mem::swap(&mut a, &mut b);
    }
    crc32c(a.iter().chain(&b))
}

/// The first `whole` bytes count in full, and one more for each byte that is the same up to there.
fn masked(a: &[u8], b: &[u8], mut whole: usize) -> (Vec<u8>, Vec<u8>) {
    while whole < a.len() && a[..whole] == b[..whole] {
        whole += 1;
    }
    let mask = |bytes: &[u8]| {
        bytes
            .iter()
            .enumerate()
            .map(|(at, byte)| if at < whole { *byte } else { byte & 0x55 })
            .collect()
    };
    (mask(a), mask(b))
}

/// CRC-32C (Castagnoli), bit by bit: a few dozen bytes per decision need no table.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority(a: &str, b: &str) -> u32 {
        let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(canonical(a, b), canonical(b, a), "the same from both ends");
        canonical(a, b)
    }

    #[test]
    fn check_value_of_the_checksum() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
    }

    #[test]
    fn vectors_of_the_specification() {
        assert_eq!(priority("123.213.32.10:1", "98.76.54.32:2"), 0xec2d_7224);
        assert_eq!(priority("123.213.32.10:1", "123.213.32.234:2"), 0x9956_8189);
    }

    #[test]
    fn masks_grow_with_what_is_shared() {
        let mask = |a: &str, b: &str| match (a.parse().unwrap(), b.parse().unwrap()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => masked(&a.octets(), &b.octets(), 2).0,
            (IpAddr::V6(a), IpAddr::V6(b)) => masked(&a.octets(), &b.octets(), 6).0,
            _ => panic!("one family"),
        };
        assert_eq!(mask("255.255.255.255", "1.1.1.1"), [255, 255, 0x55, 0x55]);
        assert_eq!(mask("255.255.255.255", "255.255.1.1"), [255, 255, 255, 0x55]);
        assert_eq!(mask("255.255.255.255", "255.255.255.1"), [255, 255, 255, 255]);
        let far = mask("ffff:ffff:ffff:ffff::ffff", "fd00::1");
        assert_eq!(far[..8], [255, 255, 255, 255, 255, 255, 0x55, 0x55]);
        let near = mask("ffff:ffff:ffff:ffff::ffff", "ffff:ffff:ffff:ff00::1");
        assert_eq!(near[..8], [255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(near[14..], [0x55, 0x55]);
    }

    #[test]
    fn one_address_is_told_apart_by_ports_and_families_do_not_mix() {
        assert_ne!(priority("10.0.0.1:1", "10.0.0.1:2"), priority("10.0.0.1:1", "10.0.0.1:3"));
        assert_eq!(priority("10.0.0.1:1", "[fd00::1]:1"), 0);
        assert_eq!(
            priority("[::ffff:10.0.0.1]:1", "10.0.0.2:1"),
            priority("10.0.0.1:1", "10.0.0.2:1")
        );
    }
}
