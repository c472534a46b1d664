//! The network is not there: each cause is named on the node, and on its page once it can be told.

use lab::{BitRate, Proc};

use super::fixture::{ADMIN, Cluster, ip, wait_complete, wait_for_event, wait_percent};
use super::page;

const IMAGE: usize = 4 << 20;

/// Waits until the node says that this is why it waits; its detail.
fn waits_for(proc: &mut Proc, cause: &str) -> String {
    let event = wait_for_event(proc, |e| e["event"] == "stalled" && e["cause"] == cause);
    event["detail"].as_str().unwrap().to_owned()
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
    let mut fetches: Vec<_> =
        cluster.nodes.iter().map(|n| page::fetch(n, &revision.url(), &[])).collect();
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
    page::told(&cluster, no_cable, "no carrier", "no link on eth0");
    page::told(&cluster, no_lease, "no DHCP address", "no address or no route yet");
    page::told(&cluster, no_gateway, "no route", "check gateway and firewall");
    page::told(&cluster, torn, "no carrier", "no link on eth0");
}
