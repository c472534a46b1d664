//! One run of a flash crowd: build the lab, open the barrier, time every node.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use lab::client::Done;
use lab::{Cmd, Lab, LabConfig, Link, Node, Proc, Scratch};
use serde::Serialize;

use super::SwarmArgs;
use super::contender::{self, Client};
use super::content::Content;

/// Address of the first node of every lab.
pub(crate) const ADMIN_IP: &str = "10.87.1.1";

/// What one run measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunResult {
    /// Name of the client.
    pub(crate) client: String,
    /// Nodes that took part.
    pub(crate) nodes: u32,
    /// Seconds after the start at which each finished node was done, ascending.
    pub(crate) done_seconds: Vec<f64>,
    /// Nodes whose file is not the image.
    pub(crate) wrong: u32,
    /// Seconds that the image takes over one link, without any header.
    pub(crate) ideal_seconds: f64,
    /// Bytes that left the admin host, headers included, divided by the image's size.
    pub(crate) seeder_images: f64,
    /// Processor seconds of all clients, the seeder and the tracker, per GB delivered.
    pub(crate) cpu_seconds_per_gb: f64,
    /// Share of the machine's processor time that nobody used.
    pub(crate) cpu_idle: f64,
    /// Largest resident set of a node without mapped files, in bytes.
    pub(crate) peak_anonymous: u64,
}

struct Member {
    node: Node,
    proc: Proc,
    target: PathBuf,
    sign: Done,
    done: Option<Duration>,
}

/// Runs one client once.
pub(crate) fn run(
    args: &SwarmArgs,
    client: Client,
    programs: &Path,
    content: &Content,
    logs: &Path,
) -> anyhow::Result<RunResult> {
    let length = content.bytes.len();
    let room = u64::from(args.nodes + 2) * (length as u64 + (8 << 20));
    let lab = Lab::start(
        LabConfig::new(logs).scratch(Scratch::Memory(room)).expect_nodes(args.nodes + 1),
    )?;
    let link = Link::rate(args.rate);
    let admin = lab.add_node("admin", link)?;
    ensure!(admin.ip().to_string() == ADMIN_IP, "the lab's address plan has changed");
    let services = client.services(&admin, programs, content)?;
    let mut tracker =
        services.tracker.map(|command| admin.spawn(&command.log("tracker"))).transpose()?;
    let mut seeder = admin.spawn(&services.seeder.log("seeder"))?;
    let barrier = admin.scratch().join("barrier");
    run_ok(&admin, &Cmd::new("mkfifo").arg(&barrier))?;
    let mut crowd = Vec::new();
    for number in 1..=args.nodes {
        let node = lab.add_node(&format!("n{number}"), link)?;
        crowd.push(member(client, programs, content, node, &barrier)?);
    }
    // all are started and blocked in opening the pipe; the seeder has announced
    std::thread::sleep(Duration::from_secs(3));
    let sent_before = sent_bytes(&admin)?;
    let (idle_before, all_before) = machine_ticks()?;
    let ideal = length as f64 / args.rate.bytes() as f64;
    let limit = Duration::from_secs_f64(ideal * f64::from(args.patience) + 5.0);
    open_barrier(&lab, &barrier)?;
    let start = Instant::now();
    while crowd.iter().any(|m| m.done.is_none()) && start.elapsed() < limit {
        for member in crowd.iter_mut().filter(|m| m.done.is_none()) {
            look(member, start)?;
        }
        if let Some(status) = seeder.try_wait()? {
            bail!("the seeder ended with {status}; see {}", seeder.log_path().display());
        }
        std::thread::sleep(Duration::from_millis(15));
    }
    let (idle_after, all_after) = machine_ticks()?;
    let sent = sent_bytes(&admin)? - sent_before;
    let mut cpu =
        seeder.usage().cpu + tracker.as_mut().map_or(Duration::ZERO, |tracker| tracker.usage().cpu);
    let (mut peak, mut wrong, mut delivered) = (0, 0, 0u64);
    for member in &mut crowd {
        let usage = member.proc.usage();
        cpu += usage.cpu;
        peak = peak.max(usage.anonymous);
        if member.done.is_some() {
            delivered += length as u64;
            let got = fs::read(lab.outside(&member.target)).context("reading a node's image")?;
            wrong += u32::from(got != content.bytes);
        }
    }
    let mut done_seconds: Vec<f64> =
        crowd.iter().filter_map(|m| m.done).map(|d| d.as_secs_f64()).collect();
    done_seconds.sort_by(f64::total_cmp);
    lab.stop();
    Ok(RunResult {
        client: client.name(),
        nodes: args.nodes,
        done_seconds,
        wrong,
        ideal_seconds: ideal,
        seeder_images: sent as f64 / length as f64,
        cpu_seconds_per_gb: cpu.as_secs_f64() / (delivered.max(1) as f64 / 1e9),
        cpu_idle: (idle_after - idle_before) as f64 / (all_after - all_before).max(1) as f64,
        peak_anonymous: peak,
    })
}

fn member(
    client: Client,
    programs: &Path,
    content: &Content,
    node: Node,
    barrier: &Path,
) -> anyhow::Result<Member> {
    let target = contender::target(&node, content);
    let launch = client.node(&node, programs, content)?.behind(barrier);
    let proc = node.spawn(&launch.command.folder(node.scratch()).log(node.name()))?;
    Ok(Member { node, proc, target, sign: launch.done, done: None })
}

fn open_barrier(lab: &Lab, barrier: &Path) -> anyhow::Result<()> {
    let mut pipe = fs::OpenOptions::new().write(true).open(lab.outside(barrier))?;
    pipe.write_all(b"go\n")?;
    Ok(())
}

fn look(member: &mut Member, start: Instant) -> anyhow::Result<()> {
    if member.sign.reached(&mut member.proc)? {
        member.done = Some(start.elapsed());
        return Ok(());
    }
    if let Some(status) = member.proc.try_wait()? {
        let log = member.proc.log_path().display();
        bail!("{} ended with {status} before it was done; see {log}", member.node.name());
    }
    Ok(())
}

/// Bytes that the node's interface has sent, Ethernet headers included.
fn sent_bytes(node: &Node) -> anyhow::Result<u64> {
    let text = run_ok(node, &Cmd::new("ip").args(["-s", "-j", "link", "show", "eth0"]))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    links[0]["stats64"]["tx"]["bytes"].as_u64().context("`ip -s -j link` shows no sent bytes")
}

fn run_ok(node: &Node, command: &Cmd) -> anyhow::Result<String> {
    let output = node.run(command)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "a command on {} failed: {errors}", node.name());
    Ok(String::from_utf8(output.stdout)?)
}

/// Idle and total ticks of the machine since its start (proc(5), `/proc/stat`).
fn machine_ticks() -> anyhow::Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    Ok((ticks.get(3).copied().unwrap_or(0), ticks.iter().take(8).sum()))
}
