//! A rollout that runs and then stops, and a node of it whose hardware and console are looked at.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, ensure};
use proto::event::audit::{Audit, Finding, Verdict};
use proto::event::console::Console;
use proto::event::{Event, EventKind, StallCause};
use serde_json::json;
use store::RevisionRef;

use super::crowd::address;
use super::fleet::{self, Poster};
use super::{Test, Tracker, site};

/// Nodes of the site, and of a batch.
const NODES: u16 = 64;
const BATCH: u16 = 16;

/// The node that is shown.
const SHOWN: u16 = 5;

/// What the tracker does to reboot a node: nothing, the test plays the boots.
const SETTINGS: &str = "[reimage]\npower = 'command'\ncommand = ['/bin/true', '{name}']\n";

impl Test {
    /// It runs, and one node has something to tell; then it stops.
    pub(super) fn rollout(&mut self) -> anyhow::Result<()> {
        let site = site::make(NODES)?;
        let dir = site.dir.path();
        std::fs::write(dir.join("tracker.toml"), SETTINGS)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let tracker = Tracker::start(&self.program, dir, any)?;
        let mut machines = Machines { tracker: tracker.address, tokens: HashMap::new() };
        (0..NODES).try_for_each(|n| machines.boot(n, "before", 1000, &site.revision))?;
        let token = std::fs::read_to_string(dir.join("state/admin-token"))?;
        order(tracker.address, token.trim(), &site.next)?;
        self.browser.open(&tracker.url("/reimage"))?;
        self.members("booting", BATCH)?;
        for step in [60, 1000] {
            (0..BATCH).try_for_each(|n| machines.boot(n, "after", step, &site.next))?;
        }
        self.members("up", BATCH)?;
        self.members("booting", BATCH)?;
        let second = BATCH..2 * BATCH;
        for n in second.clone().take(9) {
            machines.boot(n, "after", 600 + u64::from(n % 5) * 80, &site.next)?;
        }
        machines.fails(second.start + 3, &site.next)?;
        machines.told(&site.next)?;
        self.members("failed", 1)?;
        self.twice("reimage", &tracker.url("/reimage"), 1000)?;
        self.twice("audit", &tracker.url(&format!("/nodes/{}", fleet::id(SHOWN))), 1780)?;
        machines.fails(second.start + 6, &site.next)?;
        self.members("failed", 2)?;
        self.browser.open(&tracker.url("/"))?;
        let line =
            "document.querySelector('#head .note.problem')?.textContent.includes('is stopped')";
        self.browser.wait("the fleet's page tells of the rollout", line)?;
        self.twice("stopped", &tracker.url("/"), 1000)?;
        self.no_console_errors("with a rollout");
        self.browser.open("about:blank")
    }

    /// Waits until so many nodes of the rollout are in a state.
    fn members(&mut self, state: &str, count: u16) -> anyhow::Result<()> {
        let script = format!(
            "fetch('/api/v1/rollouts/last').then((r) => r.json()).then((r) => \
             r.nodes.filter((n) => n.state === '{state}').length === {count})"
        );
        self.browser.wait(&format!("{count} nodes are {state}"), &script)
    }

    /// Checked and pictured, light and dark.
    fn twice(&mut self, name: &str, url: &str, height: u32) -> anyhow::Result<()> {
        for scheme in ["light", "dark"] {
            self.browser.look(scheme, 1400, height)?;
            self.browser.open(url)?;
            self.axe(&format!("{name}, {scheme}"))?;
            self.picture(&format!("{name}-{scheme}"))?;
        }
        Ok(())
    }
}

/// The nodes' side: a rollout believes events with the token of a boot script only.
struct Machines {
    tracker: SocketAddr,
    /// Of each node's boots.
    tokens: HashMap<(u16, String), String>,
}

impl Machines {
    fn say(&mut self, n: u16, boot: &str, events: Vec<Event>) -> anyhow::Result<()> {
        let key = (n, boot.to_owned());
        if !self.tokens.contains_key(&key) {
            let script =
                exchange(self.tracker, &format!("GET /boot/{}.ipxe HTTP/1.1", fleet::id(n)), "")?;
            let (_, behind) =
                script.split_once("beeswarm.token=").context("a boot script without token")?;
            let token = behind.split_whitespace().next().unwrap_or_default().to_owned();
            self.tokens.insert(key.clone(), token);
        }
        let token = self.tokens.get(&key).map(String::as_str);
        Poster::connect(self.tracker, address(n))?.post(fleet::id(n), (boot, token), events)
    }

    fn boot(
        &mut self,
        n: u16,
        boot: &str,
        step: u64,
        revision: &RevisionRef,
    ) -> anyhow::Result<()> {
        self.say(n, boot, fleet::story(n, step, NODES, revision))
    }

    /// A boot that does not find its disk.
    fn fails(&mut self, n: u16, revision: &RevisionRef) -> anyhow::Result<()> {
        let mut events = fleet::story(n, 960, NODES, revision);
        let message = "cannot mount /run/beeswarm/image/rootimg.sfs: no such device".to_owned();
        let kind = EventKind::Failed { message, refused: None, cause: Some(StallCause::Mount) };
        events.push(Event { seq: 90_000, uptime_ms: 90_000, kind });
        self.say(n, "after", events)
    }

    /// A node with something on its console, and whose audit found something.
    fn told(&mut self, revision: &RevisionRef) -> anyhow::Result<()> {
        let at = |uptime_ms: u64, kind: EventKind| Event { seq: uptime_ms, uptime_ms, kind };
        let lines = [
            "[    1.204117] Linux version 6.12.41+deb13-amd64 (debian-kernel@lists.debian.org)",
            "[    2.716340] i40e 0000:3b:00.0 eno1: NIC Link is Up, 10 Gbps Full Duplex, Flow Control: None",
            "[    4.031862] beeswarm: discover http://10.0.0.1:8080/revisions/debian",
            "[    9.870214] EDAC MC0: 3 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0)",
            "[   12.402951] beeswarm: no good data for 12 s: 9 pieces came with wrong data, peer 10.1.3.7 is banned for it",
            "[   21.118003] beeswarm: fetch goes on, 14 peers",
        ];
        let lines = lines.map(str::to_owned).to_vec();
        let finding = |name: &str, verdict, detail: &str| Finding {
            name: name.to_owned(),
            verdict,
            detail: detail.to_owned(),
        };
        let audit = Audit {
            verdict: Verdict::Fail,
            text: "3 of 4 memory modules; 12 corrected errors since the boot".to_owned(),
            findings: vec![
                finding(
                    "memory",
                    Verdict::Fail,
                    "96 GiB in 3 modules, 128 GiB in 4 were bought; DIMM_B1 is empty",
                ),
                finding("memory errors", Verdict::Fail, "12 corrected on DIMM_A2 since the boot"),
                finding("processors", Verdict::Pass, "2 × 32 cores, microcode 0x2b000603"),
                finding("disk nvme0n1", Verdict::Pass, "3.8 TB, 4 % worn"),
                finding("link eno1", Verdict::Pass, "10 Gbit/s, full duplex"),
            ],
        };
        let events = vec![
            at(21_200, EventKind::Console(Console { lines })),
            at(48_000, EventKind::Audit(audit)),
        ];
        let story = fleet::story(SHOWN, 1000, NODES, revision);
        self.say(SHOWN, "after", story.into_iter().chain(events).collect())
    }
}

fn order(tracker: SocketAddr, token: &str, revision: &RevisionRef) -> anyhow::Result<()> {
    let nodes: Vec<_> = (0..NODES).map(fleet::id).collect();
    let order = json!({ "revision": revision.to_string(), "nodes": nodes, "patience_s": 600,
        "batch": BATCH.to_string(), "max_failed": "1" });
    let head = format!("POST /api/v1/rollouts HTTP/1.1\r\nAuthorization: Bearer {token}");
    exchange(tracker, &head, &order.to_string()).context("the rollout was not begun")?;
    Ok(())
}

/// What is answered to a request that begins with `head`.
fn exchange(tracker: SocketAddr, head: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(tracker).context("the tracker does not answer")?;
    let length = body.len();
    write!(
        stream,
        "{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}
