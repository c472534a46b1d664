//! A node of the lab: a network namespace with one shaped link to the switch.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::counters::Counters;
use crate::error::LabError;
use crate::inside::in_network;
use crate::lab::Inner;
use crate::link::{Direction, Link};
use crate::process::{Cmd, Proc, log_file};
use crate::tool;

/// What a node's namespace has on the near end of its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// An interface with an address.
    Interface,
    /// A bridge between the link and a tap device.
    Tap,
}

/// Which of the lab's switches a node is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    /// The one that every lab has.
    Near,
    /// The one behind a link of its own ([`crate::Lab::add_far_subnet`]).
    Far,
}

impl Switch {
    /// Its bridge.
    pub(crate) fn bridge(self) -> &'static str {
        match self {
            Switch::Near => "lan",
            Switch::Far => "far",
        }
    }

    /// The first two bytes of its nodes' addresses.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Switch::Near => "10.87",
            Switch::Far => "10.88",
        }
    }

    fn other(self) -> Switch {
        match self {
            Switch::Near => Switch::Far,
            Switch::Far => Switch::Near,
        }
    }
}

/// A node. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
    name: Arc<str>,
    ip: Ipv4Addr,
    mac: Arc<str>,
    net: PathBuf,
    number: u32,
}

/// What `tc` says of a kind of queue that the kernel does not have.
const NO_QDISC: &str = "qdisc kind is unknown";

/// Makes the namespace and its link.
pub(crate) fn add(
    inner: &Arc<Inner>,
    name: &str,
    link: Link,
    port: Port,
    switch: Switch,
) -> Result<Node, LabError> {
    check_name(name)?;
    let inside = PathBuf::from("/run/netns").join(name);
    let net = inner.outside(&inside);
    if net.exists() {
        return Err(LabError::Name { name: name.to_owned(), reason: "it is taken" });
    }
    let (number, ip, mac) = inner.next_identity(switch)?;
    let script = set_up_script(name, number, ip, &mac, link, port, switch);
    if link.nft_rules("eth0").is_some() {
        tool::NFT.find()?;
    }
    inner.shell(&format!("adding node {name}"), &script).map_err(|error| match error {
        LabError::Setup { output, .. } if link.has_delay() && output.contains(NO_QDISC) => {
            LabError::NoDelay
        }
        error => error,
    })?;
    let node =
        Node { inner: Arc::clone(inner), name: name.into(), ip, mac: mac.into(), net, number };
    let scratch = inner.outside(&node.scratch());
    fs::create_dir_all(&scratch).map_err(LabError::file("create", scratch))?;
    Ok(node)
}

fn check_name(name: &str) -> Result<(), LabError> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let reason = if name.is_empty() || name.len() > 32 {
        "it must have 1 to 32 characters"
    } else if !name.chars().all(good) || name.starts_with('-') {
        "it may only have the characters a-z, 0-9 and -, and not begin with -"
    } else {
        return Ok(());
    };
    Err(LabError::Name { name: name.to_owned(), reason })
}

fn set_up_script(
    name: &str,
    number: u32,
    ip: Ipv4Addr,
    mac: &str,
    link: Link,
    port: Port,
    switch: Switch,
) -> String {
    let bridge = switch.bridge();
    let mut script = format!(
        "ip netns add {name}\n\
         ip link add sw{number} type veth peer name eth0 netns {name}\n\
         ip link set sw{number} master {bridge} up\n\
         ip -n {name} link set lo up\n"
    );
    let rest = match port {
        Port::Interface => format!(
            // the switch answers ARP requests itself, as those of data centres do: to flood each of
            // them to everybody would take most of the processors while a crowd starts
            "ip -n {name} link set eth0 address {mac} up\n\
             ip -n {name} addr add {ip}/16 dev eth0\n\
             ip -n {name} route add {}.0.0/16 dev eth0\n\
             ip neigh replace {ip} lladdr {mac} dev {bridge} nud permanent\n\
             bridge fdb replace {mac} dev sw{number} master static\n\
             ip link set dev sw{number} type bridge_slave proxy_arp_wifi on\n",
            switch.other().prefix()
        ),
        Port::Tap => format!(
            "ip -n {name} link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             ip -n {name} tuntap add dev tap0 mode tap\n\
             ip -n {name} link set eth0 master br0 up\n\
             ip -n {name} link set tap0 master br0 up\n\
             ip -n {name} link set br0 up\n"
        ),
    };
    script.push_str(&rest);
    // a shared cache of round-trip times and windows would carry over from one run to the next
    script.push_str(&format!(
        "ip netns exec {name} sh -c 'echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save'\n"
    ));
    for line in link.tc_lines(&format!("sw{number}"), Direction::Down) {
        // writing to a String cannot fail
        let _ = writeln!(script, "tc {line}");
    }
    for line in link.tc_lines("eth0", Direction::Up) {
        let _ = writeln!(script, "tc -n {name} {line}");
    }
    // what the node sends comes in at the switch's end, and the other way round
    if let Some(rules) = link.nft_rules(&format!("sw{number}")) {
        let _ = writeln!(script, "nft '{rules}'");
    }
    if let Some(rules) = link.nft_rules("eth0") {
        let _ = writeln!(script, "ip netns exec {name} nft '{rules}'");
    }
    script
}

impl Node {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address in the lab, in a /16 that all nodes share.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Its MAC address, lower case with colons: the node id towards a tracker.
    pub fn mac(&self) -> &str {
        &self.mac
    }

    /// Its folder for scratch files, as programs in the lab see it.
    pub fn scratch(&self) -> PathBuf {
        Path::new("/run/scratch").join(&*self.name)
    }

    /// A path inside the lab as the caller can open it.
    pub fn outside(&self, inside: &Path) -> PathBuf {
        self.inner.outside(inside)
    }

    /// The lab's log folder.
    pub fn logs(&self) -> &Path {
        self.inner.logs.folder()
    }

    /// Pulls its cable: the interface stays as it is and has no carrier.
    ///
    /// # Errors
    /// [`LabError::Setup`] and [`LabError::Stopped`].
    pub fn pull_cable(&self) -> Result<(), LabError> {
        self.cable("down")
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// As [`Node::pull_cable`].
    pub fn plug_cable(&self) -> Result<(), LabError> {
        self.cable("up")
    }

    fn cable(&self, state: &str) -> Result<(), LabError> {
        let what = format!("setting the cable of {} {state}", self.name);
        self.inner.shell(&what, &format!("ip link set sw{} {state}", self.number))
    }

    /// Starts a program on this node. Standard error goes to `LOG.log` and standard output to
    /// `LOG.out` in the lab's log folder.
    ///
    /// # Errors
    /// [`LabError::Spawn`] when the program cannot be started, [`LabError::Stopped`] when the lab
    /// has ended.
    pub fn spawn(&self, cmd: &Cmd) -> Result<Proc, LabError> {
        let program = cmd.program_name();
        let wanted = cmd.log_name().map_or_else(|| format!("{}-{program}", self.name), Into::into);
        let (log, out) = self.inner.logs.pair(&wanted);
        let mut command = cmd.command();
        command.stdout(log_file(&out)?).stderr(log_file(&log)?);
        let child = self
            .inner
            .inside
            .run(Some(&self.net), move || command.spawn())?
            .map_err(|source| LabError::Spawn { program: program.clone(), source })?;
        Ok(Proc::new(program, child, log, out))
    }

    /// Runs a program on this node to its end and returns what it printed.
    ///
    /// # Errors
    /// As [`Node::spawn`]. A failing program is not an error: look at the status.
    pub fn run(&self, cmd: &Cmd) -> Result<Output, LabError> {
        let program = cmd.program_name();
        let mut command = cmd.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self
            .inner
            .inside
            .run(Some(&self.net), move || command.spawn())?
            .map_err(|source| LabError::Spawn { program: program.clone(), source })?;
        child.wait_with_output().map_err(|source| LabError::Wait { program, source })
    }

    /// What its interface has carried and how its TCP fared since the node was made.
    ///
    /// # Errors
    /// [`LabError::Enter`] when the lab has ended, [`LabError::Counters`] when the kernel's tables
    /// do not have what is expected.
    pub fn counters(&self) -> Result<Counters, LabError> {
        in_network(&self.net, Counters::read)?
    }

    /// Opens a TCP connection from this node; the socket belongs to the caller's process.
    ///
    /// # Errors
    /// [`LabError::Connect`] when the other side refuses or `limit` passes.
    pub fn connect(&self, to: SocketAddr, limit: Duration) -> Result<TcpStream, LabError> {
        in_network(&self.net, move || TcpStream::connect_timeout(&to, limit))?.map_err(|source| {
            LabError::Connect { node: self.name.to_string(), to: to.to_string(), source }
        })
    }

    /// Opens a listening TCP socket on this node; the socket belongs to the caller's process.
    ///
    /// # Errors
    /// [`LabError::Connect`] when the address cannot be bound.
    pub fn listen(&self, on: SocketAddr) -> Result<TcpListener, LabError> {
        in_network(&self.net, move || TcpListener::bind(on))?.map_err(|source| LabError::Connect {
            node: self.name.to_string(),
            to: on.to_string(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::BitRate;

    #[test]
    fn names_are_checked() {
        for good in ["admin", "node01", "vm-1"] {
            check_name(good).unwrap();
        }
        for bad in ["", "../x", "a b", "-a", "A", "a;reboot"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn both_directions_of_a_link_are_shaped() {
        let link = Link::rate(BitRate::mbit(10));
        let ip = Ipv4Addr::new(10, 87, 1, 4);
        let mac = "52:54:00:be:00:03";
        let script = set_up_script("n", 3, ip, mac, link, Port::Interface, Switch::Near);
        assert!(script.contains("tc qdisc add dev sw3 root"), "{script}");
        assert!(script.contains("tc -n n qdisc add dev eth0 root"), "{script}");
    }
}
