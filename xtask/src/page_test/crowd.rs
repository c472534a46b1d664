//! Nodes that report: each from an address of its own, as in a cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::bail;
use proto::event::Event;
use store::RevisionRef;

use super::fleet::{self, Poster};
use super::site::Site;

/// The nodes of one site.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    tracker: SocketAddr,
    revision: RevisionRef,
    nodes: u16,
}

/// Where a node is: loopback has sixteen million addresses.
pub(super) fn address(n: u16) -> IpAddr {
    let [a, b] = n.to_be_bytes();
    Ipv4Addr::new(127, 1, a, b).into()
}

impl Crowd {
    pub(crate) fn new(tracker: SocketAddr, site: &Site, nodes: u16) -> Self {
        Self { tracker, revision: site.revision.clone(), nodes }
    }

    fn send(&self, n: u16, events: Vec<Event>) -> anyhow::Result<()> {
        let mut poster = Poster::connect(self.tracker, address(n))?;
        poster.post(fleet::id(n), ("0f1e2d3c", None), events)
    }

    fn story(&self, n: u16, step: u64) -> Vec<Event> {
        fleet::story(n, step, self.nodes, &self.revision)
    }

    fn post(&self, n: u16, step: u64) -> anyhow::Result<()> {
        let mut events = self.story(n, step);
        if let Some(kind) = fleet::mishap(n) {
            events.retain(|event| event.uptime_ms < 14_500);
            let uptime_ms = events.last().map_or(0, |event| event.uptime_ms) + 5_000;
            events.push(Event { seq: uptime_ms, uptime_ms, kind });
        }
        self.send(n, events)
    }

    /// All nodes as they were recorded in the middle of a boot.
    pub(crate) fn record(&self) -> anyhow::Result<()> {
        fleet::announce_admin(self.tracker)?;
        (0..self.nodes).try_for_each(|n| self.post(n, fleet::recorded(n)))
    }

    /// One more report of every node, a little further on.
    pub(crate) fn go_on(&self, round: u64) -> anyhow::Result<()> {
        fleet::announce_admin(self.tracker)?;
        for n in 0..self.nodes {
            // three that fell silent
            let step = fleet::recorded(n);
            if fleet::mishap(n).is_none() && !matches!(n, 33 | 330 | 773) {
                self.post(n, if step < 900 { (step + round).min(899) } else { step })?;
            }
        }
        Ok(())
    }

    /// All nodes boot in twenty-odd seconds, but for those with a mishap.
    pub(crate) fn boot(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        for round in 0..60_u64 {
            fleet::announce_admin(self.tracker)?;
            for n in 0..self.nodes {
                let step = (round * 25).saturating_sub(u64::from(n) * 8).min(1000);
                let stuck = fleet::mishap(n).is_some();
                if stuck && step > 300 {
                    self.post(n, 300)?;
                } else {
                    self.send(n, self.story(n, step))?;
                }
            }
            let due = Duration::from_millis(400) * u32::try_from(round + 1)?;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        if start.elapsed() > Duration::from_secs(120) {
            bail!("this machine is too busy: the nodes took {} s", start.elapsed().as_secs());
        }
        Ok(())
    }
}
