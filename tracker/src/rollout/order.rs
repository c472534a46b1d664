//! Reads an order: which nodes, which revision, how many at a time.

use proto::node_id::NodeId;
use proto::rollout::{Member, MemberState, RolloutOrder};
use store::{Channel, RevisionRef};

use super::{Moment, Plan};
use crate::app::{App, lock};
use crate::inventory::{Inventory, Word};

/// Nodes of one rollout.
const MAX_NODES: usize = 10_000;

/// Longest time that a node may be given, in seconds.
const MAX_PATIENCE_S: u64 = 7 * 24 * 3600;

/// What was ordered, or why that cannot be, for people.
pub(crate) fn understand(
    app: &App,
    order: &RolloutOrder,
    revise: impl FnOnce(&str) -> Result<RevisionRef, String>,
    now: Moment,
) -> Result<(Plan, Vec<Member>), String> {
    let inventory = app.inventory();
    let channel = order.channel.clone().map(Channel::new).transpose();
    let channel = channel.map_err(|e| e.to_string())?;
    let mut members = Vec::new();
    for word in &order.nodes {
        let member = member(app, &inventory, order, word, now)?;
        let known = |other: &Member| other.macs.iter().any(|mac| member.macs.contains(mac));
        if !members.iter().any(known) {
            members.push(member);
        }
        if members.len() > MAX_NODES {
            return Err(format!("these are more than {MAX_NODES} nodes: divide them"));
        }
    }
    if members.is_empty() {
        return Err("nodes names no node".to_owned());
    }
    if let Some(channel) = &channel {
        of_channel(app, &inventory, channel, &members)?;
    }
    let revision = match (&order.revision, &channel) {
        (Some(revision), _) => revise(revision)?,
        (None, Some(channel)) => {
            let offer = app.catalog().offer(channel, app.config.image.as_ref());
            offer?.revision
        }
        (None, None) => return Err("give a revision, or a channel that has one".to_owned()),
    };
    if order.batch.is_zero() {
        return Err("a batch of no nodes would never end: give --batch 1 or more".to_owned());
    }
    let all = members.len();
    let batch = order.batch.at_least_one(all).min(all);
    let min_copies = order.min_copies.unwrap_or(1);
    let min_copies = usize::try_from(min_copies).unwrap_or(usize::MAX);
    if min_copies > batch {
        return Err(format!(
            "a batch has {batch} nodes: {min_copies} copies (--min-copies) could never be reached. Give a \
             larger --batch or fewer copies"
        ));
    }
    if !(1..=MAX_PATIENCE_S).contains(&order.patience_s) {
        return Err(format!("a node can be given 1 to {MAX_PATIENCE_S} seconds to come up"));
    }
    let plan = Plan {
        revision,
        kernel_args: order.kernel_args.parse().map_err(|e| format!("kernel_args: {e}"))?,
        batch,
        max_failed: order.max_failed.at_most(all),
        min_copies,
        patience_s: order.patience_s,
    };
    Ok((plan, members))
}

/// A node by a word: an address, a name of the inventory, or one that the order itself has addresses for.
fn member(
    app: &App,
    inventory: &Inventory,
    order: &RolloutOrder,
    word: &str,
    now: Moment,
) -> Result<Member, String> {
    let mac: Result<NodeId, _> = word.parse();
    let entry = match &mac {
        Ok(mac) => inventory.of(*mac),
        Err(_) => inventory.named(word),
    };
    let (name, macs) = match (entry, mac, order.addresses.get(word)) {
        (Some(entry), ..) => (entry.name.to_string(), entry.macs.clone()),
        (None, Ok(mac), _) => {
            let nodes = lock(&app.nodes);
            let macs = nodes.get(mac).map_or_else(|| vec![mac], |node| node.macs.clone());
            (mac.to_string(), macs)
        }
        (None, Err(_), Some(macs)) if !macs.is_empty() => {
            // it goes into commands as {name}
            let name: Word = word.parse().map_err(|e| format!("nodes: {e}"))?;
            (name.to_string(), macs.clone())
        }
        (None, Err(error), _) => return Err(format!("{error}, nor a name in the inventory")),
    };
    if macs.len() > crate::inventory::MAX_MACS {
        return Err(format!("{word:.80} has too many addresses"));
    }
    Ok(Member {
        name,
        macs,
        state: MemberState::Waiting,
        batch: 0,
        detail: String::new(),
        since_ms: now.unix_ms,
    })
}

/// All must follow the channel: a wrong list of nodes is noticed before it reboots anybody.
fn of_channel(
    app: &App,
    inventory: &Inventory,
    channel: &Channel,
    members: &[Member],
) -> Result<(), String> {
    let follows = |member: &Member| {
        let entry = member.macs.iter().find_map(|mac| inventory.of(*mac));
        entry.and_then(|entry| entry.channel.clone()).unwrap_or(app.config.channel.clone())
    };
    let other = members.iter().map(|member| (member, follows(member))).find(|(_, c)| c != channel);
    match other {
        None => Ok(()),
        Some((member, other)) => Err(format!(
            "{} follows channel {other}, not {channel}: take it from --nodes, or leave out --channel",
            member.name
        )),
    }
}
