//! `boot.ipxe` over HTTP; the text itself has golden tests beside the code.

use crate::bed::{Bed, add_revision, empty_store, get, stable};
use beeswarm_tracker::Config;
use proto::hash::{InfoHash, Sha256Digest};
use store::Channel;

const HASH: InfoHash = InfoHash([1; 20]);
const NODE: &str = "/boot/52-54-00-12-34-56.ipxe";

#[test]
fn any_node_is_sent_to_its_own_script() {
    let bed = Bed::start(Config::default());
    let reply = get(bed.addr, "/boot.ipxe?channel=gpu", "Host: admin.cluster:6969\r\n");
    let chain = "chain --replace --autofree \
                 http://admin.cluster:6969/boot/${netX/mac:hexhyp}.ipxe?channel=gpu ||";
    assert!(reply.text().starts_with("#!ipxe\n"));
    assert!(reply.text().lines().any(|line| line == chain), "{}", reply.text());
    assert!(reply.head.contains("content-type: text/plain"), "{}", reply.head);
}

#[test]
fn a_node_boots_the_current_revision() {
    let (_dir, store) = empty_store();
    let revision = add_revision(&store, "debian", HASH, true);
    store.publish(&revision, &stable()).unwrap();
    let bed = Bed::with_store(&store);
    let host = "Host: admin:6969\r\n";
    let script = get(bed.addr, NODE, host).text().to_owned();
    for form in [
        "/boot/52:54:00:12:34:56.ipxe",
        "/boot/52:54:00:12:34:56",
        "/boot/01-52-54-00-12-34-56.ipxe",
        "/boot.ipxe?mac=52:54:00:12:34:56",
        "/boot.ipxe?mac=52%3A54%3A00%3A12%3A34%3A56",
    ] {
        assert_eq!(get(bed.addr, form, host).text(), script, "{form}");
    }
    let manifest = std::fs::read(store.revision(&revision).unwrap().manifest_path()).unwrap();
    let pin = Sha256Digest::of(&manifest);
    let base = format!("set base http://admin:8080/revisions/debian/{}", revision.id);
    assert!(script.lines().any(|line| line == base), "{script}");
    assert!(script.contains(&format!(" beeswarm.pin=sha256:{pin} ")));
    assert!(script.contains(" beeswarm.tracker=http://admin:6969/announce "));
    assert!(script.contains(" BOOTIF=01-52-54-00-12-34-56 "));
}

#[test]
fn settings_reach_the_script() {
    let (_dir, store) = empty_store();
    let revision = add_revision(&store, "debian", HASH, true);
    store.publish(&revision, &Channel::new("canary").unwrap()).unwrap();
    let bed = Bed::start(Config {
        store: Some(store.root().to_owned()),
        image_url: Some("http://mirror/boot/".parse().unwrap()),
        channel: Channel::new("canary").unwrap(),
        kernel_args: "console=ttyS0 rd.debug".parse().unwrap(),
        ..Config::default()
    });
    let script = bed.get(NODE).text().to_owned();
    assert!(script.contains("set base http://mirror/boot/revisions/debian/"), "{script}");
    assert!(script.contains(" rd.neednet=1 console=ttyS0 rd.debug || goto failed\n"), "{script}");
    let wait = bed.get(&format!("{NODE}?channel=stable")).text().to_owned();
    assert!(wait.contains("nothing is published in channel stable"), "{wait}");
    assert!(wait.contains(".ipxe?channel=stable\n"), "asks again for the same: {wait}");
}

#[test]
fn the_screen_says_why_nothing_boots() {
    let (_dir, store) = empty_store();
    let bed = Bed::with_store(&store);
    let waits = |bed: &Bed, reason: &str| {
        let script = bed.get(NODE).text().to_owned();
        assert!(script.starts_with("#!ipxe\n") && script.ends_with("goto failed\n"));
        assert!(script.contains(reason), "{script}");
        for line in script.lines() {
            let word = line.split(' ').next().unwrap();
            assert!(!["shell", "exit", "kernel", "boot"].contains(&word), "{script}");
        }
    };
    waits(&bed, "nothing is published in channel stable");
    let debian = add_revision(&store, "debian", HASH, false);
    store.publish(&debian, &stable()).unwrap();
    waits(&Bed::with_store(&store), "has no kernel or no initrd");
    let rocky = add_revision(&store, "rocky", InfoHash([2; 20]), true);
    store.publish(&rocky, &stable()).unwrap();
    let bed = Bed::with_store(&store);
    waits(&bed, "several images (debian, rocky)");
    let script = bed.get(&format!("{NODE}?image=rocky"));
    assert!(script.text().contains(&format!("/revisions/rocky/{}\n", rocky.id)));
    waits(&Bed::start(Config::default()), "runs without --store");
}

#[test]
fn nothing_from_outside_becomes_a_command() {
    let bed = Bed::start(Config::default());
    for (bad, status) in [
        ("/boot/..%2f..%2fetc%2fpasswd", 404),
        ("/boot/shell.ipxe", 404),
        ("/boot.ipxe?mac=x", 400),
        ("/boot.ipxe?mac=52:54:00:12:34:56%0ashell", 400),
        ("/boot.ipxe?channel=a%0ashell", 400),
        ("/boot.ipxe?image=..", 400),
        ("/boot.ipxe?channel=%ff", 400),
    ] {
        assert_eq!(bed.get(bad).status, status, "{bad}");
    }
    for host in ["a b", "x;shell", "${user-class}", "a||shell", "", "[::g]:1", "\"x\""] {
        let reply = get(bed.addr, "/boot.ipxe", &format!("Host: {host}\r\n"));
        if reply.status == 200 {
            let own = bed.get("/boot.ipxe").text().to_owned();
            assert_eq!(reply.text(), own, "{host:?} is replaced by the address of the socket");
        } else {
            assert_eq!(reply.status, 400, "{host:?}");
        }
    }
}

#[test]
fn a_node_is_seen_from_its_firmware_on_and_not_when_an_admin_looks() {
    let (_dir, store) = empty_store();
    let bed = Bed::with_store(&store);
    get(bed.addr, NODE, "User-Agent: curl/8\r\n");
    assert_eq!(bed.get("/api/v1/nodes").json().as_array().unwrap().len(), 0);
    get(bed.addr, NODE, "User-Agent: iPXE/1.21.1\r\n");
    let nodes = bed.get("/api/v1/nodes").json();
    assert_eq!(nodes[0]["id"], "52:54:00:12:34:56");
    assert_eq!(nodes[0]["stage"], "netboot");
    assert_eq!(nodes[0]["waits"], "nothing is published in channel stable");
}
