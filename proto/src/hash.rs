//! Digests and ids: info-hash, peer id, SHA-256 digest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::Digest as _;

/// A hex text that does not have the right length or letters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hex digits, got {got:?}")]
pub struct HexError {
    /// Digits expected.
    pub expected: usize,
    /// What was given, cut to 80 characters.
    pub got: String,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let error = || HexError { expected: N * 2, got: text.chars().take(80).collect() };
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(error());
    }
    let mut out = [0u8; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |c: u8| (c as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (nibble(pair[0]), nibble(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return Err(error()),
        }
    }
    Ok(out)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// All zeros: no digest of anything.
            pub const ZERO: Self = Self([0; $len]);

            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Takes a slice of exactly the right length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type!(
    /// SHA-1 over the raw bytes of `info` (BEP 3): names a torrent on the wire.
    InfoHash, 20
);
digest_type!(
    /// SHA-1 of one piece (BEP 3).
    PieceHash, 20
);
digest_type!(
    /// SHA-256 over the raw bytes of `info` (BEP 52).
    InfoHashV2, 32
);
digest_type!(
    /// SHA-256 of a file: what the manifest and `beeswarm.pin` name.
    Sha256Digest, 32
);

impl InfoHash {
    /// Hashes the raw bytes of an `info` dictionary.
    #[must_use]
    pub fn of(info: &[u8]) -> Self {
        Self(sha1::Sha1::digest(info).into())
    }
}

impl InfoHashV2 {
    /// Hashes the raw bytes of an `info` dictionary.
    #[must_use]
    pub fn of(info: &[u8]) -> Self {
        Self(sha2::Sha256::digest(info).into())
    }

    /// Its first 20 bytes: what stands for it in handshakes and announces.
    #[must_use]
    pub fn truncated(&self) -> InfoHash {
        let mut short = [0; InfoHash::LEN];
        short.copy_from_slice(&self.0[..InfoHash::LEN]);
        InfoHash(short)
    }
}

impl PieceHash {
    /// Hashes one piece.
    #[must_use]
    pub fn of(piece: &[u8]) -> Self {
        Self(sha1::Sha1::digest(piece).into())
    }
}

impl Sha256Digest {
    /// Hashes a whole file in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// SHA-256 of what comes in parts.
#[derive(Debug, Clone, Default)]
pub struct Sha256Stream(sha2::Sha256);

impl Sha256Stream {
    /// The next part.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all parts.
    #[must_use]
    pub fn finish(self) -> Sha256Digest {
        Sha256Digest(self.0.finalize().into())
    }
}

/// A peer's id for one session: 20 bytes, the first eight name the client (BEP 20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

/// What a Beeswarm peer says it is in its peer id: `-BA0100-` is an admin seeder, `-BN0100-` a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerRole {
    /// The admin host's seeder.
    Admin,
    /// A node: fetching, or re-seeding.
    Node,
    /// Any other client.
    Foreign,
}

impl PeerId {
    /// Builds an id for `role` from 12 random bytes, which are mapped to letters and digits.
    #[must_use]
    pub fn new(role: PeerRole, random: [u8; 12]) -> Self {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let mut id = match role {
            PeerRole::Admin => *b"-BA0100-............",
            PeerRole::Node | PeerRole::Foreign => *b"-BN0100-............",
        };
        for (letter, byte) in id[8..].iter_mut().zip(random) {
            *letter = LETTERS[usize::from(byte % 32)];
        }
        Self(id)
    }

    /// The role that the first bytes state. It is a claim, good for statistics and peer choice only.
    #[must_use]
    pub fn role(&self) -> PeerRole {
        match &self.0[..3] {
            b"-BA" => PeerRole::Admin,
            b"-BN" => PeerRole::Node,
            _ => PeerRole::Foreign,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip() {
        let hash = InfoHash::of(b"info");
        assert_eq!(hash.to_string().parse::<InfoHash>().unwrap(), hash);
        for bad in ["", "zz", "é", &"g".repeat(40), &"a".repeat(41), "+1"] {
            assert!(bad.parse::<InfoHash>().is_err(), "{bad}");
        }
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<InfoHash>(&json).unwrap(), hash);
    }

    #[test]
    fn parts_hash_as_the_whole() {
        let mut stream = Sha256Stream::default();
        stream.update(b"ab");
        stream.update(b"c");
        assert_eq!(stream.finish(), Sha256Digest::of(b"abc"));
    }

    #[test]
    fn peer_id_states_its_role() {
        for role in [PeerRole::Admin, PeerRole::Node] {
            assert_eq!(PeerId::new(role, [200; 12]).role(), role);
        }
        assert_eq!(PeerId(*b"-lt0D60-123456789012").role(), PeerRole::Foreign);
    }
}
