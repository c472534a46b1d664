//! Nodes that hand on kernel and initrd, and which of them is near.
//!
//! Only a node whose events carry its boot token is named to others. That is no proof of what it hands out: its
//! users can ask for a token, too, so that iPXE must verify, or all of them be trusted. Near is the same rack of the inventory, else the same subnet
//! (IPv4 /24, IPv6 /64). Among equally near ones the one that was named longest ago is next.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::node_id::NodeId;
use store::RevisionRef;

use super::Nodes;
use super::node::{Node, Trust};
use crate::torrents::subnet::Subnet;

/// A mirror that was not heard for this long is not named: it reports every 30 s.
const FRESH: Duration = Duration::from_secs(75);

/// As many mirrors of a revision in one subnet are enough: each costs its node the memory for kernel and
/// initrd.
pub const ENOUGH: usize = 8;

/// What a node serves besides the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirror {
    /// TCP port of its HTTP.
    pub port: u16,
    /// When it was last named to somebody, on the table's counter.
    pub(super) named: u64,
}

/// From near to far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    Rack,
    Subnet,
    Elsewhere,
}

/// Who wants kernel and initrd.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// One of its MAC addresses.
    pub node: NodeId,
    /// Where it is.
    pub addr: IpAddr,
}

impl Nodes {
    /// At most `most` mirrors of a revision, nearest first. The first counts as used.
    pub fn mirrors(
        &mut self,
        asker: Asker,
        revision: &RevisionRef,
        most: usize,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let own = self.homes.get(&asker.node).copied().unwrap_or(asker.node);
        let inventory = self.inventory.clone();
        let rack = |node: NodeId| inventory.of(node).and_then(|entry| entry.rack.as_ref());
        let (here, place) = (rack(asker.node), subnet(asker.addr));
        let mut found: Vec<(Distance, u64, NodeId, SocketAddr)> = Vec::new();
        for node in self.table.values().filter(|node| node.id != own) {
            let Some(mirror) = serving(node, revision, now) else { continue };
            let distance = if here.is_some() && rack(node.id) == here {
                Distance::Rack
            } else if subnet(node.addr) == place {
                Distance::Subnet
            } else {
                Distance::Elsewhere
            };
            let at = SocketAddr::new(node.addr.to_canonical(), mirror.port);
            found.push((distance, mirror.named, node.id, at));
        }
        found.sort_unstable();
        found.truncate(most);
        if let Some((_, _, first, _)) = found.first() {
            self.named += 1;
            if let Some(mirror) = self.table.get_mut(first).and_then(|node| node.mirror.as_mut()) {
                mirror.named = self.named;
            }
        }
        found.into_iter().map(|(.., at)| at).collect()
    }

    /// How many others in the asker's subnet are mirrors of a revision.
    #[must_use]
    pub fn mirrors_beside(&self, asker: Asker, revision: &RevisionRef, now: Instant) -> usize {
        let own = self.homes.get(&asker.node).copied().unwrap_or(asker.node);
        let place = subnet(asker.addr);
        let others =
            self.table.values().filter(|node| node.id != own && subnet(node.addr) == place);
        others.filter(|node| serving(node, revision, now).is_some()).count()
    }
}

fn subnet(addr: IpAddr) -> Subnet {
    Subnet::of(&SocketAddr::new(addr, 0))
}

/// The mirror of a node that runs this revision, and can be believed to be there.
fn serving(node: &Node, revision: &RevisionRef, now: Instant) -> Option<Mirror> {
    let fresh = now.saturating_duration_since(node.heard) < FRESH;
    let good = node.stage == "seeding"
        && node.trust == Trust::Token
        && fresh
        && node.revision.as_ref() == Some(revision);
    node.mirror.filter(|_| good)
}

#[cfg(test)]
mod tests {
    use proto::event::{EVENT_VERSION, Event, EventBatch, EventKind};

    use super::*;
    use crate::inventory::{Format, Inventory};
    use crate::nodes::{Limits, Sender, Told};

    fn mac(number: u8) -> NodeId {
        NodeId([0x52, 0x54, 0, 0, 0, number])
    }

    fn revision() -> RevisionRef {
        "demo@0123456789ab".parse().unwrap()
    }

    fn addr(net: u8, host: u8) -> IpAddr {
        IpAddr::from([10, 0, net, host])
    }

    fn boot(nodes: &mut Nodes, number: u8, net: u8, token: Option<u64>, now: Instant) {
        let at = addr(net, number);
        nodes.asked(mac(number), at, Told::Boot(&revision()), now);
        report(nodes, number, net, (token, Some(8080)), now);
    }

    fn report(
        nodes: &mut Nodes,
        number: u8,
        net: u8,
        (token, http): (Option<u64>, Option<u16>),
        now: Instant,
    ) {
        let kind = EventKind::Seeding { device: "d".into(), user: "u".into(), uploaded: 0, http };
        let batch = EventBatch {
            version: EVENT_VERSION,
            boot_id: format!("b{number}"),
            token: None,
            macs: vec![],
            uuid: None,
            events: vec![Event { seq: u64::from(http.is_some()), uptime_ms: 9, kind }],
        };
        nodes.take(mac(number), Sender { addr: addr(net, number), token }, batch, now);
    }

    fn table() -> Nodes {
        Nodes::new(Limits { nodes: 100, events_per_node: 10 })
    }

    fn named(nodes: &mut Nodes, number: u8, net: u8, now: Instant) -> Vec<String> {
        let asker = Asker { node: mac(number), addr: addr(net, number) };
        let list = nodes.mirrors(asker, &revision(), 1, now);
        list.into_iter().map(|at| at.to_string()).collect()
    }

    #[test]
    fn the_nearest_are_named_in_turn() {
        let now = Instant::now();
        let mut nodes = table();
        let csv = "mac,name,rack\n52:54:00:00:00:05,e,r1\n52:54:00:00:00:09,i,r1\n";
        nodes.set_inventory(Inventory::parse(Format::Csv, csv).unwrap().into());
        for (number, net) in [(1, 1), (2, 1), (3, 2), (5, 3)] {
            boot(&mut nodes, number, net, Some(u64::from(number)), now);
        }
        let mut got = [named(&mut nodes, 7, 1, now), named(&mut nodes, 7, 1, now)].concat();
        got.sort();
        assert_eq!(got, ["10.0.1.1:8080", "10.0.1.2:8080"], "both of its subnet, once each");
        assert_eq!(named(&mut nodes, 7, 2, now), ["10.0.2.3:8080"]);
        assert_eq!(named(&mut nodes, 9, 1, now), ["10.0.3.5:8080"], "its rack, in another subnet");
        assert_eq!(named(&mut nodes, 3, 2, now).len(), 1);
        assert_ne!(named(&mut nodes, 3, 2, now), ["10.0.2.3:8080"], "never itself");
        let asker = Asker { node: mac(1), addr: addr(1, 1) };
        assert_eq!(nodes.mirrors_beside(asker, &revision(), now), 1);
    }

    #[test]
    fn who_cannot_be_believed_or_heard_is_not_named() {
        let now = Instant::now();
        let mut nodes = table();
        boot(&mut nodes, 1, 1, None, now);
        assert!(named(&mut nodes, 7, 1, now).is_empty(), "without a token");
        boot(&mut nodes, 2, 1, Some(1), now);
        assert_eq!(named(&mut nodes, 7, 1, now).len(), 1);
        let other = "demo@ba9876543210".parse().unwrap();
        let asker = Asker { node: mac(7), addr: addr(1, 7) };
        assert!(nodes.mirrors(asker, &other, 1, now).is_empty(), "runs another revision");
        assert!(named(&mut nodes, 7, 1, now + FRESH).is_empty(), "not heard any more");
        report(&mut nodes, 2, 1, (Some(1), None), now);
        assert!(named(&mut nodes, 7, 1, now).is_empty(), "it serves no longer");
        boot(&mut nodes, 3, 1, Some(1), now);
        nodes.asked(mac(3), addr(1, 3), Told::Boot(&revision()), now);
        assert!(named(&mut nodes, 7, 1, now).is_empty(), "it boots again");
    }
}
