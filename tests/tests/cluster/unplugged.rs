//! A node whose network comes up step by step: each trouble has its name, and the status page has them all.

use std::net::SocketAddr;

use lab::{BitRate, Cmd, Node, program};
use serde_json::Value;

use super::fixture::{ADMIN, Cluster, LIMIT, wait_complete, wait_for_event};

fn ip(node: &Node, args: &[&str]) {
    let output = node.run(&Cmd::new("ip").args(args)).unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn no_carrier_no_address_no_route_are_told_apart_and_seen_on_the_page() {
    let cluster = Cluster::start("unplugged", 1, BitRate::mbit(50));
    let revision = cluster.publish(31, 256 << 10);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let node = &cluster.nodes[0];
    let address = format!("{}/16", node.ip());
    ip(node, &["-6", "addr", "flush", "dev", "eth0"]);
    ip(node, &["addr", "flush", "dev", "eth0"]);
    ip(node, &["link", "set", "eth0", "down"]);
    let command = Cmd::new(program("bee-initrd-client").unwrap())
        .args(["fetch", "--json", "--no-lsd", "--listen", "0.0.0.0:6881", "--report"])
        .arg(format!("http://{ADMIN}:6969"))
        .args(["--node", node.mac(), "--torrent"])
        .arg(format!("{}rootimg.torrent", revision.url()))
        .arg("--output")
        .arg(node.scratch().join("image"));
    let mut fetch = node.spawn(&command).unwrap();
    let mut told = |cause: &str| {
        let stall = wait_for_event(&mut fetch, |e| e["event"] == "stalled" && e["cause"] == cause);
        stall["detail"].as_str().unwrap().to_owned()
    };
    assert!(told("no-carrier").contains("eth0"));
    // the cable is in, and nobody gives an address
    ip(node, &["link", "set", "eth0", "up"]);
    told("no-address");
    // a gateway that is not there
    ip(node, &["addr", "add", "192.0.2.7/24", "dev", "eth0"]);
    ip(node, &["route", "add", "default", "via", "192.0.2.1"]);
    assert!(told("no-route").contains(ADMIN));
    ip(node, &["addr", "flush", "dev", "eth0"]);
    ip(node, &["addr", "add", &address, "dev", "eth0"]);
    wait_complete(&mut fetch);
    assert!(cluster.image_on(node) == revision.image);

    let tracker: SocketAddr = format!("{ADMIN}:6969").parse().unwrap();
    let get = |path: &str| lab::http::get(&cluster.admin, tracker, path, LIMIT).unwrap();
    let deadline = std::time::Instant::now() + LIMIT;
    let causes = loop {
        let reply = get(&format!("/api/v1/nodes/{}", node.mac()));
        let known: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let events = known["events"].as_array().cloned().unwrap_or_default();
        if events.iter().any(|event| event["stage"] == "verify") {
            let causes = events.into_iter().filter(|event| event["stage"] == "stalled");
            break causes.map(|event| event["cause"].clone()).collect::<Vec<_>>();
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the tracker never heard of the end: {known}"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let page = get(&format!("/nodes/{}", node.mac()));
    let page = String::from_utf8(page.body).unwrap();
    for (cause, text) in [
        ("no-carrier", "no link on eth0"),
        ("no-address", "no address or no route yet"),
        ("no-route", "check gateway"),
    ] {
        assert!(causes.contains(&Value::from(cause)), "{cause} is not in {causes:?}");
        assert!(page.contains(text), "{text} is not on the page: {page}");
    }
}
