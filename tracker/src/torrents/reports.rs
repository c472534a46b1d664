//! Reports that a peer could not be reached, and when they are believed.
//!
//! A node with a firewall, or one that was switched off, costs everybody who is told of it a dial that
//! times out. Others know before its announces stop. But a report is a claim, so:
//!
//! * only a peer of the torrent can report, by the address that its announce came from: over TCP and over
//!   UDP, with its connection ids, that address is proved;
//! * a peer is demoted when [`QUORUM`] addresses reported it within [`MEMORY`]: one liar demotes nobody;
//! * an address has [`BUDGET`] reports per [`MEMORY`]: three liars who report everybody demote sixteen;
//! * at most half of the peers are demoted: if more cannot be reached, the network is at fault;
//! * demoted is not removed: such a peer is named after all others, and still named where there are few. It is
//!   over [`MEMORY`] after the last report that was believed, or when the client starts anew.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Addresses that have to agree.
pub const QUORUM: usize = 3;

/// Reports that an address may make per [`MEMORY`].
pub const BUDGET: u8 = 16;

/// How long a report counts.
pub const MEMORY: Duration = Duration::from_secs(120);

/// What is said of one peer.
#[derive(Debug, Default)]
struct Suspicion {
    votes: Vec<(IpAddr, Instant)>,
    demoted: bool,
}

/// What peers of one torrent said of each other.
#[derive(Debug, Default)]
pub struct Reports {
    about: HashMap<SocketAddr, Suspicion>,
    spent: HashMap<IpAddr, (u8, Instant)>,
    demoted: usize,
}

impl Reports {
    /// How many peers are demoted.
    #[must_use]
    pub fn demoted(&self) -> usize {
        self.demoted
    }

    /// Takes a report about a peer that is there; whether enough agree now.
    pub fn vote(&mut self, reporter: IpAddr, target: SocketAddr, now: Instant) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < MEMORY;
        let (spent, since) = self.spent.entry(reporter).or_insert((0, now));
        if !recent(*since) {
            (*spent, *since) = (0, now);
        }
        if *spent >= BUDGET {
            return false;
        }
        *spent += 1;
        let votes = &mut self.about.entry(target).or_default().votes;
        votes.retain(|(by, at)| recent(*at) && *by != reporter);
        if votes.len() >= QUORUM {
            votes.remove(0);
        }
        votes.push((reporter, now));
        votes.len() >= QUORUM
    }

    pub(super) fn demote(&mut self, target: &SocketAddr) {
        if let Some(suspicion) = self.about.get_mut(target).filter(|s| !s.demoted) {
            suspicion.demoted = true;
            self.demoted += 1;
        }
    }

    /// The peer is gone, or another one.
    pub(super) fn forget(&mut self, target: &SocketAddr) {
        if self.about.is_empty() {
            return;
        }
        if let Some(Suspicion { demoted: true, .. }) = self.about.remove(target) {
            self.demoted -= 1;
        }
    }

    /// Forgets what is over; returns who was demoted and is no more.
    pub(super) fn fade(&mut self, now: Instant) -> Vec<SocketAddr> {
        let recent = |at: Instant| now.saturating_duration_since(at) < MEMORY;
        self.spent.retain(|_, (_, since)| recent(*since));
        let mut cleared = Vec::new();
        self.about.retain(|target, suspicion| {
            let stays = suspicion.votes.last().is_some_and(|(_, at)| recent(*at));
            if !stays && suspicion.demoted {
                cleared.push(*target);
            }
            stays
        });
        self.demoted -= cleared.len();
        cleared
    }
}
