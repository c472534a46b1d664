//! `bee-packer reimage` and `unassign`: which nodes boot what, at their next boot or at once.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use proto::node_id::NodeId;
use serde_json::json;
use store::{Channel, RevisionRef, Store};

use crate::dispatch::{Target, TargetArgs};
use crate::manage::newest;
use crate::node_list;
use crate::rollout::{self, RolloutArgs};
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
#[command(group = ArgGroup::new("which").required(true).multiple(false))]
pub(crate) struct ReimageArgs {
    /// NAME@REV, or NAME for its newest revision
    #[arg(value_name = "REVISION")]
    pub(crate) revision_first: Option<String>,
    /// The same; without it, what --channel points to
    #[arg(long, value_name = "REVISION", conflicts_with = "revision_first")]
    pub(crate) revision: Option<String>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// MAC addresses or names, with commas between them, such as rack[1-4]n[01-32]; @FILE: one per line
    #[arg(long, value_name = "LIST", group = "which")]
    pub(crate) nodes: Option<String>,
    /// Every node
    #[arg(long, group = "which", requires = "at_next_boot")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) ethers: Ethers,
    /// Kernel arguments for these nodes, behind all others; needs the tracker (--token-file)
    #[arg(long, value_name = "ARGS", conflicts_with = "all", allow_hyphen_values = true)]
    pub(crate) kernel_args: Option<String>,
    /// Nodes take the revision when they boot the next time; no node is restarted
    #[arg(long, conflicts_with = "RolloutArgs")]
    pub(crate) at_next_boot: bool,
    /// Channel that --all changes; in batches, the channel that all --nodes must follow
    #[arg(long)]
    pub(crate) channel: Option<Channel>,
    #[command(flatten)]
    pub(crate) rollout: RolloutArgs,
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

impl ReimageArgs {
    /// The revision, in whichever way it was given.
    pub(crate) fn named(&self) -> Option<&str> {
        self.revision.as_deref().or(self.revision_first.as_deref())
    }
}

/// Publishes, and tells the nodes; or lets the tracker reboot them in batches.
pub(crate) fn reimage(args: &ReimageArgs, json: bool) -> anyhow::Result<ExitCode> {
    if let Some(which) = args.rollout.which() {
        return rollout::about(args, &which, json);
    }
    if !args.at_next_boot {
        return rollout::start(args, json);
    }
    let named = args.named().context("say which revision: NAME@REV, or NAME for its newest")?;
    if args.nodes.is_some() && args.channel.is_some() {
        bail!("with --nodes and --at-next-boot no channel is changed: leave out --channel");
    }
    match (args.target.choose()?, &args.nodes) {
        (Target::Store(store), None) => all(args, named, &store, json),
        (Target::Store(store), Some(list)) => {
            if args.kernel_args.is_some() {
                bail!("--kernel-args are kept by the tracker: give --tracker-url and --token-file");
            }
            let reference = newest(&store, named)?;
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
            let done = tracker.assign(named.to_owned(), nodes, kernel_args)?;
            let reference: RevisionRef = done.revision.parse()?;
            told(&reference, &done.nodes, json);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn all(args: &ReimageArgs, named: &str, store: &Store, json: bool) -> anyhow::Result<ExitCode> {
    let reference = newest(store, named)?;
    let RevisionRef { name, id } = &reference;
    unsigned::warn(store, &reference, json)?;
    // the channel first: a node that boots in between takes the new revision in either case
    let channel = args.channel.clone().unwrap_or_default();
    let published = store.publish(&reference, &channel)?;
    let freed = store.unassign(None)?;
    if json {
        output::json(&json!({
            "event": "reimage", "name": name, "revision": id, "channel": channel,
            "previous": published.previous.map(|r| r.id), "unassigned": freed,
        }));
    } else {
        output::line(&format!(
            "all nodes of channel {channel} boot {reference} at their next boot"
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
