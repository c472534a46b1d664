//! Each cause comes from what a node sends, or from what it does not send.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::event::EventBatch;
use proto::node_id::NodeId;

use super::*;
use crate::nodes::node::Told;
use crate::nodes::{Limits, Nodes};

const ID: NodeId = NodeId([0x52, 0x54, 0, 0, 0, 1]);
const ADDR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

fn table() -> Nodes {
    Nodes::new(Limits { nodes: 4, events_per_node: 10 })
}

fn say(table: &mut Nodes, seq: u64, event: &str, now: Instant) {
    let body = format!(
        r#"{{"version":1,"boot_id":"b","events":[{{"seq":{seq},"uptime_ms":{seq},{event}}}]}}"#
    );
    table.take(ID, ADDR, EventBatch::parse(body.as_bytes()).unwrap(), now);
}

fn trouble(table: &Nodes, now: Instant) -> Option<Trouble> {
    table.get(ID).unwrap().trouble(now)
}

#[test]
fn what_a_node_says_is_its_cause() {
    for (event, word, detail) in [
        (r#""stage":"stalled","cause":"no-carrier","detail":"eth0""#, "no-carrier", "eth0"),
        (r#""stage":"stalled","cause":"no-address","detail":"x""#, "no-address", "x"),
        (r#""stage":"stalled","cause":"no-route","detail":"x""#, "no-route", "x"),
        (r#""stage":"stalled","cause":"name-resolution","detail":"x""#, "name-resolution", "x"),
        (
            r#""stage":"stalled","cause":"source-unreachable","detail":"x""#,
            "source-unreachable",
            "x",
        ),
        (
            r#""stage":"stalled","cause":"tracker-unreachable","detail":"x""#,
            "tracker-unreachable",
            "x",
        ),
        (r#""stage":"stalled","cause":"tracker-refuses","detail":"x""#, "tracker-refuses", "x"),
        (r#""stage":"stalled","cause":"no-peers","detail":"x""#, "no-peers", "x"),
        (r#""stage":"stalled","cause":"peers-unreachable","detail":"x""#, "peers-unreachable", "x"),
        (r#""stage":"stalled","cause":"no-data","detail":"x""#, "no-data", "x"),
        (
            r#""stage":"stalled","cause":"hash-failures","detail":"peer 10.0.0.7""#,
            "hash-failures",
            "peer 10.0.0.7",
        ),
        (r#""stage":"stalled","cause":"gremlins","detail":"x""#, "stalled", "x"),
        (r#""stage":"failed","message":"1 GiB","cause":"memory""#, "memory", "1 GiB"),
        (r#""stage":"failed","message":"x","cause":"storage""#, "storage", "x"),
        (r#""stage":"failed","message":"EINVAL","cause":"mount""#, "mount", "EINVAL"),
        (r#""stage":"failed","message":"x","refused":"wrong-key""#, "refused-wrong-key", "x"),
        (r#""stage":"failed","message":"x""#, "gave-up", "x"),
    ] {
        let mut table = table();
        let now = Instant::now();
        say(&mut table, 0, event, now);
        let found = trouble(&table, now).unwrap();
        assert_eq!((found.cause.word(), found.detail.as_str()), (word, detail));
        // and is over with the next step
        say(&mut table, 1, r#""stage":"attach","device":"/dev/loop0""#, now);
        assert_eq!(trouble(&table, now), None, "{word}");
    }
}

#[test]
fn silence_means_something_else_in_each_stage() {
    let revision: store::RevisionRef = "debian@0123456789ab".parse().unwrap();
    let now = Instant::now();
    let mut table = table();
    table.asked(ID, ADDR, Told::Wait("nothing is published"), now);
    assert_eq!(trouble(&table, now).unwrap().cause, Cause::NothingToBoot);

    table.asked(ID, ADDR, Told::Boot(&revision), now);
    assert_eq!(
        trouble(&table, now + Duration::from_secs(299)),
        None,
        "kernel and initrd take time"
    );
    let late = trouble(&table, now + Duration::from_secs(301)).unwrap();
    assert_eq!(late.cause, Cause::NotStarted);
    assert!(late.detail.contains("5 min"), "{}", late.detail);

    say(&mut table, 0, r#""stage":"discover","source":"x""#, now);
    let late = trouble(&table, now + Duration::from_secs(16)).unwrap();
    assert_eq!(late.cause, Cause::Silent);
    assert!(late.detail.contains("16 s, in stage discover"), "{}", late.detail);

    say(&mut table, 1, r#""stage":"handover","peak_memory":1"#, now);
    assert_eq!(trouble(&table, now + Duration::from_secs(119)), None, "the system starts");
    let late = trouble(&table, now + Duration::from_secs(121)).unwrap();
    assert_eq!(late.cause, Cause::SeederNotStarted);
    say(&mut table, 2, r#""stage":"seeding","device":"d","user":"u","uploaded":0"#, now);
    assert_eq!(trouble(&table, now + Duration::from_secs(121)), None);
}

#[test]
fn every_cause_has_a_name_and_a_remedy_of_its_own() {
    let words: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.word()).collect();
    assert_eq!(words.len(), Cause::ALL.len());
    let remedies: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.remedy()).collect();
    assert_eq!(remedies.len(), Cause::ALL.len());
    for cause in Cause::ALL {
        assert!(!cause.remedy().contains('\n') && cause.remedy().len() > 20, "{cause}");
    }
    // what the node calls it is what machines read here
    for cause in Cause::ALL {
        if let Cause::Told(told) = cause
            && told != StallCause::Unknown
        {
            assert_eq!(serde_json::to_value(told).unwrap(), cause.word());
        }
    }
}
