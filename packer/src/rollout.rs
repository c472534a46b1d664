//! `bee-packer reimage` in batches: gives the order to the tracker, and looks on.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use proto::rollout::{MemberState, PATIENCE_S, Phase, Rollout, RolloutOrder, Share, ShareError};
use serde_json::json;

use crate::cluster;
use crate::dispatch::{self, LookError, Tracker};
use crate::reimage::ReimageArgs;
use crate::{node_list, output};

/// How often the tracker is asked.
const EVERY: Duration = Duration::from_secs(2);

/// What `--status`, `--stop` and `--resume` mean without a number.
const LAST: &str = "last";

/// What an order has, and who only looks at a rollout or stops it does not say.
const ORDER: [&str; 10] = [
    "revision_first",
    "revision",
    "channel",
    "kernel_args",
    "at_next_boot",
    "batch",
    "max_failed",
    "min_copies",
    "patience",
    "detach",
];

/// How nodes are rebooted; nothing of it goes with --at-next-boot.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    /// Nodes that are rebooted together: a number, or a part of all
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = some)]
    pub(crate) batch: Share,
    /// Nodes that may fail; one more, and no further node is rebooted
    #[arg(long, value_name = "SHARE", default_value = "2%")]
    pub(crate) max_failed: Share,
    /// Nodes that must hold the image before the next batch begins
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) min_copies: u32,
    /// Seconds that a node has to come up after its reboot
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE_S)]
    pub(crate) patience: u64,
    /// Give the order, and do not look on: the tracker does the work in either case
    #[arg(long)]
    pub(crate) detach: bool,
    /// Look at a rollout: its number, or none for the last one
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = LAST, group = "which", conflicts_with_all = ORDER)]
    pub(crate) status: Option<String>,
    /// Let a rollout reboot no further node
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = LAST, group = "which", conflicts_with_all = ORDER)]
    pub(crate) stop: Option<String>,
    /// Let a rollout go on that was stopped, and try those nodes again that failed
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = LAST, group = "which", conflicts_with_all = &ORDER[..9])]
    pub(crate) resume: Option<String>,
}

/// A share that is not zero.
fn some(text: &str) -> Result<Share, String> {
    let share: Share = text.parse().map_err(|error: ShareError| error.to_string())?;
    if share.is_zero() { Err("a batch has one node at least".to_owned()) } else { Ok(share) }
}

/// What is to be done with a rollout that there is.
pub(crate) enum About {
    Status(String),
    Stop(String),
    Resume(String),
}

impl RolloutArgs {
    pub(crate) fn which(&self) -> Option<About> {
        let status = self.status.clone().map(About::Status);
        let stop = self.stop.clone().map(About::Stop);
        status.or(stop).or_else(|| self.resume.clone().map(About::Resume))
    }
}

fn tracker(args: &ReimageArgs) -> anyhow::Result<Tracker> {
    if args.target.tracker_url.is_none() {
        bail!(
            "nodes are rebooted by the tracker: give --tracker-url and --token-file. With --at-next-boot nodes \
             take the revision when they boot the next time, and --store will do"
        );
    }
    args.target.tracker()
}

/// Orders a rollout, and looks on until it ends.
pub(crate) fn start(args: &ReimageArgs, json: bool) -> anyhow::Result<ExitCode> {
    let Some(list) = &args.nodes else {
        bail!("--all is for --at-next-boot: name the nodes that are to be rebooted with --nodes");
    };
    let (nodes, addresses) = node_list::named(list, &args.ethers.ethers)?;
    let order = RolloutOrder {
        revision: args.named().map(str::to_owned),
        channel: args.channel.as_ref().map(ToString::to_string),
        nodes,
        addresses,
        kernel_args: args.kernel_args.clone().unwrap_or_default(),
        batch: args.rollout.batch,
        max_failed: args.rollout.max_failed,
        min_copies: Some(args.rollout.min_copies),
        patience_s: args.rollout.patience,
    };
    let tracker = tracker(args)?;
    let started = tracker.rollout("", &order)?;
    if args.rollout.detach {
        show(&started, json);
        return Ok(ExitCode::SUCCESS);
    }
    follow(&tracker, started, json)
}

/// Shows, stops or resumes one.
pub(crate) fn about(args: &ReimageArgs, about: &About, json: bool) -> anyhow::Result<ExitCode> {
    match about {
        About::Status(which) => {
            let url = args.target.tracker_url.as_deref().context("give --tracker-url")?;
            let client = cluster::client(url, &args.target.tls, None)?;
            let rollout = dispatch::look(&client, number(which)?)?;
            show(&rollout, json);
            Ok(ExitCode::SUCCESS)
        }
        About::Stop(which) => {
            let order = format!("/{}/stop", number(which)?);
            show(&tracker(args)?.rollout(&order, &json!({}))?, json);
            Ok(ExitCode::SUCCESS)
        }
        About::Resume(which) => {
            let order = format!("/{}/resume", number(which)?);
            let tracker = tracker(args)?;
            let resumed = tracker.rollout(&order, &json!({}))?;
            if args.rollout.detach {
                show(&resumed, json);
                return Ok(ExitCode::SUCCESS);
            }
            follow(&tracker, resumed, json)
        }
    }
}

fn number(which: &str) -> anyhow::Result<&str> {
    if which != LAST && which.parse::<u32>().is_err() {
        bail!("{which:?} is no number of a rollout");
    }
    Ok(which)
}

/// Tells each change until the rollout ends. That the tracker is away for a while changes nothing.
fn follow(tracker: &Tracker, mut rollout: Rollout, json: bool) -> anyhow::Result<ExitCode> {
    if !json {
        output::line(&format!(
            "rollout {}: {} nodes, {} at a time; it goes on without this program",
            rollout.id,
            rollout.nodes.len(),
            rollout.batch
        ));
    }
    let (id, mut last, mut away) = (rollout.id.to_string(), String::new(), false);
    loop {
        let now = line(&rollout);
        if now != last {
            if json {
                told(&rollout)
            } else {
                output::line(&now)
            }
            last = now;
        }
        if rollout.phase != Phase::Running {
            show(&rollout, json);
            let done = rollout.phase == Phase::Done;
            return Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        std::thread::sleep(EVERY);
        match tracker.look(&id) {
            Ok(new) => (rollout, away) = (new, false),
            Err(error @ LookError::Refused(_)) => return Err(error.into()),
            Err(error) if !away => {
                away = true;
                output::warn(&format!("{:#}; trying again", anyhow::Error::from(error)));
            }
            Err(_) => {}
        }
    }
}

/// Everything, for machines.
fn told(rollout: &Rollout) {
    output::json(&json!({ "event": "rollout", "rollout": rollout }));
}

fn show(rollout: &Rollout, json: bool) {
    if json {
        return told(rollout);
    }
    output::line(&format!("{}: {}", rollout.revision, line(rollout)));
    if !rollout.reason.is_empty() {
        output::line(&format!("stopped: {}", rollout.reason));
    }
    for node in rollout.nodes.iter().filter(|node| node.state == MemberState::Failed) {
        output::line(&format!("  {} failed: {}", node.name, node.detail));
    }
}

fn line(rollout: &Rollout) -> String {
    let phase = match rollout.phase {
        Phase::Running => "running",
        Phase::Stopped => "stopped",
        Phase::Done => "done",
    };
    let mut text = format!("rollout {} {phase}", rollout.id);
    for state in MemberState::ALL.into_iter().rev() {
        let count = rollout.count(state);
        if count > 0 {
            text.push_str(&format!(", {count} {}", state.word()));
        }
    }
    if let Some(held) = &rollout.held {
        text.push_str(&format!("; {held}"));
    }
    text
}
