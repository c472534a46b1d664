//! `bee-packer reimage` and `unassign`: which nodes boot what at their next boot.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use proto::node_id::NodeId;
use serde_json::json;
use store::{Channel, RevisionRef, Store};

use crate::dispatch::{Target, TargetArgs};
use crate::manage::newest;
use crate::node_list;
use crate::{output, unsigned};

/// Some nodes, or all.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichNodes {
    /// MAC addresses or names, with commas between them; @FILE: one per line
    #[arg(long, value_name = "LIST")]
    pub(crate) nodes: Option<String>,
    /// Every node
    #[arg(long)]
    pub(crate) all: bool,
}

/// Names of nodes.
#[derive(Debug, Args)]
pub(crate) struct Ethers {
    /// Names of nodes: MAC address and name on each line, see ethers(5)
    #[arg(long, value_name = "FILE", default_value = "/etc/ethers")]
    pub(crate) ethers: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ReimageArgs {
    /// NAME@REV, or NAME for its newest revision
    pub(crate) revision: String,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) which: WhichNodes,
    #[command(flatten)]
    pub(crate) ethers: Ethers,
    /// Kernel arguments for these nodes, behind all others; needs the tracker (--token-file)
    #[arg(long, value_name = "ARGS", conflicts_with = "all", allow_hyphen_values = true)]
    pub(crate) kernel_args: Option<String>,
    /// Nodes take the revision when they boot the next time; no node is restarted
    #[arg(long, required = true)]
    pub(crate) at_next_boot: bool,
    /// Channel that --all changes; with --nodes no channel is changed
    #[arg(long, default_value_t, conflicts_with = "nodes")]
    pub(crate) channel: Channel,
}

#[derive(Debug, Args)]
pub(crate) struct UnassignArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) which: WhichNodes,
    #[command(flatten)]
    pub(crate) ethers: Ethers,
}

/// Publishes, and tells the nodes.
pub(crate) fn reimage(args: &ReimageArgs, json: bool) -> anyhow::Result<ExitCode> {
    match (args.target.choose()?, &args.which.nodes) {
        (Target::Store(store), None) => all(args, &store, json),
        (Target::Store(store), Some(list)) => {
            if args.kernel_args.is_some() {
                bail!("--kernel-args are kept by the tracker: give --tracker-url and --token-file");
            }
            let reference = newest(&store, &args.revision)?;
            unsigned::warn(&store, &reference, json)?;
            let nodes = node_list::read(list, &args.ethers.ethers)?;
            store.assign(&reference, &nodes)?;
            told(&reference, &nodes, json);
            Ok(ExitCode::SUCCESS)
        }
        (Target::Tracker(_), None) => {
            bail!("--all changes a channel of the store: give --store, without --token-file")
        }
        (Target::Tracker(tracker), Some(list)) => {
            let nodes = node_list::words(list, &args.ethers.ethers)?;
            let kernel_args = args.kernel_args.clone().unwrap_or_default();
            let done = tracker.assign(args.revision.clone(), nodes, kernel_args)?;
            let reference: RevisionRef = done.revision.parse()?;
            told(&reference, &done.nodes, json);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn all(args: &ReimageArgs, store: &Store, json: bool) -> anyhow::Result<ExitCode> {
    let reference = newest(store, &args.revision)?;
    let RevisionRef { name, id } = &reference;
    unsigned::warn(store, &reference, json)?;
    // the channel first: a node that boots in between takes the new revision in either case
    let published = store.publish(&reference, &args.channel)?;
    let freed = store.unassign(None)?;
    if json {
        output::json(&json!({
            "event": "reimage", "name": name, "revision": id, "channel": args.channel,
            "previous": published.previous.map(|r| r.id), "unassigned": freed,
        }));
    } else {
        output::line(&format!(
            "all nodes of channel {} boot {reference} at their next boot",
            args.channel
        ));
        if !freed.is_empty() {
            output::line(&format!("{} nodes had an image of their own before", freed.len()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn told(reference: &RevisionRef, nodes: &[NodeId], json: bool) {
    let RevisionRef { name, id } = reference;
    if json {
        output::json(&json!({
            "event": "reimage", "name": name, "revision": id, "nodes": nodes,
        }));
    } else {
        output::line(&format!("{} nodes boot {reference} at their next boot", nodes.len()));
    }
}

/// Lets nodes follow their channel again.
pub(crate) fn unassign(args: &UnassignArgs, json: bool) -> anyhow::Result<ExitCode> {
    let (list, ethers) = (args.which.nodes.as_ref(), &args.ethers.ethers);
    let freed = match args.target.choose()? {
        Target::Store(store) => {
            let nodes = list.map(|list| node_list::read(list, ethers)).transpose()?;
            store.unassign(nodes.as_deref())?
        }
        Target::Tracker(tracker) => {
            let nodes = list.map(|list| node_list::words(list, ethers)).transpose()?;
            tracker.unassign(nodes)?.nodes
        }
    };
    if json {
        output::json(&json!({ "event": "unassigned", "nodes": freed }));
    } else {
        output::line(&format!("{} nodes follow their channel at their next boot", freed.len()));
    }
    Ok(ExitCode::SUCCESS)
}
