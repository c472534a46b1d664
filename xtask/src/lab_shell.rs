//! `cargo xtask lab`: a lab to try things in by hand.

use std::process::Command;

use anyhow::{Context, Result, bail};
use lab::{BitRate, Lab, LabConfig, Link};

use crate::interrupt::{CtrlC, Interrupt};
use crate::sudo::require_root;
use crate::workspace::{lab_folder, say};

/// Arguments of `lab`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes besides `admin`
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: u32,
    /// Rate of each node's link, in each direction
    #[arg(long, value_name = "RATE", default_value = "100Mbit")]
    rate: BitRate,
    /// Program to run instead of a shell
    #[arg(trailing_var_arg = true)]
    program: Vec<String>,
}

/// Starts a lab, runs a shell in its switch's namespace, and ends the lab with the shell.
pub(crate) fn run(args: Args) -> Result<()> {
    require_root("network namespaces")?;
    let interrupt = Interrupt::install(CtrlC::Ignored)?;
    let logs = lab_folder().join("runs").join("shell");
    let lab = Lab::start(LabConfig::new(logs).expect_nodes(args.nodes + 1))?;
    let stopper = lab.stopper();
    interrupt.undo(move || stopper.stop());
    let mut nodes = vec![lab.add_node("admin", Link::unshaped())?];
    for number in 1..=args.nodes {
        nodes.push(lab.add_node(&format!("node{number:02}"), Link::rate(args.rate))?);
    }
    for node in &nodes {
        say(format_args!("{:<8} {:<12} {}", node.name(), node.ip(), node.mac()));
    }
    say(
        "`ip netns exec NAME COMMAND` runs a command on a node; the end of this shell ends the lab",
    );
    let mut words = args.program.iter();
    let mut command = Command::new(words.next().map_or("bash", String::as_str));
    command.args(words);
    let status = lab.foreground(command).context("cannot run the shell")?;
    if status.success() { Ok(()) } else { bail!("the shell ended with {status}") }
}
