//! SIGKILL at random moments, under load and while it starts: what was acknowledged is there afterwards.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::bed::{PATIENCE, add_revision, empty_store, get, stable, wait_until};
use crate::events::batch;
use proto::hash::InfoHash;
use serde_json::{Value, json};

/// Kills of one run, unless `BEESWARM_KILLS` says otherwise. Those while it starts come on top.
const KILLS: usize = 200;
const SENDERS: u8 = 3;

/// A start takes about this long, in microseconds.
const START: u64 = 25_000;

/// A child that does not outlive its test.
pub(crate) struct Tracker {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Tracker {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bee-tracker"))
            .args(["--listen", "127.0.0.1:0", "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let event = lines.find_map(|line| {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            (event["event"] == "listening").then_some(event)
        });
        let addr = event.expect("it starts")["address"].as_str().unwrap().parse().unwrap();
        // nobody reads on: notices must not fill the pipe
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, addr }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        // Child::kill sends SIGKILL
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A tracker that gets SIGKILL while it starts: opens its state, makes it new, follows the store.
fn killed_at_start(args: &[&str], after: Duration) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bee-tracker"))
        .args(["--listen", "127.0.0.1:0"])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// How the channel moved, newest first, as it is on disk. What each move led away from is what the one before it
/// led to: none was lost in between.
fn moves(addr: SocketAddr) -> Vec<Value> {
    let all = get(addr, "/api/v1/history", "").json();
    let all = all.as_array().unwrap().clone();
    for pair in all.windows(2) {
        assert_eq!(pair[0]["former"], pair[1]["revision"], "{all:?}");
        assert_ne!(pair[0]["former"], pair[0]["revision"], "{all:?}");
    }
    all
}

/// One request on an open connection; `None` when the server died before the answer was whole.
fn ask(stream: &mut TcpStream, path: &str, token: &str, body: &[u8]) -> Option<u16> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        if rest.len() >= length {
            return head.split(' ').nth(1)?.parse().ok();
        }
    }
}

fn connect(addr: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

fn node(sender: u8) -> String {
    format!("52:54:00:00:00:{sender:02x}")
}

/// One node that sends events, batches of two, one after the other.
struct Sender {
    number: u8,
    next: u64,
    acked: Vec<u64>,
}

impl Sender {
    fn new(number: u8) -> Self {
        Self { number, next: 0, acked: Vec::new() }
    }

    /// Until the server is gone.
    fn run(&mut self, addr: SocketAddr, stop: &AtomicBool) {
        let Some(mut stream) = connect(addr) else { return };
        let path = format!("/api/v1/nodes/{}/events", node(self.number));
        let event = |seq| json!({ "seq": seq, "uptime_ms": seq, "stage": "attach", "device": "d" });
        while !stop.load(Ordering::Relaxed) {
            let seqs = [self.next, self.next + 1];
            let body = batch("boot", json!(seqs.map(event)));
            self.next += 2;
            match ask(&mut stream, &path, "", &body) {
                Some(204) => self.acked.extend(seqs),
                Some(status) => panic!("status {status}"),
                None => return,
            }
        }
    }
}

#[test]
fn no_acknowledged_write_is_lost_by_kills() {
    let kills = std::env::var("BEESWARM_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let (_dir, store) = empty_store();
    let revisions = [1, 2].map(|n| add_revision(&store, "debian", InfoHash([n; 20]), true));
    for revision in &revisions {
        store.publish(revision, &stable()).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("tracker.toml");
    std::fs::write(&settings, "[limits]\nevents_per_node = 1000000\n").unwrap();
    let (root, state) = (store.root().to_str().unwrap(), dir.path().join("state"));
    let args = [
        "--store",
        root,
        "--state",
        state.to_str().unwrap(),
        "--config",
        settings.to_str().unwrap(),
    ];
    let mut random = fastrand::Rng::new();
    println!("seed {}", random.get_seed());
    let mut senders: Vec<Sender> = (1..=SENDERS).map(Sender::new).collect();
    let (mut told, mut orders) = (None::<usize>, 0);
    let (mut moved, mut at_start) = (0, 0);
    for round in 0..kills {
        // `bee-packer publish` and `rollback`: the tracker sees it when it starts, or while it runs
        let before = random.bool();
        let publish = || store.publish(&revisions[round % 2], &stable()).map(drop).unwrap();
        if before {
            publish();
        }
        if random.bool() {
            at_start += 1;
            killed_at_start(&args, Duration::from_micros(random.u64(0..START)));
        }
        let mut tracker = Tracker::start(&args);
        let (addr, stop) = (tracker.addr, AtomicBool::new(false));
        let token = std::fs::read_to_string(state.join("admin-token")).unwrap();
        let token = token.trim();
        let said = get(addr, "/api/v1/assignments", "").json()[0]["revision"].clone();
        match told {
            Some(which) => assert_eq!(said, json!(revisions[which].to_string()), "round {round}"),
            None => assert_eq!(said, Value::Null, "round {round}"),
        }
        let seen = moves(addr).len();
        assert!(
            seen >= moved,
            "round {round}: {seen} moves of the channel, and {moved} were there"
        );
        moved = seen;
        let pause = Duration::from_micros(random.u64(0..60_000));
        let in_flight = std::thread::scope(|scope| {
            for sender in &mut senders {
                let stop = &stop;
                scope.spawn(move || sender.run(addr, stop));
            }
            let (told, orders, revisions, stop) = (&mut told, &mut orders, &revisions, &stop);
            let admin = scope.spawn(move || {
                let mut stream = connect(addr)?;
                while !stop.load(Ordering::Relaxed) {
                    let which = *orders % 2;
                    *orders += 1;
                    let revision = revisions[which].to_string();
                    let order = json!({ "revision": revision, "nodes": ["52:54:00:00:01:00"] });
                    match ask(&mut stream, "/api/v1/assign", token, order.to_string().as_bytes()) {
                        Some(200) => *told = Some(which),
                        Some(status) => panic!("status {status}"),
                        // it may have been stored, although nobody was told
                        None => return Some(which),
                    }
                }
                None
            });
            if !before {
                publish();
            }
            std::thread::sleep(pause);
            tracker.child.kill().unwrap();
            tracker.child.wait().unwrap();
            stop.store(true, Ordering::Relaxed);
            admin.join().unwrap()
        });
        drop(tracker);
        if let Some(which) = in_flight {
            // whichever it is, it stays so from now on
            let tracker = Tracker::start(&args);
            let said = get(tracker.addr, "/api/v1/assignments", "").json()[0]["revision"].clone();
            let stored = revisions.iter().position(|r| said == json!(r.to_string()));
            assert!(stored == told || stored == Some(which), "round {round}: {said}");
            told = stored;
        }
        if round % 20 == 0 || round + 1 == kills {
            let tracker = Tracker::start(&args);
            verify(&tracker, &senders);
            let current = json!(revisions[round % 2]);
            wait_until("the channel as it is", || moves(tracker.addr)[0]["revision"] == current);
        }
    }
    let events: usize = senders.iter().map(|sender| sender.acked.len()).sum();
    println!("{events} events, {orders} orders, {moved} moves, {at_start} kills at the start");
    assert!(events > kills, "there was load: {events}");
    assert!(
        kills < 20 || moved > kills / 10 && at_start > kills / 4,
        "{moved} moves, {at_start} starts"
    );
}

fn verify(tracker: &Tracker, senders: &[Sender]) {
    for Sender { number, acked, .. } in senders.iter().filter(|s| !s.acked.is_empty()) {
        let seen = get(tracker.addr, &format!("/api/v1/nodes/{}", node(*number)), "").json();
        let there: BTreeSet<u64> =
            seen["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
        let lost: Vec<_> = acked.iter().filter(|seq| !there.contains(seq)).collect();
        assert!(lost.is_empty(), "{}: {lost:?}", node(*number));
    }
}
