//! The trackers: how each is started, on loopback, on one processor.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::client::OPENTRACKER;
use serde::Serialize;

use super::load::{Crowd, Way};
use crate::test::limited;
use crate::workspace;

/// Version of aquatic.
const AQUATIC: &str = "0.9.0";

/// Longest time for the build of one of its programs.
const BUILD: Duration = Duration::from_secs(25 * 60);

/// Longest time until a tracker listens.
const START: Duration = Duration::from_secs(20);

/// A tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    Beeswarm,
    Opentracker,
    AquaticUdp,
    AquaticHttp,
}

impl Contender {
    pub(crate) const ALL: [Self; 4] =
        [Self::Beeswarm, Self::Opentracker, Self::AquaticUdp, Self::AquaticHttp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Beeswarm => "bee-tracker",
            Self::Opentracker => "opentracker",
            Self::AquaticUdp => "aquatic_udp",
            Self::AquaticHttp => "aquatic_http",
        }
    }

    pub(crate) fn ways(self) -> &'static [Way] {
        match self {
            Self::Beeswarm | Self::Opentracker => &[Way::KeepAlive, Way::Connection, Way::Udp],
            Self::AquaticUdp => &[Way::Udp],
            Self::AquaticHttp => &[Way::KeepAlive, Way::Connection],
        }
    }

    /// Its program, built when it is one of aquatic's and not there.
    ///
    /// # Errors
    /// When it is not installed and cannot be built.
    pub(crate) fn program(self, ours: &Path) -> anyhow::Result<PathBuf> {
        match self {
            Self::Beeswarm => Ok(ours.join("bee-tracker")),
            Self::Opentracker => Ok(OPENTRACKER.find()?),
            Self::AquaticUdp | Self::AquaticHttp => aquatic(self.name()),
        }
    }

    fn command(
        self,
        way: Way,
        program: &Path,
        port: u16,
        folder: &Path,
    ) -> anyhow::Result<Command> {
        let mut command = Command::new("taskset");
        // one processor for each tracker, the others for the load
        command.args(["--cpu-list", "0"]).arg(program);
        let address = format!("127.0.0.1:{port}");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(path)
        };
        match self {
            Self::Beeswarm => {
                command.args(["--listen", &address, "--udp", &address]);
            }
            Self::Opentracker => {
                let hashes = (0..1000).map(|n| format!("{}\n", Crowd::info_hash(n)));
                let list = write("whitelist", &hashes.collect::<String>())?;
                let port = port.to_string();
                // it reads the list as nobody
                command.args(["-i", "127.0.0.1", "-p", &port, "-P", &port, "-d", "/"]);
                command.args(["-u", "nobody", "-w"]).arg(list);
            }
            Self::AquaticUdp => {
                let text = format!("[network]\naddress = \"{address}\"\n");
                command.arg("-c").arg(write("aquatic_udp.toml", &text)?);
            }
            Self::AquaticHttp => {
                // it keeps connections, or closes them, whatever the other end asks for
                let keeps = way == Way::KeepAlive;
                let text = format!(
                    "[network]\naddress = \"{address}\"\nenable_tls = false\nkeep_alive = {keeps}\n"
                );
                command.arg("-c").arg(write("aquatic_http.toml", &text)?);
            }
        }
        Ok(command)
    }
}

/// A program of aquatic in cargo's target folder; without its metrics, which cost it time.
pub(super) fn aquatic(name: &str) -> anyhow::Result<PathBuf> {
    let target = workspace::target();
    let root = target.join("foreign").join(format!("{name}-{AQUATIC}"));
    let program = root.join("bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    workspace::say(format_args!("building {name} {AQUATIC}, once"));
    let build = target.join("foreign").join("build");
    let mut command = workspace::cargo()?;
    // not --locked: its lock file has a crate that Rust 1.95 refuses
    command.args(["install", name, "--quiet", "--version", AQUATIC, "--root"]).arg(&root);
    if !name.ends_with("_load_test") {
        command.args(["--no-default-features", "--features", "mimalloc"]);
    }
    command.arg("--target-dir").arg(&build);
    if let Some(problem) = limited::run(&mut command, BUILD)?.problem() {
        bail!("cargo install {name} --version {AQUATIC}: {problem}");
    }
    Ok(program)
}

/// A running tracker, which ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) command: String,
}

impl Running {
    /// Starts it, with `more` arguments, and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started or ends.
    pub(crate) fn start(
        (contender, way): (Contender, Way),
        program: &Path,
        folder: &Path,
        more: &[&OsStr],
    ) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = contender.command(way, program, port, folder)?;
        command.args(more);
        let log = folder.join(format!("{}.log", contender.name()));
        let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let text = format!("{command:?}").replace('"', "");
        let child = command.spawn().with_context(|| format!("cannot run {text}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut running = Self { child, address, command: text };
        let start = Instant::now();
        while !running.listens(contender) {
            if running.child.try_wait()?.is_some() || start.elapsed() > START {
                bail!("{} does not start; its log is in {}", contender.name(), folder.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    fn listens(&self, contender: Contender) -> bool {
        if contender.ways().contains(&Way::KeepAlive) {
            return TcpStream::connect(self.address).is_ok();
        }
        // a socket that cannot be bound is taken
        UdpSocket::bind(self.address).is_err()
    }

    /// Seconds of processor time so far, of all its threads.
    pub(crate) fn processor_time(&self) -> anyhow::Result<f64> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let first = text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
            nanoseconds += first.unwrap_or(0.0);
        }
        Ok(nanoseconds / 1e9)
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.context("no VmRSS")? * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free for both protocols.
fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address.port());
        }
    }
    bail!("no free port")
}
