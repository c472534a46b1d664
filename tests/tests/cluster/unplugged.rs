//! The network is not there: each cause is named on the node, and on its page once it can be told.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{BitRate, Cmd, Node, Proc, http, program};

use super::fixture::{ADMIN, Cluster, LIMIT, ip, wait_complete, wait_for_event, wait_percent};

const IMAGE: usize = 4 << 20;

/// A fetch that reports to the tracker and sees the cards of its own node: `/sys` of the lab is the host's.
fn fetch(node: &Node, url: &str) -> Proc {
    let own_sysfs = "mount -t sysfs sysfs /sys && exec \"$0\" \"$@\"";
    let command = Cmd::new("unshare")
        .args(["--mount", "sh", "-c", own_sysfs])
        .arg(program("bee-initrd-client").unwrap())
        .args(["fetch", "--keep-seeding", "--json", "--listen", "0.0.0.0:6881"])
        .args(["--torrent", url, "--output"])
        .arg(node.scratch().join("image"))
        .args(["--report", &format!("http://{ADMIN}:6969"), "--node", node.mac()]);
    node.spawn(&command).unwrap()
}

/// Waits until the node says that this is why it waits; its detail.
fn waits_for(proc: &mut Proc, cause: &str) -> String {
    let event = wait_for_event(proc, |e| e["event"] == "stalled" && e["cause"] == cause);
    event["detail"].as_str().unwrap().to_owned()
}

/// Waits until the node's page has this text: what could not be told at once is told later.
fn seen_on_page(cluster: &Cluster, node: &Node, text: &str) {
    let deadline = Instant::now() + LIMIT;
    let path = format!("/nodes/{}", node.mac());
    loop {
        let tracker = format!("{ADMIN}:6969").parse().unwrap();
        let page = http::get(&cluster.admin, tracker, &path, LIMIT).unwrap();
        let page = String::from_utf8(page.body).unwrap();
        if page.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "the page of {} lacks `{text}`:\n{page}", node.name());
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_node_says_what_its_network_lacks_and_its_page_shows_it() {
    let cluster = Cluster::start("unplugged", 4, BitRate::mbit(8));
    let revision = cluster.publish(90, IMAGE);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let [no_cable, no_lease, no_gateway, torn] = &cluster.nodes[..] else { panic!("four nodes") };
    let address = format!("{}/16", no_lease.ip());
    no_cable.pull_cable().unwrap();
    ip(no_lease, "addr flush dev eth0");
    // nobody has the address of the gateway
    ip(no_gateway, &format!("route add {ADMIN} via 10.87.250.250 dev eth0"));
    let mut fetches: Vec<_> = cluster.nodes.iter().map(|n| fetch(n, &revision.url())).collect();
    let [at_no_cable, at_no_lease, at_no_gateway, at_torn] = &mut fetches[..] else { panic!() };

    wait_percent(at_torn, 10.0);
    torn.pull_cable().unwrap();

    let detail = waits_for(at_no_cable, "no-carrier");
    assert!(detail.contains("no link on eth0"), "{detail}");
    no_cable.plug_cable().unwrap();

    let detail = waits_for(at_no_lease, "no-address");
    assert!(detail.contains("no address or no route yet"), "{detail}");
    ip(no_lease, &format!("addr add {address} dev eth0"));

    let detail = waits_for(at_no_gateway, "no-route");
    assert!(detail.contains("check gateway and firewall"), "{detail}");
    ip(no_gateway, &format!("route del {ADMIN} via 10.87.250.250 dev eth0"));

    // its connections do not know: without its cards it would call its peers silent
    let detail = waits_for(at_torn, "no-carrier");
    assert!(detail.contains("no link on eth0"), "{detail}");
    torn.plug_cable().unwrap();

    for (fetch, node) in fetches.iter_mut().zip(&cluster.nodes) {
        wait_complete(fetch);
        assert!(cluster.image_on(node) == revision.image, "{}", node.name());
    }
    seen_on_page(&cluster, no_cable, "no link on eth0");
    seen_on_page(&cluster, no_lease, "no address or no route yet");
    seen_on_page(&cluster, no_gateway, "check gateway and firewall");
    seen_on_page(&cluster, torn, "no link on eth0");
}
