//! Peer exchange (BEP 11): what two connected peers tell each other about further ones.

use std::net::SocketAddr;

use bendy::encoding::{AsString, Encoder, Error as EncodeError};

use crate::bencode::{BencodeError, Value};
use crate::peers;

/// Name of the extension in the handshake of BEP 10.
pub const NAME: &str = "ut_pex";

/// Most peers added, and most dropped, in one message; IPv4 and IPv6 together.
pub const MAX_PEERS: usize = 50;

/// A peer that others are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// Where it listens.
    pub address: SocketAddr,
    /// It is complete (flag 0x02).
    pub complete: bool,
    /// The sender could connect to it (flag 0x10).
    pub reachable: bool,
}

const COMPLETE: u8 = 0x02;
const REACHABLE: u8 = 0x10;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PexMessage {
    /// Peers the sender is connected to since its last message.
    pub added: Vec<Contact>,
    /// Peers it is no longer connected to.
    pub dropped: Vec<SocketAddr>,
}

impl PexMessage {
    /// Reads a message; only [`MAX_PEERS`] of each kind are taken, missing flags count as 0, and a
    /// list of the wrong length counts as empty.
    ///
    /// # Errors
    /// [`BencodeError`] when it is no bencode.
    pub fn parse(bytes: &[u8]) -> Result<Self, BencodeError> {
        let (root, _) = Value::parse_prefix(bytes)?;
        let string = |key: &[u8]| root.get(key).and_then(Value::as_bytes).unwrap_or_default();
        let mut message = Self::default();
        for (list, flags, unit) in [
            (string(b"added"), string(b"added.f"), peers::COMPACT_V4_LEN),
            (string(b"added6"), string(b"added6.f"), peers::COMPACT_V6_LEN),
        ] {
            // one by one: a peer that is left out must not shift the flags of the next
            for (at, peer) in list.chunks_exact(unit).enumerate() {
                let flags = flags.get(at).copied().unwrap_or(0);
                message.added.extend(address(peer).map(|address| Contact {
                    address,
                    complete: flags & COMPLETE != 0,
                    reachable: flags & REACHABLE != 0,
                }));
                if message.added.len() >= MAX_PEERS {
                    break;
                }
            }
        }
        for (list, unit) in [
            (string(b"dropped"), peers::COMPACT_V4_LEN),
            (string(b"dropped6"), peers::COMPACT_V6_LEN),
        ] {
            message.dropped.extend(list.chunks_exact(unit).filter_map(address).take(MAX_PEERS));
        }
        message.added.truncate(MAX_PEERS);
        message.dropped.truncate(MAX_PEERS);
        Ok(message)
    }

    /// Writes the message.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let v4 = |address: &SocketAddr| address.ip().to_canonical().is_ipv4();
        let flags = |of_v4: bool| -> Vec<u8> {
            let list = self.added.iter().filter(|c| v4(&c.address) == of_v4);
            let flag = |set: bool, bit: u8| if set { bit } else { 0 };
            list.map(|c| flag(c.complete, COMPLETE) | flag(c.reachable, REACHABLE)).collect()
        };
        let added: Vec<SocketAddr> = self.added.iter().map(|c| c.address).collect();
        let (added4, added6) = peers::encode(&added);
        let (dropped4, dropped6) = peers::encode(&self.dropped);
        let mut encoder = Encoder::new();
        encoder.emit_dict(|mut dict| {
            dict.emit_pair(b"added", AsString(added4))?;
            dict.emit_pair(b"added.f", AsString(flags(true)))?;
            dict.emit_pair(b"added6", AsString(added6))?;
            dict.emit_pair(b"added6.f", AsString(flags(false)))?;
            dict.emit_pair(b"dropped", AsString(dropped4))?;
            dict.emit_pair(b"dropped6", AsString(dropped6))
        })?;
        encoder.get_output()
    }
}

fn address(compact: &[u8]) -> Option<SocketAddr> {
    let list = match compact.len() {
        peers::COMPACT_V4_LEN => peers::decode_v4(compact),
        _ => peers::decode_v6(compact),
    };
    list.ok()?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contact(address: &str, complete: bool, reachable: bool) -> Contact {
        Contact { address: address.parse().unwrap(), complete, reachable }
    }

    #[test]
    fn round_trip_of_both_families() {
        let message = PexMessage {
            added: vec![
                contact("10.0.0.1:6881", true, false),
                contact("10.0.0.2:6882", false, true),
                contact("[fd00::1]:6883", true, true),
            ],
            dropped: vec!["10.0.0.3:1".parse().unwrap(), "[fd00::2]:2".parse().unwrap()],
        };
        assert_eq!(PexMessage::parse(&message.encode().unwrap()).unwrap(), message);
        let empty = PexMessage::default();
        assert_eq!(PexMessage::parse(&empty.encode().unwrap()).unwrap(), empty);
    }

    #[test]
    fn flags_stay_with_their_peer_when_another_is_left_out() {
        // the first has port 0
        let bytes = b"d5:added12:\x0a\0\0\x01\0\0\x0a\0\0\x02\x1a\xe17:added.f2:\x02\x10e";
        let read = PexMessage::parse(bytes).unwrap();
        assert_eq!(read.added, [contact("10.0.0.2:6881", false, true)]);
    }

    #[test]
    fn is_bounded_and_tolerant() {
        let many: Vec<u8> = (0..400u16).flat_map(|n| [10, 0, 0, 1, 1, (n % 255) as u8]).collect();
        let mut bytes = format!("d5:added{}:", many.len()).into_bytes();
        bytes.extend(&many);
        bytes.extend(format!("7:dropped{}:", many.len()).into_bytes());
        bytes.extend(&many);
        bytes.push(b'e');
        let read = PexMessage::parse(&bytes).unwrap();
        assert_eq!((read.added.len(), read.dropped.len()), (MAX_PEERS, MAX_PEERS));
        assert_eq!(
            PexMessage::parse(b"d5:addedi3e7:dropped3:abce").unwrap(),
            PexMessage::default()
        );
        assert!(PexMessage::parse(b"nonsense").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PexMessage::parse(&bytes);
        }
    }
}
