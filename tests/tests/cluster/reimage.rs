//! A cluster is reimaged: the real packer asks and tells the real tracker, node by node.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lab::client::CURL;
use lab::{BitRate, Cmd, Node, Proc, program};
use serde_json::Value;
use store::RevisionRef;

use super::fixture::{ADMIN, Cluster, LIMIT, wait, wait_complete, wait_for_event};

/// From when on a tracker is believed that it knows all nodes, and some seconds.
const SETTLED: Duration = Duration::from_secs(230);

/// An admin who packs, and calls everything on the admin host.
struct Admin<'a> {
    cluster: &'a Cluster,
    dir: tempfile::TempDir,
}

impl Admin<'_> {
    /// The first revision, for a tracker that has just started.
    fn pack_first(&self) -> RevisionRef {
        // the tracker counts whole seconds: what is packed in its first one may be older than its memory
        std::thread::sleep(Duration::from_millis(1100));
        self.pack("1", &["--publish"])
    }

    /// `bee-packer --json` with the store; its exit code and events.
    fn packer(&self, args: &[&str]) -> (Option<i32>, Vec<Value>) {
        let command = Cmd::new(program("bee-packer").unwrap())
            .arg("--json")
            .args(args)
            .arg("--store")
            .arg(self.cluster.store.root());
        let output = self.cluster.admin.run(&command).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text.lines().map(|l| serde_json::from_str(l).unwrap()).collect())
    }

    /// The events of a call that succeeds.
    fn done(&self, args: &[&str]) -> Vec<Value> {
        let (code, events) = self.packer(args);
        assert_eq!(code, Some(0), "{args:?}: {events:?}");
        events
    }

    /// Packs another version of a root with kernel and initrd.
    fn pack(&self, version: &str, further: &[&str]) -> RevisionRef {
        let (root, boot) = (self.dir.path().join("root"), self.dir.path().join("boot"));
        for folder in ["etc", "usr/bin"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let mut tool = vec![0; 1 << 20];
        fastrand::Rng::with_seed(version.len() as u64).fill(&mut tool);
        fs::write(root.join("usr/bin/tool"), tool).unwrap();
        fs::write(root.join("etc/version"), version).unwrap();
        fs::write(&boot, "kernel").unwrap();
        let (root, boot) = (root.to_str().unwrap(), boot.to_str().unwrap());
        let tracker = format!("http://{ADMIN}:6969");
        let mut args = vec!["pack", "--name", "demo", "--source", root, "--tracker", &tracker];
        args.extend(["--kernel", boot, "--keep-initrd", boot]);
        args.extend(further);
        let packed = self.done(&args).pop().unwrap();
        format!("demo@{}", packed["revision"].as_str().unwrap()).parse().unwrap()
    }

    /// What `status` says of a revision: nodes, peers, assigned, pending.
    fn status(&self, revision: &RevisionRef) -> [u64; 4] {
        let url = format!("http://{ADMIN}:6969/announce");
        let events = self.done(&["status", "--tracker-url", &url]);
        let row = events.iter().find(|row| row["revision"] == revision.id.as_str()).unwrap();
        // none: the tracker knows nobody who uses it
        ["nodes", "peers", "assigned", "pending"].map(|key| row[key].as_u64().unwrap_or(0))
    }

    fn wait_status(&self, revision: &RevisionRef, wanted: [u64; 4]) {
        wait(&format!("{revision} to have {wanted:?}"), LIMIT, || {
            let status = self.status(revision);
            if status == wanted { Ok(()) } else { Err(format!("{status:?}")) }
        });
    }

    /// `prune --keep 1` by the tracker's word: which revisions were removed, and which kept for whom.
    fn prune(&self) -> (Vec<String>, Vec<(String, String)>) {
        self.prune_by(6969)
    }

    /// The same by the word of the tracker at this port.
    fn prune_by(&self, port: u16) -> (Vec<String>, Vec<(String, String)>) {
        let url = format!("http://{ADMIN}:{port}");
        let events = self.done(&["prune", "demo", "--keep", "1", "--tracker-url", &url]);
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let of = |kind: &str| {
            let kind = kind.to_owned();
            events.iter().filter(move |event| event["event"] == *kind)
        };
        let kept = of("kept").map(|event| (text(event, "revision"), text(event, "reason")));
        (of("removed").map(|event| text(event, "revision")).collect(), kept.collect())
    }

    /// What a node's firmware is told to boot.
    fn script(&self, node: &Node) -> String {
        let url = format!("http://{ADMIN}:6969/boot/{}.ipxe", node.mac().replace(':', "-"));
        let ask = Cmd::new(CURL.find().unwrap())
            .args(["--silent", "--fail", "--max-time", "20", "--user-agent", "iPXE/1.21.1"])
            .arg(url);
        let output = node.run(&ask).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The node boots: it takes what its script names, and seeds it.
    fn boot(&self, node: &Node, expected: &RevisionRef) -> Proc {
        let base = format!("http://{ADMIN}:8080/revisions/demo/{}", expected.id);
        wait(&format!("{} to be told {expected}", node.name()), LIMIT, || {
            let script = self.script(node);
            if script.contains(&format!("set base {base}\n")) { Ok(()) } else { Err(script) }
        });
        let image = node.scratch().join(expected.id.as_str());
        let command = Cmd::new(program("bee-initrd-client").unwrap())
            .args(["fetch", "--keep-seeding", "--json", "--listen", "[::]:6881"])
            .args(["--torrent", &format!("{base}/"), "--output"])
            .arg(&image)
            .args(["--report", &format!("http://{ADMIN}:6969"), "--node", node.mac()]);
        let mut fetch = node.spawn(&command).unwrap();
        wait_complete(&mut fetch);
        let packed: PathBuf = self.cluster.store.revision(expected).unwrap().image();
        assert!(fs::read(self.cluster.outside(&image)).unwrap() == fs::read(packed).unwrap());
        fetch
    }
}

fn wait_seeding(seeder: &mut Proc, revision: &RevisionRef) {
    let name = revision.to_string();
    wait_for_event(seeder, |e| e["event"] == "seeding" && e["revision"] == name.as_str());
}

#[test]
fn nodes_are_reimaged_one_after_the_other_and_what_they_run_is_never_pruned() {
    let cluster = Cluster::start("reimage", 2, BitRate::mbit(100));
    let admin = Admin { cluster: &cluster, dir: tempfile::tempdir().unwrap() };
    let (one, two) = (&cluster.nodes[0], &cluster.nodes[1]);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    let mut seeding = |revision: &RevisionRef| wait_seeding(&mut seeder, revision);
    let first = admin.pack_first();
    seeding(&first);
    let (mut on_one, mut on_two) = (admin.boot(one, &first), admin.boot(two, &first));
    admin.wait_status(&first, [2, 2, 0, 0]);

    // one node gets another revision, at its next boot and not before
    let second = admin.pack("22", &[]);
    let told =
        admin.done(&["reimage", &second.to_string(), "--at-next-boot", "--nodes", one.mac()]);
    assert_eq!(told[0]["nodes"][0], one.mac());
    seeding(&second);
    admin.wait_status(&second, [0, 0, 1, 1]);
    assert_eq!(admin.status(&first), [2, 2, 0, 0]);
    assert!(admin.script(two).contains(first.id.as_str()), "who was not named boots as before");
    on_one.terminate(Duration::from_secs(10)).unwrap();
    let mut on_one = admin.boot(one, &second);
    admin.wait_status(&second, [1, 1, 1, 0]);
    admin.wait_status(&first, [1, 1, 0, 0]);

    // the channel goes on; a tracker that may not know all nodes yet lets nothing go
    let third = admin.pack("333", &["--publish"]);
    seeding(&third);
    let url = format!("http://{ADMIN}:6969");
    let early = admin.packer(&["prune", "demo", "--keep", "1", "--tracker-url", &url]);
    assert!(early.0 == Some(1) && format!("{early:?}").contains("try again in"), "{early:?}");
    wait("the tracker to be believed", SETTLED, || {
        let (code, events) = admin.packer(&["prune", "none", "--keep", "1", "--tracker-url", &url]);
        // no such image: it was believed
        if code == Some(3) { Ok(()) } else { Err(format!("{events:?}")) }
    });
    let (removed, kept) = admin.prune();
    assert_eq!(removed, [""; 0], "{kept:?}");
    let reason = |revision: &RevisionRef| {
        let found = kept.iter().find(|(id, _)| *id == revision.id.as_str());
        found.map(|(_, reason)| reason.as_str()).unwrap_or_default()
    };
    assert_eq!(reason(&first), "nodes run it");
    assert_eq!(reason(&second), format!("node {} is to boot it", one.mac()));

    // back to the channel, at the next boot: until then the node runs what it runs
    assert_eq!(admin.done(&["unassign", "--nodes", one.mac()])[0]["nodes"][0], one.mac());
    admin.wait_status(&second, [1, 1, 0, 0]);
    on_two.terminate(Duration::from_secs(10)).unwrap();
    let mut on_two = admin.boot(two, &third);
    admin.wait_status(&first, [0, 0, 0, 0]);
    let (removed, kept) = admin.prune();
    assert_eq!(removed, [first.id.as_str()]);
    assert_eq!(kept, [(second.id.to_string(), "nodes run it".to_owned())]);
    // its seeder dies, and nobody announces the revision any more: the node runs it all the same
    on_one.terminate(Duration::from_secs(10)).unwrap();
    admin.wait_status(&second, [1, 0, 0, 0]);
    let (removed, kept) = admin.prune();
    assert_eq!(removed, [""; 0]);
    assert_eq!(kept, [(second.id.to_string(), "nodes run it".to_owned())]);
    let mut on_one = admin.boot(one, &third);
    admin.wait_status(&third, [2, 2, 0, 0]);
    assert_eq!(admin.prune().0, [second.id.as_str()]);

    // all nodes, one of which has an order of its own, at their next boot and not before
    let fourth = admin.pack("4444", &[]);
    admin.done(&["reimage", &third.to_string(), "--at-next-boot", "--nodes", one.mac()]);
    admin.wait_status(&third, [2, 2, 1, 0]);
    let told = admin.done(&["reimage", &fourth.to_string(), "--at-next-boot", "--all"]);
    assert_eq!(told[0]["unassigned"][0], one.mac());
    assert_eq!(told[0]["previous"], third.id.as_str());
    seeding(&fourth);
    admin.wait_status(&third, [2, 2, 0, 0]);
    on_one.terminate(Duration::from_secs(10)).unwrap();
    on_two.terminate(Duration::from_secs(10)).unwrap();
    let _both = [admin.boot(one, &fourth), admin.boot(two, &fourth)];
    admin.wait_status(&fourth, [2, 2, 0, 0]);
    assert_eq!(admin.prune().0, [third.id.as_str()]);
}

/// The seeder of the only node dies, and then the tracker: what the node runs is known by the state alone.
#[test]
fn what_a_node_without_a_seeder_runs_outlives_the_tracker() {
    let cluster = Cluster::start("reimage-restart", 1, BitRate::mbit(100));
    let admin = Admin { cluster: &cluster, dir: tempfile::tempdir().unwrap() };
    let node = &cluster.nodes[0];
    let state = admin.dir.path().join("state");
    let flags = ["--state", state.to_str().unwrap()];
    let mut tracker = cluster.tracker_with(&flags);
    let mut seeder = cluster.seeder(&[]);
    let mut seeding = |revision: &RevisionRef| wait_seeding(&mut seeder, revision);
    let first = admin.pack_first();
    seeding(&first);
    let mut on_node = admin.boot(node, &first);
    admin.wait_status(&first, [1, 1, 0, 0]);
    on_node.terminate(Duration::from_secs(10)).unwrap();
    admin.wait_status(&first, [1, 0, 0, 0]);
    let second = admin.pack("22", &["--publish"]);
    seeding(&second);
    tracker.terminate(Duration::from_secs(10)).unwrap();

    let _tracker = cluster.tracker_with(&flags);
    // and one that keeps nothing, beside it
    let forgetful = Cmd::new(program("bee-tracker").unwrap())
        .args(["--listen", "0.0.0.0:6970", "--store"])
        .arg(cluster.store.root());
    let _forgetful = cluster.admin.spawn(&forgetful).unwrap();
    for port in [6969, 6970] {
        wait("the trackers to be believed", SETTLED, || {
            let url = format!("http://{ADMIN}:{port}");
            let ask = ["prune", "none", "--keep", "1", "--tracker-url", &url];
            let (code, events) = admin.packer(&ask);
            // no such image: it was believed
            if code == Some(3) { Ok(()) } else { Err(format!("{events:?}")) }
        });
    }
    let (removed, kept) = admin.prune_by(6970);
    assert_eq!(removed, [""; 0], "by the word of a tracker that knows nothing");
    assert_eq!(kept[0].0, first.id.as_str());
    for part in ["older than the tracker's memory", "--state", "--ignore-nodes"] {
        assert!(kept[0].1.contains(part), "{kept:?}");
    }
    let (removed, kept) = admin.prune();
    assert_eq!(removed, [""; 0]);
    assert_eq!(kept, [(first.id.to_string(), "nodes run it".to_owned())]);
    // and the state goes back far enough to let go what nobody runs
    let _on_node = admin.boot(node, &second);
    admin.wait_status(&second, [1, 1, 0, 0]);
    assert_eq!(admin.prune().0, [first.id.as_str()]);
}
