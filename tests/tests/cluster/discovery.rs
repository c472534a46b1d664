//! Peers that are found without our tracker, or whose address changes.

use std::fs;
use std::time::{Duration, Instant};

use lab::tool::Tool;
use lab::{BitRate, Cmd};

use super::fixture::{ADMIN, Cluster, LIMIT, ip, wait_complete, wait_for_event, wait_percent};
use super::page;

const OPENTRACKER: Tool =
    Tool::new("opentracker", "a foreign tracker that speaks UDP", "opentracker", "opentracker");

const IMAGE: usize = 4 << 20;

#[test]
fn without_any_tracker_nodes_find_a_seeder_and_each_other_by_multicast() {
    let cluster = Cluster::start("lsd", 2, BitRate::mbit(50));
    let loose = cluster.loose(70, IMAGE, &[]);
    let mut seeder = cluster.seed(&cluster.admin, &loose);
    let [first, second] = &cluster.nodes[..] else { panic!("two nodes") };
    let torrent = loose.torrent.to_str().unwrap();
    let mut fetch = cluster.fetch(first, torrent);
    let done = wait_complete(&mut fetch);
    assert_eq!(done["sources"]["admin"].as_u64(), Some(IMAGE as u64), "{done}");
    // the seeder is gone: a node feeds the next one
    seeder.terminate(LIMIT).unwrap();
    let done = wait_complete(&mut cluster.fetch(second, torrent));
    assert_eq!(done["sources"]["peers"].as_u64(), Some(IMAGE as u64), "{done}");
    assert!(cluster.image_on(second) == loose.image);
}

#[test]
fn link_local_ipv6_is_enough() {
    let cluster = Cluster::start("lsd6", 1, BitRate::mbit(50));
    let loose = cluster.loose(71, IMAGE, &[]);
    let node = &cluster.nodes[0];
    for node in [&cluster.admin, node] {
        ip(node, "-4 addr flush dev eth0");
        // its uniqueness is checked for a second before it can be used
        let deadline = Instant::now() + LIMIT;
        let ready = || {
            let show = Cmd::new("ip").args(["-6", "addr", "show", "dev", "eth0"]);
            let text = String::from_utf8(node.run(&show).unwrap().stdout).unwrap();
            text.contains("fe80::") && !text.contains("tentative")
        };
        while !ready() {
            assert!(Instant::now() < deadline, "no link-local address");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let _seeder = cluster.seed(&cluster.admin, &loose);
    let done = wait_complete(&mut cluster.fetch(node, loose.torrent.to_str().unwrap()));
    assert_eq!(done["sources"]["admin"].as_u64(), Some(IMAGE as u64), "{done}");
    assert!(cluster.image_on(node) == loose.image);
}

#[test]
fn opentracker_is_announced_to_over_udp() {
    let cluster = Cluster::start("udp-tracker", 2, BitRate::mbit(50));
    // multicast would hide a tracker that was not understood
    let url = format!("udp://{ADMIN}:6969/announce");
    let loose = cluster.loose(73, IMAGE, &[&url]);
    // it reads the list as nobody
    let whitelist = cluster.admin.scratch().join("whitelist");
    fs::write(cluster.outside(&whitelist), format!("{}\n", loose.info_hash)).unwrap();
    let command = Cmd::new(OPENTRACKER.find().unwrap())
        .args(["-P", "6969", "-d", "/", "-u", "nobody", "-w"])
        .arg(whitelist);
    let _tracker = cluster.admin.spawn(&command).unwrap();
    let quiet = |name: &str| {
        Cmd::new(
            lab::program(if name == "seed" { "bee-seeder" } else { "bee-initrd-client" }).unwrap(),
        )
        .args([name, "--json", "--no-lsd", "--listen", "0.0.0.0:6881", "--torrent"])
        .arg(&loose.torrent)
    };
    let [one, other] = &cluster.nodes[..] else { panic!("two nodes") };
    let mut seeder = one.spawn(&quiet("seed").arg("--data").arg(&loose.data)).unwrap();
    wait_for_event(&mut seeder, |e| e["event"] == "seeding");
    let output = other.scratch().join("image");
    let mut fetch = other.spawn(&quiet("fetch").arg("--output").arg(output)).unwrap();
    let done = wait_complete(&mut fetch);
    assert_eq!(done["sources"]["admin"].as_u64(), Some(IMAGE as u64), "{done}");
    assert!(cluster.image_on(other) == loose.image);
}

#[test]
fn a_seeder_whose_address_changes_goes_on_serving() {
    let cluster = Cluster::start("moved", 2, BitRate::mbit(4));
    let url = format!("http://{ADMIN}:6969/announce");
    let loose = cluster.loose(74, IMAGE, &[&url]);
    let _tracker = cluster.tracker_for_all();
    let [seeding, fetching] = &cluster.nodes[..] else { panic!("two nodes") };
    let mut fetch = page::fetch(fetching, loose.torrent.to_str().unwrap(), &["--no-lsd"]);
    // with somebody fetching, the tracker wants to hear from seeders more often
    wait_for_event(&mut fetch, |e| e["cause"] == "no-peers");
    page::troubled(&cluster, fetching, "no peers", "is a seeder running?");
    let _seeder = cluster.seed(seeding, &loose);
    wait_percent(&mut fetch, 20.0);
    let old = format!("{}/16", seeding.ip());
    // what is under way on the old one hangs, and nobody is told
    ip(seeding, &format!("addr del {old} dev eth0"));
    ip(seeding, "addr add 10.87.77.7/16 dev eth0");
    let done = wait_complete(&mut fetch);
    assert_eq!(done["sources"]["admin"].as_u64(), Some(IMAGE as u64), "{done}");
    assert!(cluster.image_on(fetching) == loose.image);
}
