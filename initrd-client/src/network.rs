//! What the network cards say: the difference between "server down" and "cable out".
//!
//! Read from sysfs (`/sys/class/net`), which needs no helper program and no privilege.

use std::path::Path;

use proto::event::{Stall, StallCause};
use proto::node_id::NodeId;

use crate::folder;

/// `ARPHRD_ETHER` and `ARPHRD_INFINIBAND` in `/sys/class/net/*/type` (`linux/if_arp.h`).
const CARD_TYPES: [u32; 2] = [1, 32];

/// One network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Interface name.
    pub name: String,
    /// Its address, if it has the six bytes of an Ethernet card.
    pub mac: Option<NodeId>,
    /// The link is up.
    pub carrier: bool,
    /// Made of hardware, not a bridge or a bond.
    pub physical: bool,
}

/// Every Ethernet or InfiniBand interface below `net` (`/sys/class/net`), by name.
#[must_use]
pub fn cards(net: &Path) -> Vec<Card> {
    folder::entries(net).iter().filter_map(|path| card(path)).collect()
}

fn card(dir: &Path) -> Option<Card> {
    let text = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
    let kind: u32 = text("type")?.trim().parse().ok()?;
    CARD_TYPES.contains(&kind).then_some(())?;
    Some(Card {
        name: dir.file_name()?.to_str()?.to_owned(),
        mac: text("address").and_then(|mac| mac.trim().parse().ok()),
        // reading `carrier` of an interface that is down is an error
        carrier: text("carrier").is_some_and(|carrier| carrier.trim() == "1"),
        physical: dir.join("device").exists(),
    })
}

/// The node's name when the kernel arguments give none: the MAC address of a card with a link, else
/// of any; hardware before bridges and bonds.
#[must_use]
pub fn node_id(cards: &[Card]) -> Option<NodeId> {
    let rank = |card: &Card| (!card.carrier, !card.physical);
    let best = cards.iter().filter(|card| card.mac.is_some()).min_by_key(|card| rank(card))?;
    best.mac
}

/// The addresses of what is made of hardware: they tell the tracker that this is one node, whichever card
/// it boots from.
#[must_use]
pub fn addresses(cards: &[Card]) -> Vec<NodeId> {
    cards.iter().filter(|card| card.physical).filter_map(|card| card.mac).collect()
}

/// Without a link it is the cable, whoever does not answer: a pulled one shows as a missing route while an
/// address is still there, and as silent peers while connections are.
#[must_use]
pub fn blame(stall: Stall, cards: &[Card]) -> Stall {
    use StallCause::{
        NameResolution, NoAddress, NoData, NoPeers, NoRoute, PeersUnreachable, SourceUnreachable,
        TrackerUnreachable,
    };
    let known = match stall.cause {
        NoAddress | NameResolution => diagnose(cards),
        // an address needs a card, so one that is not seen is none of ours
        NoRoute | SourceUnreachable | TrackerUnreachable | NoPeers | PeersUnreachable | NoData => {
            diagnose(cards).filter(|_| !cards.is_empty())
        }
        _ => None,
    };
    known.unwrap_or(stall)
}

/// Why nothing can be reached, as far as the cards know; `None` when a link is up.
#[must_use]
pub fn diagnose(cards: &[Card]) -> Option<Stall> {
    let detail = if cards.is_empty() {
        "no network card found: is its driver in the initrd?".to_owned()
    } else if cards.iter().all(|card| !card.carrier) {
        let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
        format!("no link on {}: cable, switch port, or not yet set up", names.join(", "))
    } else {
        return None;
    };
    Some(Stall { cause: StallCause::NoCarrier, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs(cards: &[(&str, &str, &str, &str, bool)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, kind, mac, carrier, physical) in cards {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("type"), kind).unwrap();
            std::fs::write(path.join("address"), mac).unwrap();
            if !carrier.is_empty() {
                std::fs::write(path.join("carrier"), carrier).unwrap();
            }
            if *physical {
                std::fs::create_dir(path.join("device")).unwrap();
            }
        }
        dir
    }

    #[test]
    fn the_card_with_a_link_names_the_node() {
        let dir = sysfs(&[
            ("lo", "772\n", "00:00:00:00:00:00\n", "1\n", false),
            ("br0", "1\n", "52:54:00:00:00:01\n", "1\n", false),
            ("eth0", "1\n", "52:54:00:00:00:02\n", "0\n", true),
            ("eth1", "1\n", "52:54:00:00:00:03\n", "1\n", true),
        ]);
        let cards = cards(dir.path());
        assert_eq!(cards.len(), 3, "{cards:?}");
        assert_eq!(node_id(&cards).unwrap().to_string(), "52:54:00:00:00:03");
        assert_eq!(addresses(&cards), [2, 3].map(|n| NodeId([0x52, 0x54, 0, 0, 0, n])));
        assert_eq!(diagnose(&cards), None);
    }

    #[test]
    fn without_a_link_the_cable_is_to_blame() {
        let stall = |cause| Stall { cause, detail: "5 peers are silent".into() };
        let card = |carrier| Card { name: "eth0".into(), mac: None, carrier, physical: true };
        for cause in [StallCause::NoData, StallCause::NoRoute, StallCause::TrackerUnreachable] {
            assert_eq!(blame(stall(cause), &[card(false), card(true)]), stall(cause));
            let blamed = blame(stall(cause), &[card(false)]);
            assert_eq!(blamed.cause, StallCause::NoCarrier);
            assert!(blamed.detail.contains("eth0"), "{blamed:?}");
        }
        assert_eq!(blame(stall(StallCause::NoData), &[]), stall(StallCause::NoData));
        assert_eq!(blame(stall(StallCause::NoAddress), &[]).cause, StallCause::NoCarrier);
        let memory = stall(StallCause::Memory);
        assert_eq!(blame(memory.clone(), &[card(false)]), memory);
    }

    #[test]
    fn says_what_is_missing() {
        let none = sysfs(&[("lo", "772\n", "00:00:00:00:00:00\n", "1\n", false)]);
        let stall = diagnose(&cards(none.path())).unwrap();
        assert!(stall.detail.contains("driver in the initrd"), "{stall:?}");
        let down = sysfs(&[
            ("eth0", "1\n", "52:54:00:00:00:02\n", "", true),
            ("ib0", "32\n", "80:00:02:08:fe:80\n", "0\n", true),
        ]);
        let stall = diagnose(&cards(down.path())).unwrap();
        assert_eq!(stall.cause, StallCause::NoCarrier);
        assert!(stall.detail.contains("eth0, ib0"), "{stall:?}");
        assert_eq!(node_id(&cards(Path::new("/nonexistent"))), None);
    }
}
