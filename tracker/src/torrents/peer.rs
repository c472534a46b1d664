//! One peer of one torrent, as its last announce described it.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Instant;

use proto::hash::{PeerId, PeerRole};

/// A peer that announced and has not expired.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Where others reach it: the address the announce came from, with the port it named.
    pub addr: SocketAddr,
    /// The id it chose for this session.
    pub id: PeerId,
    /// The secret by which it proves to be the same after its address changed (BEP 7, BEP 15).
    pub key: Option<Key>,
    /// Whether it wants nothing more.
    pub complete: bool,
    /// Whether it was complete at its first announce already: a seeder, not a node that finished.
    pub seed_from_start: bool,
    /// When it was last heard.
    pub heard: Instant,
}

impl Peer {
    /// Whether it is an admin host's seeder: its id says so and it never fetched anything here.
    ///
    /// The id is a claim, so this decides who is recommended first and nothing else.
    #[must_use]
    pub fn admin(&self) -> bool {
        self.seed_from_start && self.complete && self.id.role() == PeerRole::Admin
    }
}

/// A peer's secret. It is compared and never shown, so a number stands for a text of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The number in a UDP announce; 0 is what clients without a key send.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number.into()))
    }

    /// The text in an HTTP announce. Eight hex digits are the number of a UDP announce: that is how
    /// clients that use both write it.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        match u32::from_str_radix(text, 16) {
            Ok(number) if text.len() == 8 && !text.starts_with('+') => Self(number.into()),
            _ => Self(SECRET.hash_one(text) | 1 << 63),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_over_http_and_udp() {
        assert_eq!(Key::from_number(0xab), Some(Key::from_text("000000ab")));
        assert_eq!(Key::from_text("any text"), Key::from_text("any text"));
        assert_ne!(Key::from_text("any text"), Key::from_text("any other"));
        assert_ne!(Key::from_number(0xab), Some(Key::from_text("ab")));
        assert_eq!(Key::from_number(0), None);
    }
}
