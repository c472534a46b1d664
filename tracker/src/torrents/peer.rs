//! One peer of one torrent, as its last announce described it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::hash::{PeerId, PeerRole};

/// Hand-outs lose half of their weight in this time, so that a balance struck an hour ago does not
/// make a newcomer the only answer, and a crowd's balance outlasts several of its announces.
const LOAD_HALF_LIFE: Duration = Duration::from_secs(10);

/// A peer that announced and has not expired.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where others reach it: the address the announce came from, with the port it named.
    pub addr: SocketAddr,
    /// The id it chose for this session.
    pub id: PeerId,
    /// The secret by which it proves to be the same after its address changed (BEP 7, BEP 23).
    pub key: Option<Box<str>>,
    /// Bytes it still wants; 0 is a complete peer.
    pub left: u64,
    /// Whether it was complete at its first announce already: a seeder, not a node that finished.
    pub seed_from_start: bool,
    /// When it was last heard.
    pub heard: Instant,
    /// When it is forgotten unless it announces again.
    pub expires: Instant,
    /// How often it was handed out lately.
    pub load: Load,
}

impl Peer {
    /// Whether it wants nothing more.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.left == 0
    }

    /// Whether it is an admin host's seeder: its id says so and it never fetched anything here.
    ///
    /// The id is a claim, so this decides who is recommended first and nothing else.
    #[must_use]
    pub fn admin(&self) -> bool {
        self.seed_from_start && self.complete() && self.id.role() == PeerRole::Admin
    }
}

/// An exponentially fading count of hand-outs.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    value: f32,
    at: Instant,
}

impl Load {
    /// Nothing handed out yet.
    #[must_use]
    pub fn none(now: Instant) -> Self {
        Self { value: 0.0, at: now }
    }

    /// The count at `now`.
    #[must_use]
    pub fn get(&self, now: Instant) -> f32 {
        let age = now.saturating_duration_since(self.at).as_secs_f32();
        self.value * (-age / LOAD_HALF_LIFE.as_secs_f32()).exp2()
    }

    /// Counts one hand-out.
    pub fn add(&mut self, now: Instant) {
        *self = Self { value: self.get(now) + 1.0, at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_fades_by_half_per_half_life() {
        let start = Instant::now();
        let mut load = Load::none(start);
        for _ in 0..8 {
            load.add(start);
        }
        assert!((load.get(start) - 8.0).abs() < 1e-3);
        assert!((load.get(start + LOAD_HALF_LIFE) - 4.0).abs() < 1e-3);
        load.add(start + LOAD_HALF_LIFE * 2);
        assert!((load.get(start + LOAD_HALF_LIFE * 2) - 3.0).abs() < 1e-3);
    }
}
