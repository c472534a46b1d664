//! `bee-packer status` and `history`.

use std::process::ExitCode;

use clap::Args;
use proto::usage::{RevisionUse, Usage};
use serde_json::json;
use store::{Action, HistoryEntry, RevisionName, Store};

use crate::cli::StoreArg;
use crate::cluster::TrackerArgs;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) store: StoreArg,
    #[command(flatten)]
    pub(crate) tracker: TrackerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Only this image
    pub(crate) name: Option<RevisionName>,
    #[command(flatten)]
    pub(crate) store: StoreArg,
}

/// How many nodes run which revision, and how many are to.
pub(crate) fn status(args: &StatusArgs, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store.store)?;
    let usage = args.tracker.usage()?;
    let assignments = store.assignments()?;
    let mut known = Vec::new();
    for listed in store.list()? {
        let reference = &listed.reference;
        let told = assignments.iter().filter(|(_, r)| *r == reference).count();
        let row = usage
            .as_ref()
            .and_then(|usage| row(usage, reference.name.as_str(), reference.id.as_str()));
        known.push((reference.name.to_string(), reference.id.to_string()));
        if json {
            output::json(&json!({
                "event": "status",
                "name": reference.name,
                "revision": reference.id,
                "published": listed.published,
                "channels": listed.channels,
                "assigned": told,
                "nodes": row.map(|row| row.nodes),
                "up": row.map(|row| row.up),
                "peers": row.map(|row| row.peers),
                "pending": row.map(|row| row.pending),
            }));
            continue;
        }
        let channels: Vec<&str> = listed.channels.iter().map(|c| c.as_str()).collect();
        let mut parts = Vec::new();
        match (listed.published, channels.as_slice()) {
            (_, [_, ..]) => parts.push(format!("booted by {}", channels.join(", "))),
            (true, []) => parts.push("seeded".to_owned()),
            (false, []) => parts.push("not published".to_owned()),
        }
        if usage.is_some() {
            let (nodes, up, peers) = row.map_or((0, 0, 0), |row| (row.nodes, row.up, row.peers));
            parts.push(format!("{nodes} nodes, {up} up, {peers} in the swarm"));
        }
        if told > 0 {
            let pending = row.map(|row| format!(", {} did not boot it yet", row.pending));
            parts.push(format!("assigned to {told}{}", pending.unwrap_or_default()));
        }
        output::line(&format!("{reference}  {}", parts.join("; ")));
    }
    gone(usage.as_ref(), &known, json);
    if usage.is_none() && !json {
        output::line(
            "which nodes run what is known to the tracker: give --tracker-url http://HOST:6969",
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn row<'a>(usage: &'a Usage, name: &str, id: &str) -> Option<&'a RevisionUse> {
    usage.revisions.iter().find(|row| row.name == name && row.revision == id)
}

/// What nodes run although the store no longer has it.
fn gone(usage: Option<&Usage>, known: &[(String, String)], json: bool) {
    let Some(usage) = usage else { return };
    let lost = |row: &&RevisionUse| {
        row.in_use() && !known.iter().any(|(name, id)| *name == row.name && *id == row.revision)
    };
    for row in usage.revisions.iter().filter(lost) {
        if json {
            output::json(&json!({
                "event": "status", "name": row.name, "revision": row.revision, "removed": true,
                "nodes": row.nodes, "up": row.up, "peers": row.peers,
            }));
        } else {
            let (name, id, nodes) = (&row.name, &row.revision, row.nodes);
            output::line(&format!("{name}@{id}  no longer in the store; {nodes} nodes run it"));
        }
    }
    if !usage.is_settled() && !json {
        let seconds = usage.uptime_s;
        output::line(&format!(
            "the tracker started {seconds} s ago and may not have heard of all nodes yet"
        ));
    }
}

/// What was done to the channels.
pub(crate) fn history(args: &HistoryArgs, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store.store)?;
    let meant = |entry: &&HistoryEntry| {
        args.name.is_none() || entry.name.is_none() || entry.name == args.name
    };
    for entry in store.history()?.iter().filter(meant) {
        if json {
            let mut line = json!(entry);
            line["event"] = "history".into();
            line["at"] = entry.time.to_string().into();
            output::json(&line);
        } else {
            output::line(&format!("{}  {}", entry.time, describe(entry)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(entry: &HistoryEntry) -> String {
    let what = match (&entry.name, &entry.revision) {
        (Some(name), Some(id)) => format!("{name}@{id}"),
        _ => String::new(),
    };
    let channel = entry.channel.as_ref().map(ToString::to_string).unwrap_or_default();
    let before = entry.previous.as_ref().map(|id| format!(", before {id}")).unwrap_or_default();
    let nodes = entry.nodes.unwrap_or_default();
    match entry.action {
        Action::Publish => format!("channel {channel} boots {what}{before}"),
        Action::Rollback => format!("channel {channel} rolled back to {what}{before}"),
        Action::Found => format!("channel {channel} booted {what}, since when is not known"),
        Action::Unpublish => format!("{what} is no longer seeded"),
        Action::Prune => format!("{what} removed"),
        Action::Assign => format!("{nodes} nodes are to boot {what}"),
        Action::Unassign => format!("{nodes} nodes follow their channel again"),
        _ => what,
    }
}
