//! A tracker process, and nodes that do what their power tells them.
//!
//! Whoever switches a node appends its name to a file (`reboots`); a thread reads that and plays the boot:
//! the boot script is asked for as by iPXE, the events are posted until the tracker takes them.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use proto::hash::InfoHash;
use serde_json::{Value, json};
use store::RevisionRef;

use crate::bed::{Reply, empty_store, exchange, get, stable, wait_until};
use crate::kill::Tracker;
use crate::lasting::newer_revision;

/// What becomes of a node that is rebooted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    ComesUp,
    /// Its kernel cannot mount the image.
    Fails,
    /// The program that reboots it fails.
    NoPower,
    /// It comes up, and the audit finds something.
    Unsound,
    /// It comes up, and says nothing of its hardware.
    Unaudited,
}

struct Shared {
    addr: Mutex<SocketAddr>,
    fates: Mutex<HashMap<String, Fate>>,
    over: AtomicBool,
    reboots: PathBuf,
}

pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    _store: tempfile::TempDir,
    args: Vec<String>,
    tracker: Option<Tracker>,
    shared: Arc<Shared>,
    nodes: Option<JoinHandle<()>>,
    pub(crate) old: RevisionRef,
    new: RevisionRef,
    names: Vec<String>,
}

impl Cluster {
    /// `settings` is the section `[reimage]`; `DIR` in it is a directory that goes with the cluster.
    pub(crate) fn new(nodes: usize, settings: &str) -> Self {
        let (store_dir, store) = empty_store();
        let [old, new] = [1, 2].map(|n| newer_revision(&store, InfoHash([n; 20])));
        store.publish(&new, &store::Channel::new("testing").unwrap()).unwrap();
        store.publish(&old, &stable()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_str().unwrap().to_owned();
        let write = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text.replace("DIR", &at)).unwrap();
        };
        write("fates", "");
        // it fails for those whose line says so
        write(
            "reboot",
            "grep -q \"^$1 NoPower\" DIR/fates && { echo no such outlet >&2; exit 1; }\necho $1 >> DIR/reboots\n",
        );
        write(
            "audit",
            "grep -q \"^$1 Unsound\" DIR/fates && { echo 3 of 4 modules; exit 1; }\ntrue\n",
        );
        write("password", "secret\n");
        write("tracker.toml", &format!("[reimage]\n{settings}"));
        let names: Vec<_> = (1..=nodes).map(|n| format!("n{n:02}")).collect();
        let rows = names.iter().enumerate().map(|(n, name)| {
            let bmc = n + 2;
            format!("{},{name},127.0.0.{bmc}\n", mac(name))
        });
        write("nodes.csv", &format!("mac,name,bmc\n{}", rows.collect::<String>()));
        let path = |name: &str| format!("{at}/{name}");
        let mut args = vec!["--store".to_owned(), store.root().to_str().unwrap().to_owned()];
        for (flag, name) in
            [("--state", "state"), ("--config", "tracker.toml"), ("--inventory", "nodes.csv")]
        {
            args.extend([flag.to_owned(), path(name)]);
        }
        let tracker = start(&args);
        let shared = Arc::new(Shared {
            addr: Mutex::new(tracker.addr),
            fates: Mutex::default(),
            over: AtomicBool::new(false),
            reboots: dir.path().join("reboots"),
        });
        let play = {
            let shared = shared.clone();
            move || play(&shared)
        };
        let nodes = Some(std::thread::spawn(play));
        Self {
            dir,
            _store: store_dir,
            args,
            tracker: Some(tracker),
            shared,
            nodes,
            old,
            new,
            names,
        }
    }

    /// SIGKILL, and another one.
    pub(crate) fn kill(&mut self) {
        // dropping it kills it
        drop(self.tracker.take());
        let tracker = start(&self.args);
        *self.shared.addr.lock().unwrap() = tracker.addr;
        self.tracker = Some(tracker);
    }

    /// The inventory says where each node's controller is, and the tracker, killed, reads it.
    pub(crate) fn controllers_at(&mut self, addrs: &[SocketAddr]) {
        let rows = self.names.iter().zip(addrs);
        let rows: String =
            rows.map(|(name, addr)| format!("{},{name},{addr}\n", mac(name))).collect();
        let inventory = format!("mac,name,bmc\n{rows}");
        fs::write(self.dir.path().join("nodes.csv"), inventory).unwrap();
        self.kill();
    }

    pub(crate) fn fate(&mut self, name: &str, fate: Fate) {
        let mut fates = self.shared.fates.lock().unwrap();
        fates.insert(name.to_owned(), fate);
        let lines: String = fates.iter().map(|(name, fate)| format!("{name} {fate:?}\n")).collect();
        fs::write(self.dir.path().join("fates"), lines).unwrap();
    }

    /// All nodes seed the old revision.
    pub(crate) fn up_with_the_old_one(&self) {
        for name in &self.names {
            boot(&self.shared, name, "before", Fate::ComesUp);
        }
    }

    fn addr(&self) -> SocketAddr {
        *self.shared.addr.lock().unwrap()
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        get(self.addr(), target, "")
    }

    pub(crate) fn page(&self) -> String {
        let reply = self.get("/reimage");
        assert_eq!(reply.status, 200);
        reply.text().to_owned()
    }

    /// The next notice of this kind.
    pub(crate) fn notice(&self, event: &str) -> Value {
        let mut stream = std::net::TcpStream::connect(self.addr()).unwrap();
        stream.set_read_timeout(Some(crate::bed::PATIENCE)).unwrap();
        write!(stream, "GET /api/v1/events HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        let mut notices = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        notices.find(|notice| notice["event"] == event).unwrap()
    }

    pub(crate) fn last(&self) -> Value {
        self.get("/api/v1/rollouts/last").json()
    }

    pub(crate) fn states(&self) -> Vec<String> {
        let last = self.last();
        let states = last["nodes"].as_array().unwrap().iter();
        states.map(|node| node["state"].as_str().unwrap().to_owned()).collect()
    }

    /// Names in the order in which their power was used.
    pub(crate) fn reboots(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.shared.reboots).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// An order for all nodes and the new revision, unless `more` says something else.
    pub(crate) fn full(&self, more: &Value) -> Value {
        let mut order =
            json!({ "revision": self.new.to_string(), "nodes": self.names, "patience_s": 60 });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    }

    pub(crate) fn order(&self, more: &Value) -> Reply {
        self.post("", Some(&self.token()), &self.full(more).to_string())
    }

    pub(crate) fn about(&self, what: &str) -> Reply {
        self.post(&format!("/last/{what}"), Some(&self.token()), "{}")
    }

    fn token(&self) -> String {
        let path = self.dir.path().join("state/admin-token");
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    pub(crate) fn post(&self, below: &str, token: Option<&str>, body: &str) -> Reply {
        let token = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
        let head = format!(
            "POST /api/v1/rollouts{below} HTTP/1.1\r\nHost: x\r\n{token}Connection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        exchange(self.addr(), format!("{head}{body}").as_bytes())
    }

    pub(crate) fn wait_until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        wait_until(what, || done(self));
    }

    pub(crate) fn wait_for(&self, phase: &str) {
        wait_until(phase, || {
            let last = self.last();
            assert!(last["phase"] == "running" || last["phase"] == phase, "{last}");
            last["phase"] == phase
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let nodes = self.nodes.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(nodes.is_none_or(|nodes| nodes.is_ok()), "a node did not boot");
        }
    }
}

fn start(args: &[String]) -> Tracker {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Tracker::start(&args)
}

/// A node's power was used.
pub(crate) fn switched(reboots: &Path, name: &str) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(reboots).unwrap();
    // in one write: several controllers switch at once
    file.write_all(format!("{name}\n").as_bytes()).unwrap();
}

fn mac(name: &str) -> String {
    format!("52:54:00:00:00:{:02x}", name[1..].parse::<u8>().unwrap())
}

/// Boots each node whose power was used, one after the other.
fn play(shared: &Shared) {
    let mut known = 0;
    while !shared.over.load(Ordering::Relaxed) {
        let text = fs::read_to_string(&shared.reboots).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for (number, name) in lines.iter().enumerate().skip(known) {
            let fate = shared.fates.lock().unwrap().get(*name).copied();
            boot(shared, name, &format!("boot-{number}"), fate.unwrap_or(Fate::ComesUp));
        }
        known = lines.len();
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The node asks what to boot, and boots that.
fn boot(shared: &Shared, name: &str, boot_id: &str, fate: Fate) {
    let mac = mac(name);
    let script = ask(shared, &format!("GET /boot/{mac}.ipxe"), &[]);
    let (_, behind) = script.split_once("/revisions/").expect("something to boot");
    let revision = behind.lines().next().unwrap();
    let source = format!("http://a:8080/revisions/{revision}/manifest.json");
    let (_, behind) = script.split_once("beeswarm.token=").expect("an image that takes tokens");
    let token = behind.split_whitespace().next().unwrap();
    let batch = |boot: &str, events: Value| proven_batch(boot, token, &events);
    let discover = json!({ "seq": 0, "uptime_ms": 1000, "stage": "discover", "source": source });
    let last = match fate {
        Fate::Fails => json!({ "stage": "failed", "message": "the image has no squashfs" }),
        _ => json!({ "stage": "seeding", "device": "/dev/loop0", "user": "x", "uploaded": 0 }),
    };
    let mut last = last;
    last.as_object_mut()
        .unwrap()
        .extend(json!({ "seq": 1, "uptime_ms": 9000 }).as_object().unwrap().clone());
    let events = format!("POST /api/v1/nodes/{mac}/events");
    ask(shared, &events, &batch(boot_id, json!([discover, last])));
    let (verdict, text) = match fate {
        Fate::ComesUp => ("pass", "all as it was bought"),
        Fate::Unsound => ("fail", "no disk /dev/sdb"),
        _ => return,
    };
    // another program, which takes its time
    std::thread::sleep(Duration::from_millis(50));
    let audit =
        json!({ "seq": 0, "uptime_ms": 9500, "stage": "audit", "verdict": verdict, "text": text });
    ask(shared, &events, &batch(boot_id, json!([audit])));
}

fn proven_batch(boot_id: &str, token: &str, events: &Value) -> Vec<u8> {
    let batch = json!({ "version": 1, "boot_id": boot_id, "token": token, "events": events });
    batch.to_string().into_bytes()
}

/// Until a tracker answers: nodes do the same.
fn ask(shared: &Shared, what: &str, body: &[u8]) -> String {
    while !shared.over.load(Ordering::Relaxed) {
        let addr = *shared.addr.lock().unwrap();
        let head = format!(
            "{what} HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: iPXE/1.21.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answered = try_exchange(addr, &[head.as_bytes(), body].concat());
        match answered {
            Some(answer) if answer.starts_with("HTTP/1.1 20") => return answer,
            Some(answer) => panic!("{what}: {answer}"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    panic!("the test ended before {what} was answered");
}

/// `None` when the tracker is dead, or died before the answer was whole.
fn try_exchange(addr: SocketAddr, request: &[u8]) -> Option<String> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(crate::bed::PATIENCE)).ok()?;
    stream.write_all(request).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    // 204 has none
    let length = head.to_ascii_lowercase();
    let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    (length.is_none_or(|length| length == body.len())).then_some(answer)
}
