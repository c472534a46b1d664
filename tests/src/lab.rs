//! A lab: one holder, one switch, and the nodes on it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};

use nix::unistd::Pid;

use crate::error::LabError;
use crate::holder::{Holder, ScratchSource};
use crate::inside::Inside;
use crate::link::{Direction, Link};
use crate::logs::Logs;
use crate::neighbours::RaisedLimits;
use crate::node::{self, Node, Port, Switch};

/// Largest number of nodes: the address plan uses 10.87.1.1 to 10.87.40.250.
const MAX_NODES: u32 = 10_000;

/// Where the nodes' scratch files live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scratch {
    /// In a tmpfs of at most this many bytes, gone with the lab.
    Memory(u64),
    /// In this folder of the host, which must exist. The lab removes nothing from it.
    Folder(PathBuf),
}

/// How to start a lab.
#[derive(Debug, Clone)]
pub struct LabConfig {
    logs: PathBuf,
    scratch: Scratch,
    nodes: u32,
}

impl LabConfig {
    /// A lab that logs into `logs` (made when missing) and has 1 GiB of scratch memory.
    pub fn new(logs: impl Into<PathBuf>) -> LabConfig {
        LabConfig { logs: logs.into(), scratch: Scratch::Memory(1 << 30), nodes: 0 }
    }

    /// Sets where scratch files live.
    #[must_use]
    pub fn scratch(self, scratch: Scratch) -> LabConfig {
        LabConfig { scratch, ..self }
    }

    /// Says how many nodes will talk to each other, so that the kernel's neighbour table is made
    /// large enough while the lab runs. Needed from about 20 nodes on; harmless otherwise.
    #[must_use]
    pub fn expect_nodes(self, nodes: u32) -> LabConfig {
        LabConfig { nodes, ..self }
    }
}

/// A running lab. Dropping it ends every process in it.
#[derive(Debug)]
pub struct Lab {
    inner: Arc<Inner>,
}

/// What the lab and its nodes share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) inside: Inside,
    pub(crate) logs: Logs,
    init: Pid,
    next: AtomicU32,
    running: Mutex<Option<Running>>,
}

/// What ends with the lab, whoever still holds on to its nodes.
#[derive(Debug)]
struct Running {
    stop: Sender<()>,
    holder: JoinHandle<()>,
    _limits: Option<RaisedLimits>,
}

impl Lab {
    /// Starts an empty lab: a switch without nodes.
    ///
    /// # Errors
    /// [`LabError::NotRoot`], [`LabError::MissingTool`] with the package to install,
    /// [`LabError::Holder`] when namespaces cannot be made here.
    pub fn start(config: LabConfig) -> Result<Lab, LabError> {
        fs::create_dir_all(&config.logs).map_err(LabError::file("create", &config.logs))?;
        let limits = match config.nodes {
            0 => None,
            nodes => RaisedLimits::for_nodes(nodes)?,
        };
        let (started, ready) = mpsc::sync_channel(1);
        let (stop, stopped) = mpsc::channel::<()>();
        let scratch = config.scratch;
        // The holder dies with the thread that starts it, so it gets one that lives as long.
        let thread = thread::Builder::new()
            .name("lab-holder".to_owned())
            .spawn(move || {
                let source = match &scratch {
                    Scratch::Memory(bytes) => ScratchSource::Memory(*bytes),
                    Scratch::Folder(path) => ScratchSource::Folder(path),
                };
                match Holder::start(&source) {
                    Ok(holder) => {
                        // The receiver waits below; `recv` fails when the lab lets go.
                        let _ = started.send(Ok(holder.init()));
                        let _ = stopped.recv();
                        drop(holder);
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })
            .map_err(|source| LabError::Spawn { program: "lab-holder".to_owned(), source })?;
        let init = ready.recv().map_err(|_| LabError::Stopped)??;
        let inner = Inner {
            inside: Inside::enter(init)?,
            logs: Logs::new(config.logs),
            init,
            next: AtomicU32::new(0),
            running: Mutex::new(Some(Running { stop, holder: thread, _limits: limits })),
        };
        // With an address of its own it keeps its list of neighbours when ports come (otherwise it
        // takes the lowest one of theirs, and forgets).
        // a switch has no firewall: without this the host's may look at every frame
        inner.shell(
            "making the switch",
            "ip link add lan address 52:54:00:bf:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             for filter in /proc/sys/net/bridge/bridge-nf-call-*; do\n\
             [ ! -w \"$filter\" ] || echo 0 >\"$filter\"\n\
             done\n\
             ip link set lan up\n",
        )?;
        Ok(Lab { inner: Arc::new(inner) })
    }

    /// Adds a node: a network namespace with one interface, `eth0`, on the switch. The first node
    /// has the address 10.87.1.1, the next ones follow.
    ///
    /// # Errors
    /// [`LabError::Name`] for a name that is taken or has other characters than `a-z0-9-`;
    /// [`LabError::Setup`] with what `ip` or `tc` said.
    pub fn add_node(&self, name: &str, link: Link) -> Result<Node, LabError> {
        node::add(&self.inner, name, link, Port::Interface, Switch::Near)
    }

    /// Adds a second switch, joined to the first one by `link`. Call it once, before
    /// [`Lab::add_far_node`].
    ///
    /// # Errors
    /// [`LabError::Setup`] with what `ip` or `tc` said.
    pub fn add_far_subnet(&self, link: Link) -> Result<(), LabError> {
        let far = Switch::Far.bridge();
        let mut script = format!(
            "ip link add {far} address 52:54:00:bf:00:02 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             ip link set {far} up\n\
             ip link add trunk0 type veth peer name trunk1\n\
             ip link set trunk0 master {} up\n\
             ip link set trunk1 master {far} up\n",
            Switch::Near.bridge()
        );
        for (device, direction) in [("trunk0", Direction::Down), ("trunk1", Direction::Up)] {
            for line in link.tc_lines(device, direction) {
                script.push_str(&format!("tc {line}\n"));
            }
        }
        self.inner.shell("making the second switch", &script)
    }

    /// Adds a node on the second switch. Its address is 10.88.x.y, with x.y as [`Lab::add_node`]
    /// counts them.
    ///
    /// # Errors
    /// As [`Lab::add_node`]; and when there is no second switch.
    pub fn add_far_node(&self, name: &str, link: Link) -> Result<Node, LabError> {
        node::add(&self.inner, name, link, Port::Interface, Switch::Far)
    }

    /// Adds the place for a machine: a namespace in which the tap device `tap0` is bridged to a link
    /// of its own. The namespace itself has no address; [`Node::ip`] and [`Node::mac`] are meant
    /// for the machine's network card.
    ///
    /// # Errors
    /// As [`Lab::add_node`].
    pub fn add_machine_port(&self, name: &str, link: Link) -> Result<Node, LabError> {
        node::add(&self.inner, name, link, Port::Tap, Switch::Near)
    }

    /// Runs a command in the switch's namespace with the caller's terminal, to its end.
    ///
    /// # Errors
    /// [`LabError::Spawn`], [`LabError::Wait`], [`LabError::Stopped`].
    pub fn foreground(&self, mut command: Command) -> Result<ExitStatus, LabError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = self.inner.inside.run(None, move || command.spawn())?;
        let mut child =
            child.map_err(|source| LabError::Spawn { program: program.clone(), source })?;
        child.wait().map_err(|source| LabError::Wait { program, source })
    }

    /// A path inside the lab (`/run/scratch/…`) as the caller can open it.
    pub fn outside(&self, inside: &Path) -> PathBuf {
        self.inner.outside(inside)
    }

    /// The folder of the log files.
    pub fn logs(&self) -> &Path {
        self.inner.logs.folder()
    }

    /// A handle that ends the lab from another thread, for signal handlers.
    pub fn stopper(&self) -> Stopper {
        Stopper { inner: Arc::downgrade(&self.inner) }
    }

    /// Ends the lab and returns when all its processes are gone.
    pub fn stop(self) {
        self.inner.stop();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

/// Ends a lab from anywhere.
#[derive(Debug, Clone)]
pub struct Stopper {
    inner: Weak<Inner>,
}

impl Stopper {
    /// Ends the lab and returns when all its processes are gone. Does nothing when it has ended.
    pub fn stop(&self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.stop();
        }
    }
}

impl Inner {
    fn stop(&self) {
        // a panic while this was held leaves an Option, which is still good
        let mut running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(Running { stop, holder, _limits }) = running.take() {
            drop(stop);
            // A panic in there has been reported; the holder died with its thread.
            let _ = holder.join();
        }
    }

    pub(crate) fn outside(&self, inside: &Path) -> PathBuf {
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        Path::new(&format!("/proc/{}/root", self.init)).join(relative)
    }

    /// Runs a script of set-up commands in the switch's namespace.
    pub(crate) fn shell(&self, what: &str, script: &str) -> Result<(), LabError> {
        let script = format!("set -e\n{script}");
        let output = self
            .inside
            .run(None, move || {
                Command::new("sh")
                    .args(["-c", &script])
                    .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                    .stdin(Stdio::null())
                    .output()
            })?
            .map_err(|source| LabError::Spawn { program: "sh".to_owned(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(LabError::Setup { what: what.to_owned(), output })
    }

    /// The next node's number (from 0), address and MAC address.
    pub(crate) fn next_identity(
        &self,
        switch: Switch,
    ) -> Result<(u32, Ipv4Addr, String), LabError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        identity(number, switch).map(|(ip, mac)| (number, ip, mac)).ok_or(LabError::Full(MAX_NODES))
    }
}

/// Address and MAC address of the node with this number; the same in every lab.
fn identity(number: u32, switch: Switch) -> Option<(Ipv4Addr, String)> {
    if number >= MAX_NODES {
        return None;
    }
    let third = u8::try_from(number / 250 + 1).ok()?;
    let fourth = u8::try_from(number % 250 + 1).ok()?;
    let [_, _, high, low] = number.to_be_bytes();
    let second = match switch {
        Switch::Near => 87,
        Switch::Far => 88,
    };
    Some((Ipv4Addr::new(10, second, third, fourth), format!("52:54:00:be:{high:02x}:{low:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_distinct_and_bounded() {
        assert_eq!(
            identity(0, Switch::Near),
            Some((Ipv4Addr::new(10, 87, 1, 1), "52:54:00:be:00:00".to_owned()))
        );
        assert_eq!(
            identity(250, Switch::Near).map(|(ip, _)| ip),
            Some(Ipv4Addr::new(10, 87, 2, 1))
        );
        let all: std::collections::HashSet<_> =
            (0..MAX_NODES).map(|number| identity(number, Switch::Far)).collect();
        assert_eq!(all.len(), MAX_NODES as usize);
        assert_eq!(identity(MAX_NODES, Switch::Near), None);
    }
}
