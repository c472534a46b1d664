//! What nodes run and are to run: reimage, status, prune, history. The tracker is played by the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;

use proto::usage::{RevisionUse, USAGE_PATH, Usage};

use crate::support::{
    complete, events, pack_image, packer, run, said, scratch, small_root, stderr, text,
};

/// Answers `usage` to every request until the test ends.
fn tracker(usage: &Usage) -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let body = serde_json::to_string(usage).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut first = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut first).unwrap();
            while {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap() > 2
            } {}
            let (status, body) = match first.split(' ').nth(1) {
                Some(USAGE_PATH) => ("200 OK", body.as_str()),
                _ => ("404 Not Found", ""),
            };
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    origin
}

fn usage(revision: &str, uptime_s: u64) -> Usage {
    let (name, revision) = revision.split_once('@').unwrap();
    let row = RevisionUse {
        name: name.to_owned(),
        revision: revision.to_owned(),
        nodes: 3,
        up: 2,
        peers: 2,
        assigned: 0,
        pending: 0,
    };
    Usage { uptime_s, remembers_s: None, revisions: vec![row] }
}

/// A store with three published revisions, the oldest first.
fn three(dir: &Path) -> (PathBuf, [String; 3]) {
    let (root, store) = (small_root(dir), dir.join("store"));
    let revisions = ["1", "2", "3"].map(|version| {
        std::fs::write(root.join("etc/version"), version).unwrap();
        let packed = pack_image(&root, &store, &["--publish"]);
        format!("test@{}", packed["revision"].as_str().unwrap())
    });
    (store, revisions)
}

#[test]
fn what_nodes_run_is_kept_and_who_cannot_be_asked_stops_the_pruning() {
    let dir = scratch();
    let (store, revisions) = three(dir.path());
    let at = ["--store", text(&store)];
    let prune =
        |url: &str| packer(&["prune", "test", "--keep", "1", "--tracker-url", url, at[0], at[1]]);

    let nobody = prune("http://127.0.0.1:1");
    assert_eq!(nobody.status.code(), Some(1), "{}", stderr(&nobody));
    assert!(stderr(&nobody).contains("is bee-tracker running"), "{}", stderr(&nobody));
    let started = prune(&tracker(&usage(&revisions[0], 20)));
    assert_eq!(started.status.code(), Some(1));
    assert!(stderr(&started).contains("try again in 180 s"), "{}", stderr(&started));

    // packed long before the tracker started, which has no state
    let manifest =
        store.join("revisions").join(revisions[1].replace('@', "/")).join("manifest.json");
    let touch = |date: &str| run("touch", &["--date", date, text(&manifest)]);
    touch("1 day ago");
    let kept = said(&prune(&tracker(&usage(&revisions[0], 10_000))));
    assert!(!kept.contains("removed"), "{kept}");
    let why = format!("kept {}: nodes may run it", revisions[1]);
    for part in [&why, "older than the tracker's memory", "--state", "--ignore-nodes"] {
        assert!(kept.contains(part), "{part:?} is not in {kept}");
    }
    touch("now");

    let url = tracker(&usage(&revisions[0], 10_000));
    let status = said(&packer(&["status", "--tracker-url", &url, at[0], at[1]]));
    let line = status.lines().find(|line| line.starts_with(&revisions[0])).unwrap();
    assert!(line.contains("seeded; 3 nodes, 2 up, 2 in the swarm"), "{status}");
    let pruned = said(&prune(&format!("{url}/announce")));
    assert!(pruned.contains(&format!("kept {}: nodes run it", revisions[0])), "{pruned}");
    assert!(pruned.contains(&format!("removed {}", revisions[1])), "{pruned}");
    let list = said(&packer(&["list", at[0], at[1]]));
    assert!(list.contains(&revisions[0]) && !list.contains(&revisions[1]), "{list}");

    // what was removed all the same is still told
    let lost = tracker(&usage(&revisions[1], 10_000));
    let status = said(&packer(&["status", "--tracker-url", &lost, at[0], at[1]]));
    assert!(status.contains("no longer in the store; 3 nodes run it"), "{status}");
}

#[test]
fn nodes_are_reimaged_one_by_one_or_all() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let at = ["--store", text(&store)];
    let bare = pack_image(&root, &store, &[]);
    let next = ["reimage", "test", "--at-next-boot", at[0], at[1]];
    let refused = packer(&[&next[..], &["--nodes", "52:54:00:00:00:01"]].concat());
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("no kernel or no initrd"), "{}", stderr(&refused));
    assert_eq!(bare["new"], true);

    let boot = |version: &str| {
        std::fs::write(root.join("etc/version"), version).unwrap();
        let file = dir.path().join("boot");
        std::fs::write(&file, "kernel").unwrap();
        let packed = complete(&packer(&[
            "pack",
            "--json",
            "--name",
            "test",
            "--source",
            text(&root),
            at[0],
            at[1],
            "--keep-initrd",
            text(&file),
            "--kernel",
            text(&file),
        ]));
        format!("test@{}", packed["revision"].as_str().unwrap())
    };
    let first = boot("1");
    said(&packer(&["publish", &first, at[0], at[1]]));
    let second = boot("2");
    let ethers = dir.path().join("ethers");
    std::fs::write(&ethers, "52:54:00:00:00:07 node7\n").unwrap();
    let which = ["--nodes", "node7,52-54-00-00-00-01", "--ethers", text(&ethers)];
    let told = said(&packer(&[&next[..], &which].concat()));
    assert!(told.contains(&format!("2 nodes boot {second} at their next boot")), "{told}");
    let file = std::fs::read_to_string(store.join("assignments.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["nodes"]["52:54:00:00:00:07"], *second);
    let list = said(&packer(&["status", at[0], at[1]]));
    assert!(list.contains(&format!("{second}  seeded; assigned to 2")), "{list}");
    assert!(list.contains(&format!("{first}  booted by stable")), "{list}");

    let freed = packer(&["unassign", "--nodes", "52:54:00:00:00:01", "--json", at[0], at[1]]);
    assert_eq!(events(&freed)[0]["nodes"][0], "52:54:00:00:00:01");
    let all = packer(&[&next[..], &["--all", "--json"]].concat());
    let event = &events(&all)[0];
    assert_eq!(event["unassigned"][0], "52:54:00:00:00:07");
    assert_eq!(event["previous"], first.split_once('@').unwrap().1);
    let history = said(&packer(&["history", "test", at[0], at[1]]));
    for part in [
        format!("channel stable boots {first}"),
        format!("2 nodes are to boot {second}"),
        "1 nodes follow their channel again".to_owned(),
        format!("channel stable boots {second}, before {}", first.split_once('@').unwrap().1),
    ] {
        assert!(history.contains(&part), "{part:?} is not in {history}");
    }
}

/// Takes one order with the token `secret`; gives the request line and the body.
fn order_taker(answer: &'static str) -> (String, std::sync::mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (sender, orders) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = Vec::new();
            while head.last().is_none_or(|line: &String| line.len() > 2) {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                head.push(line);
            }
            let field = |name: &str| {
                let line = head.iter().find(|line| line.to_ascii_lowercase().starts_with(name));
                line.map(|line| line.split_once(": ").unwrap().1.trim().to_owned())
            };
            let mut body = vec![0; field("content-length").unwrap().parse().unwrap()];
            std::io::Read::read_exact(&mut reader, &mut body).unwrap();
            let (status, text) = match field("authorization").as_deref() {
                Some("Bearer secret") => ("200 OK", answer),
                _ => ("401 Unauthorized", "{\"error\":\"not the admin's token\"}"),
            };
            let length = text.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{text}").unwrap();
            sender.send((head.remove(0), String::from_utf8(body).unwrap())).unwrap();
        }
    });
    (origin, orders)
}

#[test]
fn a_tracker_takes_orders_of_who_has_its_token() {
    let dir = scratch();
    let (right, wrong) = (dir.path().join("token"), dir.path().join("wrong"));
    std::fs::write(&right, "secret\n").unwrap();
    std::fs::write(&wrong, "guess\n").unwrap();
    let none = dir.path().join("ethers");
    let answer = r#"{"revision":"debian@0123456789ab","nodes":["52:54:00:00:00:01"]}"#;
    let (origin, orders) = order_taker(answer);
    let reimage = |token: &std::path::Path| {
        packer(&[
            "reimage",
            "debian@0123456789ab",
            "--at-next-boot",
            "--nodes",
            "n01,52-54-00-00-00-02",
            "--ethers",
            text(&none),
            "--tracker-url",
            &origin,
            "--token-file",
            text(token),
            "--kernel-args",
            "console=ttyS1",
        ])
    };
    let told = said(&reimage(&right));
    assert!(told.contains("1 nodes boot debian@0123456789ab"), "{told}");
    let (first, body) = orders.recv().unwrap();
    assert_eq!(first.trim(), "POST /api/v1/assign HTTP/1.1");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["nodes"], serde_json::json!(["52:54:00:00:00:02", "n01"]));
    assert_eq!(body["kernel_args"], "console=ttyS1");
    let refused = reimage(&wrong);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("(401): not the admin's token"), "{}", stderr(&refused));
    let missing = reimage(&dir.path().join("nothing"));
    assert!(stderr(&missing).contains("name it with --token-file"), "{}", stderr(&missing));

    let (origin, orders) = order_taker(r#"{"nodes":["52:54:00:00:00:07"]}"#);
    let all = ["unassign", "--all", "--tracker-url", &origin, "--token-file", text(&right)];
    let freed = said(&packer(&all));
    assert!(freed.contains("1 nodes follow their channel"), "{freed}");
    assert_eq!(orders.recv().unwrap().1, r#"{"nodes":null}"#);
}

#[test]
fn two_packers_at_once_each_leave_a_whole_revision() {
    let dir = scratch();
    let store = dir.path().join("store");
    let roots = ["a", "b", "c"].map(|name| {
        let root = small_root(&dir.path().join(name));
        // the last two are the same
        let content = if name == "a" { "a" } else { "b" };
        std::fs::write(root.join("etc/version"), content).unwrap();
        run("touch", &["-d", "2001-01-01", text(&root), text(&root.join("etc"))]);
        run("touch", &["-d", "2001-01-01", text(&root.join("usr")), text(&root.join("usr/bin"))]);
        for file in ["etc/version", "etc/hostname", "usr/bin/tool"] {
            run("touch", &["-d", "2001-01-01", text(&root.join(file))]);
        }
        root
    });
    let packed: Vec<_> = thread::scope(|scope| {
        let pack = |root: &PathBuf| {
            let (root, store) = (root.clone(), store.clone());
            scope.spawn(move || pack_image(&root, &store, &["--publish"]))
        };
        let running: Vec<_> = roots.iter().map(pack).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(packed[1]["revision"], packed[2]["revision"]);
    assert_ne!(packed[0]["revision"], packed[1]["revision"]);
    let news = packed.iter().filter(|packed| packed["new"] == true).count();
    assert_eq!(news, 2, "the same revision is new once");
    let verified = said(&packer(&["verify", "--store", text(&store)]));
    assert_eq!(verified.matches(": whole").count(), 2, "{verified}");
    let history = said(&packer(&["history", "--store", text(&store)]));
    let current = said(&packer(&["list", "--store", text(&store)]));
    let booted = current.lines().find(|line| line.contains("booted by stable")).unwrap();
    let last = history.lines().last().unwrap();
    assert!(last.contains(booted.split(' ').next().unwrap()), "{history}{current}");
}

#[test]
fn what_would_do_nothing_is_refused() {
    let url = ["--tracker-url", "http://192.0.2.1:6969"];
    let nodes = ["reimage", "debian", "--nodes", "n1"];
    for with in [
        &["--batch", "2"][..],
        &["--max-failed", "3"],
        &["--min-copies", "2"],
        &["--patience", "5"],
        &["--detach"],
    ] {
        let later = packer(&[&nodes[..], &url, &["--at-next-boot"], with].concat());
        assert_eq!(later.status.code(), Some(2), "{with:?}: {}", stderr(&later));
        assert!(stderr(&later).contains("cannot be used with"), "{with:?}: {}", stderr(&later));
        for about in ["--status", "--stop", "--resume"] {
            if (about, with) == ("--resume", &["--detach"]) {
                continue;
            }
            let about = packer(&[&["reimage", about], &url[..], with].concat());
            assert_eq!(about.status.code(), Some(2), "{with:?}: {}", stderr(&about));
        }
    }
    for with in [
        &["--channel", "gpu"][..],
        &["--kernel-args", "quiet"],
        &["--revision", "debian"],
        &["--at-next-boot"],
    ] {
        let status = packer(&[&["reimage", "--status"], &url[..], with].concat());
        assert_eq!(status.status.code(), Some(2), "{with:?}: {}", stderr(&status));
    }
    for batch in ["0", "0%"] {
        let none = packer(&[&nodes[..], &url, &["--batch", batch]].concat());
        assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
        assert!(stderr(&none).contains("one node at least"), "{}", stderr(&none));
    }
}

#[test]
fn batches_are_ordered_from_the_tracker_which_says_how_they_ended() {
    let dir = scratch();
    let token = dir.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let (url, orders) = order_taker(
        r#"{"id":1,"revision":"debian@0123456789ab","phase":"stopped","held":null,"started_ms":0,
        "reason":"1 of 4 nodes have failed, 0 may: rack1n01: no peers","batch":1,"max_failed":0,"min_copies":1,
        "copies":1,"patience_s":1200,"nodes":[{"name":"rack1n01","macs":["52:54:00:00:00:01"],"state":"failed",
        "batch":1,"detail":"no peers","since_ms":0}]}"#,
    );
    let at = ["--tracker-url", &url, "--token-file", text(&token), "--ethers", "/no/such/file"];
    let order = ["reimage", "--channel", "gpu", "--revision", "debian@0123456789ab", "--nodes"];
    let more = ["rack[1-2]n[01-02]", "--batch", "25%", "--max-failed", "0", "--min-copies", "1"];
    let output = packer(&[&order[..], &more, &at].concat());
    // a rollout that was stopped is no success
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("rack1n01 failed: no peers") && said.contains("stopped: 1 of 4"),
        "{said}"
    );
    let (line, body) = orders.recv().unwrap();
    assert!(line.starts_with("POST /api/v1/rollouts "), "{line}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "revision": "debian@0123456789ab", "channel": "gpu", "batch": "25%",
            "max_failed": "0", "min_copies": 1, "patience_s": 1200,
            "nodes": ["rack1n01", "rack1n02", "rack2n01", "rack2n02"] })
    );
    let output = packer(&[&["reimage", "--stop", "7"], &at[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(orders.recv().unwrap().0.starts_with("POST /api/v1/rollouts/7/stop "));
    for (args, part) in [
        (&["reimage", "debian", "--nodes", "n[3-1]"][..], "ends before it starts"),
        (&["reimage", "--resume", "../1"], "no number of a rollout"),
    ] {
        let output = packer(&[args, &at].concat());
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    let nowhere = packer(&["reimage", "debian", "--nodes", "n1", "--store", text(dir.path())]);
    assert!(stderr(&nowhere).contains("rebooted by the tracker"), "{}", stderr(&nowhere));
}
