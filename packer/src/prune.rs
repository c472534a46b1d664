//! `bee-packer prune`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::json;
use store::{Nodes, RevisionName, RevisionRef, Store, Use};

use crate::cli::StoreArg;
use crate::cluster::{self, TrackerArgs};
use crate::output;

/// Of a node whose seeder is dead a tracker knows by its boot alone.
const UNKNOWN: &str = "nodes may run it of which the tracker does not know, because it is older than the \
                       tracker's memory: run bee-tracker with --state, which outlives a restart; when no node \
                       runs it any more, remove it with --ignore-nodes";

/// Which revisions may go.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Name of the image
    pub(crate) name: RevisionName,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// How many of the newest revisions stay
    #[arg(long, value_name = "N")]
    pub(crate) keep: usize,
    #[command(flatten)]
    pub(crate) tracker: TrackerArgs,
    /// Remove also what nodes may still run: they go on, but their image is no longer seeded, and none
    /// of them is asked
    #[arg(long, conflicts_with = "tracker_url")]
    pub(crate) ignore_nodes: bool,
}

/// Removes old revisions, as far as nobody needs them.
pub(crate) fn prune(args: &PruneArgs, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store.store)?;
    let nodes = match args.tracker.usage()? {
        Some(usage) => cluster::nodes(&usage)?,
        None if args.ignore_nodes => Nodes::default(),
        None => bail!(
            "nothing was removed: nodes may run an old revision. Name the tracker, which knows, with \
             --tracker-url http://HOST:6969, or give --ignore-nodes"
        ),
    };
    let pruned = store.prune_sparing(&args.name, args.keep, &nodes)?;
    for (reference, used) in &pruned.spared {
        let reason = match used {
            Use::Channel(channel) => format!("channel {channel} boots it"),
            Use::Assigned(node) => format!("node {node} is to boot it"),
            Use::Unknown => UNKNOWN.to_owned(),
            _ => "nodes run it".to_owned(),
        };
        report("kept", reference, Some(&reason), json);
    }
    for reference in &pruned.removed {
        report("removed", reference, None, json);
    }
    if pruned.removed.is_empty() && !json {
        output::line("nothing to remove");
    }
    Ok(ExitCode::SUCCESS)
}

fn report(event: &str, reference: &RevisionRef, reason: Option<&str>, json: bool) {
    if json {
        let RevisionRef { name, id } = reference;
        let line = json!({ "event": event, "name": name, "revision": id, "reason": reason });
        return output::json(&line);
    }
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    output::line(&format!("{event} {reference}{reason}"));
}
