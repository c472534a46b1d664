//! One machine or two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::event::{Event, EventBatch, EventKind};
use proto::node_id::NodeId;

use crate::inventory::{Format, Inventory};
use crate::nodes::node::Told;
use crate::nodes::{Limits, Nodes, Sender};

const ADDR: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
const UUID: &str = "4c4c4544-0042-3510-8052-b4c04f4a3332";

fn mac(n: u8) -> NodeId {
    NodeId([0x52, 0x54, 0, 0, 0, n])
}

struct Bed {
    nodes: Nodes,
    start: Instant,
    token: u64,
}

impl Bed {
    fn new() -> Self {
        let nodes = Nodes::new(Limits { nodes: 100, events_per_node: 100 });
        Self { nodes, start: Instant::now(), token: 0 }
    }

    /// A machine boots from `from` at second `at`, has these cards, and says so a second later.
    fn boots(&mut self, at: u64, boot: &str, from: u8, cards: &[u8], uuid: Option<&str>) {
        let now = self.start + Duration::from_secs(at);
        self.nodes.asked(mac(from), ADDR, Told::Wait("x"), now);
        self.token += 1;
        let token = Some(self.token);
        self.speaks(at + 20, 19, boot, from, cards, uuid, token);
    }

    #[expect(clippy::too_many_arguments, reason = "one message, all of it")]
    fn speaks(
        &mut self,
        at: u64,
        up: u64,
        boot: &str,
        from: u8,
        cards: &[u8],
        uuid: Option<&str>,
        token: Option<u64>,
    ) {
        let kind = EventKind::Attach { device: "d".into() };
        let event = Event { seq: at, uptime_ms: up * 1000, kind };
        let mut batch = EventBatch { events: vec![event], ..EventBatch::new(boot.to_owned()) };
        batch.macs = cards.iter().map(|n| mac(*n)).collect();
        batch.uuid = uuid.map(str::to_owned);
        let now = self.start + Duration::from_secs(at);
        self.nodes.take(mac(from), Sender { addr: ADDR, token }, batch, now);
    }

    fn ids(&self) -> Vec<NodeId> {
        self.nodes.all().iter().map(|node| node.id).collect()
    }
}

#[test]
fn a_machine_stays_one_whichever_card_it_boots_from() {
    let mut bed = Bed::new();
    bed.boots(0, "b1", 1, &[1, 2], Some(UUID));
    assert_eq!(bed.nodes.get(mac(2)).unwrap().id, mac(1));
    // from a card that it has named, and then from one that is new
    bed.boots(1000, "b2", 2, &[1, 2], Some(UUID));
    bed.boots(2000, "b3", 3, &[2, 3], Some(UUID));
    assert_eq!(bed.ids(), [mac(1)]);
    let node = bed.nodes.get(mac(3)).unwrap();
    assert_eq!((node.boots, node.boot_id.as_deref()), (3, Some("b3")));
    assert_eq!(node.macs, [mac(1), mac(2), mac(3)]);
    assert_eq!((node.stage, node.uuid.as_deref()), ("attach", Some(UUID)));
    // its events go on under the former name, and late ones of former boots change nothing
    bed.speaks(2100, 100, "b3", 3, &[], None, Some(3));
    bed.speaks(2100, 200, "b2", 2, &[], None, Some(2));
    let node = bed.nodes.get(mac(1)).unwrap();
    assert_eq!((node.timeline.entries().len(), node.boots), (2, 3));
}

#[test]
fn two_machines_stay_two() {
    // a USB card that was in the first is now in the second, whose board is another
    let mut bed = Bed::new();
    bed.boots(0, "b1", 1, &[1, 9], Some(UUID));
    bed.boots(1000, "b2", 2, &[2, 9], Some("03000200-0400-0500-0006-000700080009"));
    assert_eq!(bed.ids(), [mac(1), mac(2)]);
    assert_eq!(bed.nodes.get(mac(9)).unwrap().id, mac(1));

    // the address of a management card that a whole series has: both machines run
    let mut bed = Bed::new();
    bed.boots(0, "b1", 1, &[1, 9], Some(UUID));
    bed.boots(10, "b2", 2, &[2, 9], Some(UUID));
    bed.speaks(50, 49, "b1", 1, &[1, 9], Some(UUID), Some(1));
    bed.boots(40, "b3", 3, &[3, 9], Some(UUID));
    assert_eq!(bed.ids(), [mac(1), mac(2), mac(3)]);

    // the inventory has them as two
    let mut bed = Bed::new();
    let text = format!("mac,name\n{},n1\n{},n2\n", mac(1), mac(2));
    bed.nodes.set_inventory(Arc::new(Inventory::parse(Format::Csv, &text).unwrap()));
    bed.boots(0, "b1", 1, &[1], None);
    bed.boots(1000, "b2", 2, &[1, 2], None);
    assert_eq!(bed.ids(), [mac(1), mac(2)]);

    // boards that all have one UUID
    let mut bed = Bed::new();
    bed.boots(0, "b1", 1, &[1], Some(UUID));
    bed.boots(1000, "b2", 2, &[2], Some(UUID));
    assert_eq!(bed.ids(), [mac(1), mac(2)]);
}

#[test]
fn who_has_no_token_cannot_take_a_machine_over() {
    let mut bed = Bed::new();
    bed.boots(0, "b1", 1, &[1], None);
    bed.speaks(1000, 5, "evil", 2, &[2, 1], None, None);
    assert_eq!(bed.ids(), [mac(1), mac(2)]);
    // nor with a token that was used before
    bed.boots(2000, "b2", 1, &[1], None);
    bed.speaks(3000, 5, "evil", 1, &[1, 2], None, Some(1));
    assert_eq!(bed.ids(), [mac(1), mac(2)]);
    let node = bed.nodes.get(mac(1)).unwrap();
    assert_eq!(node.trust, crate::nodes::node::Trust::Without);
}

#[test]
fn made_up_machines_push_out_each_other_and_those_of_the_inventory_last() {
    let mut nodes = Nodes::new(Limits { nodes: 3, events_per_node: 9 });
    let text = format!("mac,name\n{},n1\n{},n2\n", mac(1), mac(2));
    nodes.set_inventory(Arc::new(Inventory::parse(Format::Csv, &text).unwrap()));
    let start = Instant::now();
    let ids = |nodes: &Nodes| nodes.all().iter().map(|node| node.id).collect::<Vec<_>>();
    for n in 1..=200 {
        nodes.asked(mac(n), ADDR, Told::Wait("x"), start + Duration::from_secs(n.into()));
    }
    assert_eq!(ids(&nodes), [mac(1), mac(2), mac(200)]);
    // all are known: the oldest
    let text = format!("{text}{},n3\n{},n4\n", mac(200), mac(201));
    nodes.set_inventory(Arc::new(Inventory::parse(Format::Csv, &text).unwrap()));
    nodes.asked(mac(201), ADDR, Told::Wait("x"), start + Duration::from_secs(300));
    assert_eq!(ids(&nodes), [mac(2), mac(200), mac(201)]);
}

#[test]
fn the_inventory_says_what_belongs_together() {
    let mut bed = Bed::new();
    bed.boots(0, "b1", 1, &[], None);
    bed.boots(100, "b2", 2, &[], None);
    assert_eq!(bed.ids(), [mac(1), mac(2)]);
    let text = format!("mac,name\n{} {},n1\n", mac(1), mac(2));
    bed.nodes.set_inventory(Arc::new(Inventory::parse(Format::Csv, &text).unwrap()));
    bed.boots(200, "b3", 2, &[], None);
    assert_eq!(bed.ids(), [mac(1)]);
    let node = bed.nodes.get(mac(2)).unwrap();
    assert_eq!((node.boots, node.boot_id.as_deref()), (3, Some("b3")));
}
