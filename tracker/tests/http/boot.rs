//! `boot.ipxe` over HTTP; the text itself has golden tests beside the code.

use crate::bed::{Bed, add_revision, empty_store, get, stable, wait_until};
use crate::events::batch;
use crate::lasting::newer_revision;
use beeswarm_tracker::Config;
use proto::hash::{InfoHash, Sha256Digest};
use serde_json::{Value, json};
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

#[test]
fn a_node_that_was_told_to_boots_its_own_revision_also_after_a_restart() {
    let (_dir, store) = empty_store();
    let old = add_revision(&store, "debian", HASH, true);
    let new = add_revision(&store, "debian", InfoHash([2; 20]), true);
    let other = add_revision(&store, "rocky", InfoHash([3; 20]), true);
    store.publish(&old, &stable()).unwrap();
    let told = "52:54:00:12:34:56".parse().unwrap();
    let bed = Bed::with_store(&store);
    let boots = |bed: &Bed, target: &str, revision: &store::RevisionRef| {
        let line = format!("/revisions/{}/{}\n", revision.name, revision.id);
        bed.get(target).text().contains(&line)
    };
    assert!(boots(&bed, NODE, &old));
    store.assign(&new, &[told]).unwrap();
    wait_until("the node is told", || boots(&bed, NODE, &new));
    assert!(boots(&bed, "/boot/52-54-00-12-34-57.ipxe", &old), "the others follow their channel");
    assert!(boots(&bed, &format!("{NODE}?channel=canary"), &new), "whatever channel it asks for");
    bed.stop();

    let bed = Bed::with_store(&store);
    assert!(boots(&bed, NODE, &new));
    store.assign(&other, &[told]).unwrap();
    wait_until("another image", || boots(&bed, NODE, &other));
    store.unassign(None).unwrap();
    wait_until("it follows its channel", || boots(&bed, NODE, &old));
}

#[test]
fn a_list_of_nodes_that_cannot_be_read_changes_nothing_and_is_told() {
    let (_dir, store) = empty_store();
    let old = add_revision(&store, "debian", HASH, true);
    let new = add_revision(&store, "debian", InfoHash([2; 20]), true);
    store.publish(&old, &stable()).unwrap();
    store.assign(&new, &["52:54:00:12:34:56".parse().unwrap()]).unwrap();
    let bed = Bed::with_store(&store);
    std::fs::write(store.root().join("assignments.json"), "{").unwrap();
    wait_until("the trouble is told", || bed.get("/healthz").json()["status"] == "degraded");
    let line = format!("/revisions/debian/{}\n", new.id);
    assert!(bed.get(NODE).text().contains(&line));
}

#[test]
fn usage_counts_who_boots_runs_and_seeds_each_revision() {
    let (_dir, store) = empty_store();
    let old = add_revision(&store, "debian", HASH, true);
    let new = add_revision(&store, "debian", InfoHash([2; 20]), true);
    store.publish(&old, &stable()).unwrap();
    store
        .assign(&new, &["52:54:00:12:34:56", "52:54:00:00:00:01"].map(|mac| mac.parse().unwrap()))
        .unwrap();
    let bed = Bed::with_store(&store);
    let firmware = "User-Agent: iPXE/1.21.1\r\n";
    get(bed.addr, NODE, firmware);
    get(bed.addr, "/boot/52-54-00-00-00-02.ipxe", firmware);
    // an admin's seeder that was complete from the start is no node
    for (id, left) in [("-BA0100-012345678901", 0), ("-XX0001-012345678901", 5)] {
        let hash = proto::query::encode(HASH.as_bytes());
        let target = format!("/announce?info_hash={hash}&peer_id={id}&port=7001&left={left}");
        assert_eq!(bed.get(&target).status, 200);
    }
    let usage = proto::usage::Usage::parse(&bed.get(proto::usage::USAGE_PATH).body).unwrap();
    assert!(!usage.is_settled());
    let row = |r: &store::RevisionRef| {
        let row = usage.revisions.iter().find(|row| row.revision == r.id.as_str()).unwrap();
        (row.nodes, row.up, row.peers, row.assigned, row.pending)
    };
    assert_eq!(row(&new), (1, 0, 0, 2, 1));
    assert_eq!(row(&old), (1, 0, 1, 0, 0));
}

#[test]
fn ipxe_itself_is_served_for_uefi_http_boot_and_nothing_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ipxe-x86_64.efi"), b"MZ program").unwrap();
    std::fs::write(dir.path().join("secret"), b"x").unwrap();
    let bed = Bed::start(Config { ipxe: Some(dir.path().to_owned()), ..Config::default() });
    let reply = bed.get("/ipxe/ipxe.efi");
    assert_eq!((reply.status, reply.text()), (200, "MZ program"));
    assert!(reply.head.contains("content-type: application/efi"), "{}", reply.head);
    assert!(reply.head.contains("content-length: 10"), "{}", reply.head);
    let missing = bed.get("/ipxe/undionly.kpxe");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("install iPXE"), "{}", missing.text());
    for bad in ["secret", "..%2fsecret", "ipxe-x86_64.efi", ""] {
        assert_eq!(bed.get(&format!("/ipxe/{bad}")).status, 404, "{bad}");
    }
}

#[test]
fn a_mirror_to_be_is_told_where_the_files_are() {
    let (_dir, store) = empty_store();
    let revision = add_revision(&store, "debian", HASH, true);
    store.publish(&revision, &stable()).unwrap();
    let config = Config { store: Some(store.root().to_owned()), ..Config::default() };
    let path = |mac: &str| format!("/api/v1/mirrors?node={mac}&revision={revision}");
    let (one, two) = (path("52:54:00:12:34:56"), path("52:54:00:12:34:57"));
    let off = Bed::start(config.clone());
    assert_eq!(off.get(&one).json()["origin"], false, "nobody would be sent to it");
    let bed =
        Bed::start(Config { mirrors: beeswarm_tracker::config::Mirrors::Unverified, ..config });
    for (target, origin) in [(&one, true), (&two, false), (&one, true)] {
        let answer = bed.get(target).json();
        assert_eq!(answer["origin"], origin, "one at a time: {answer}");
        assert_eq!(answer["sources"].as_array().unwrap().len(), 0);
    }
    for (bad, status) in [
        ("/api/v1/mirrors", 400),
        ("/api/v1/mirrors?node=x&revision=debian@0123456789ab", 400),
        ("/api/v1/mirrors?node=52:54:00:12:34:56&revision=..", 400),
        ("/api/v1/mirrors?node=52:54:00:12:34:56&revision=debian@0123456789ab", 404),
    ] {
        assert_eq!(bed.get(bad).status, status, "{bad}");
    }
}

#[test]
fn a_node_is_sent_to_a_mirror_and_verifies_what_comes_from_there() {
    let (_dir, store) = empty_store();
    let revision = newer_revision(&store, InfoHash([1; 20]));
    store.publish(&revision, &stable()).unwrap();
    let bed = Bed::start(Config {
        store: Some(store.root().to_owned()),
        mirrors: beeswarm_tracker::config::Mirrors::Unverified,
        imgverify: Some("http://admin/sig/".parse().unwrap()),
        ..Config::default()
    });
    let script = |node: &str| get(bed.addr, node, "User-Agent: iPXE/1.21.1\r\n").text().to_owned();
    let first = script(NODE);
    assert!(!first.contains("imgverify"), "the admin host is not verified: {first}");
    let (_, behind) = first.split_once(" beeswarm.token=").unwrap();
    let seeding = json!([{ "seq": 1, "uptime_ms": 9, "stage": "seeding", "device": "/dev/loop0",
        "user": "u", "uploaded": 0, "http": 8081 }]);
    let mut body: Value = serde_json::from_slice(&batch("b", seeding)).unwrap();
    body["token"] = json!(behind.split(' ').next().unwrap());
    let events = "/api/v1/nodes/52-54-00-12-34-56/events";
    assert_eq!(bed.post(events, body.to_string().as_bytes()).status, 204);
    let second = script("/boot/52-54-00-12-34-57.ipxe");
    let folder = format!("{}/{}", revision.name, revision.id);
    let from = format!("set from http://127.0.0.1:8081/revisions/{folder}\n");
    assert!(second.contains(&from), "{second}");
    for file in ["vmlinuz", "initrd.img"] {
        let verify = format!(" {file} http://admin/sig/{folder}/{file}.sig || goto refused\n");
        assert!(second.contains(&verify), "{second}");
    }
}
