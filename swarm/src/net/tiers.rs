//! Which trackers answer, and whose turn it is (BEP 12, with two changes).
//!
//! All trackers of a tier are told, not just the first that answers: two that do not know of each other
//! would otherwise split the swarm. And a later tier waits for a short head start only, not until all
//! before it have timed out: that can take half a minute, in which a node that boots knows nobody.

use std::time::Duration;

/// Trackers of a torrent that are used; each has a task.
pub(crate) const MAX_TRACKERS: usize = 16;

/// So long a tier has to answer before the next one is told, too.
pub(crate) const HEAD_START: Duration = Duration::from_millis(1500);

/// What is known of a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not asked, or no answer yet.
    Unknown,
    Answers,
    /// Failed, or is later than the head start.
    Fails,
}

/// Whether a tier is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Now,
    /// After its head starts, unless an earlier tier answers.
    Soon,
    /// When the earlier tiers fail.
    Later,
}

/// The size of the crowd, as a tracker counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// Complete peers.
    pub complete: u32,
    /// Peers that fetch.
    pub incomplete: u32,
}

/// The trackers of a torrent.
#[derive(Debug, Default)]
pub(crate) struct Tiers {
    trackers: Vec<(usize, Health)>,
    /// What the last answer said.
    pub(crate) crowd: Option<Crowd>,
}

impl Tiers {
    pub(crate) fn is_empty(&self) -> bool {
        self.trackers.is_empty()
    }

    /// Adds a tracker; its number.
    pub(crate) fn add(&mut self, tier: usize) -> usize {
        self.trackers.push((tier, Health::Unknown));
        self.trackers.len() - 1
    }

    pub(crate) fn health(&self, number: usize) -> Health {
        self.trackers[number].1
    }

    /// Whether that is news.
    pub(crate) fn set(&mut self, number: usize, health: Health) -> bool {
        std::mem::replace(&mut self.trackers[number].1, health) != health
    }

    pub(crate) fn any_answers(&self) -> bool {
        self.trackers.iter().any(|(_, health)| *health == Health::Answers)
    }

    pub(crate) fn turn(&self, tier: usize) -> Turn {
        let before = || self.trackers.iter().filter(|(t, _)| *t < tier).map(|(_, health)| *health);
        if before().any(|health| health == Health::Answers) {
            Turn::Later
        } else if before().any(|health| health == Health::Unknown) {
            Turn::Soon
        } else {
            Turn::Now
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_told_when_those_before_it_fail() {
        let mut tiers = Tiers::default();
        let [a, b, c] = [0, 0, 1].map(|tier| tiers.add(tier));
        assert_eq!((tiers.turn(0), tiers.turn(1)), (Turn::Now, Turn::Soon));
        assert!(tiers.set(a, Health::Fails) && !tiers.set(a, Health::Fails));
        assert_eq!(tiers.turn(1), Turn::Soon, "one may answer yet");
        tiers.set(b, Health::Answers);
        assert_eq!((tiers.turn(0), tiers.turn(1)), (Turn::Now, Turn::Later));
        tiers.set(b, Health::Fails);
        assert_eq!(tiers.turn(1), Turn::Now);
        assert!(!tiers.any_answers());
        tiers.set(c, Health::Answers);
        assert!(tiers.any_answers());
        assert_eq!(
            (tiers.turn(0), tiers.turn(1), tiers.turn(2)),
            (Turn::Now, Turn::Now, Turn::Later)
        );
    }
}
