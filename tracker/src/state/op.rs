//! Changes of the state, as they are written: each is one or a few statements.

use std::net::IpAddr;

use proto::event::Event;
use proto::event::audit::Verdict;
use proto::node_id::NodeId;
use proto::rollout::Member;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use store::{Channel, RevisionName, RevisionRef};

use super::rollout::{self, RolloutRow};
use crate::boot::values::KernelArgs;
use crate::nodes::node::{Asked, Trust};

/// A node without its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRow {
    pub(crate) id: NodeId,
    /// All its addresses, `id` among them.
    pub(crate) macs: Vec<NodeId>,
    pub(crate) uuid: Option<String>,
    pub(crate) addr: IpAddr,
    /// Number of the boot it is in; its events carry it.
    pub(crate) boot: u32,
    pub(crate) boots: u32,
    pub(crate) boot_id: Option<String>,
    pub(crate) former: Vec<String>,
    /// How the boot began.
    pub(crate) asked: Asked,
    pub(crate) revision: Option<RevisionRef>,
    pub(crate) waits: Option<String>,
    pub(crate) trust: Trust,
    pub(crate) bound: Option<u64>,
}

/// A boot that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PastBoot {
    pub(crate) boot_id: Option<String>,
    /// The stage that it reached.
    pub(crate) stage: String,
    pub(crate) percent: f64,
    pub(crate) revision: Option<RevisionRef>,
    /// What was wrong at its end.
    pub(crate) trouble: Option<String>,
    pub(crate) authenticated: bool,
    pub(crate) stage_times: Vec<StageTime>,
    /// What its hardware audit came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) audit: Option<Verdict>,
    /// What its console showed last, when it ended in trouble.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) console: Vec<String>,
}

/// When a stage of a boot was first reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StageTime {
    pub(crate) stage: String,
    /// Since the kernel started.
    pub(crate) uptime_ms: u64,
}

/// What a node was told to boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AssignmentRow {
    pub(crate) revision: Option<RevisionRef>,
    pub(crate) kernel_args: KernelArgs,
    /// What the store's file said when it was last read.
    pub(crate) in_store: Option<RevisionRef>,
}

/// A channel that points elsewhere than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Moved {
    pub(crate) channel: Channel,
    pub(crate) image: RevisionName,
    /// `None`: the channel no longer has the image.
    pub(crate) revision: Option<RevisionRef>,
    pub(crate) former: Option<RevisionRef>,
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    PutNode(Box<NodeRow>),
    DropNode(NodeId),
    AddEvent {
        row: i64,
        node: NodeId,
        boot: u32,
        event: Box<Event>,
    },
    DropEvents(Vec<i64>),
    MoveEvents {
        rows: Vec<i64>,
        to: NodeId,
        boot: u32,
    },
    /// Adds a past boot, and forgets the oldest beyond `keep`.
    EndBoot {
        node: NodeId,
        boot: Box<PastBoot>,
        keep: usize,
    },
    MoveBoots {
        from: NodeId,
        to: NodeId,
        keep: usize,
    },
    Assign {
        node: NodeId,
        row: AssignmentRow,
    },
    Move {
        moved: Moved,
        keep: usize,
    },
    PutMeta {
        key: &'static str,
        value: Vec<u8>,
    },
    /// A rollout without its nodes.
    PutRollout(Box<RolloutRow>),
    PutMember {
        rollout: i64,
        place: usize,
        member: Box<Member>,
        before: Option<String>,
    },
    DropRollout(i64),
}

impl Op {
    /// Whether somebody ordered it, so that it has to outlive a power cut, too. All else is what nodes
    /// report, and go on reporting.
    pub(crate) fn is_order(&self) -> bool {
        match self {
            Self::PutNode(_)
            | Self::DropNode(_)
            | Self::AddEvent { .. }
            | Self::DropEvents(_)
            | Self::MoveEvents { .. }
            | Self::EndBoot { .. }
            | Self::MoveBoots { .. } => false,
            Self::Assign { .. }
            | Self::Move { .. }
            | Self::PutMeta { .. }
            | Self::PutRollout(_)
            | Self::PutMember { .. }
            | Self::DropRollout(_) => true,
        }
    }

    /// Writes the change; `at` is when it happened, in milliseconds of Unix time.
    pub(crate) fn write(&self, to: &Connection, at: i64) -> rusqlite::Result<()> {
        match self {
            Self::PutNode(row) => put_node(to, row, at),
            Self::DropNode(node) => {
                let node = node.to_string();
                for sql in [
                    "DELETE FROM macs WHERE node = ?1",
                    "DELETE FROM boots WHERE node = ?1",
                    "DELETE FROM nodes WHERE id = ?1",
                ] {
                    to.prepare_cached(sql)?.execute([&node])?;
                }
                Ok(())
            }
            Self::AddEvent { row, node, boot, event } => {
                let body = json(event)?;
                to.prepare_cached("INSERT OR REPLACE INTO events VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![row, node.to_string(), boot, at, body])
                    .map(drop)
            }
            Self::DropEvents(rows) => {
                let mut drop_one = to.prepare_cached("DELETE FROM events WHERE id = ?1")?;
                rows.iter().try_for_each(|row| drop_one.execute([row]).map(drop))
            }
            Self::MoveEvents { rows, to: node, boot } => {
                let sql = "UPDATE events SET node = ?2, boot = ?3 WHERE id = ?1";
                let mut statement = to.prepare_cached(sql)?;
                let node = node.to_string();
                rows.iter()
                    .try_for_each(|row| statement.execute(params![row, node, boot]).map(drop))
            }
            Self::EndBoot { node, boot, keep } => {
                let node = node.to_string();
                to.prepare_cached(
                    "INSERT INTO boots (node, ended_ms, summary) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![node, at, json(boot)?])?;
                forget_boots(to, &node, *keep)
            }
            Self::MoveBoots { from, to: node, keep } => {
                let node = node.to_string();
                to.prepare_cached("UPDATE boots SET node = ?2 WHERE node = ?1")?
                    .execute([&from.to_string(), &node])?;
                forget_boots(to, &node, *keep)
            }
            Self::Assign { node, row } => assign(to, *node, row, at),
            Self::Move { moved, keep } => channel_moved(to, moved, *keep, at),
            Self::PutMeta { key, value } => to
                .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
                .execute(params![key, value])
                .map(drop),
            Self::PutRollout(row) => rollout::put(to, row),
            Self::PutMember { rollout, place, member, before } => {
                rollout::put_member(to, *rollout, *place, member, before.as_deref())
            }
            Self::DropRollout(id) => rollout::forget(to, *id),
        }
    }
}

/// All but the newest `keep`.
fn forget_boots(to: &Connection, node: &str, keep: usize) -> rusqlite::Result<()> {
    let sql = "DELETE FROM boots WHERE node = ?1 AND id <= \
               (SELECT id FROM boots WHERE node = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    to.prepare_cached(sql)?.execute(params![node, number(keep)]).map(drop)
}

pub(super) fn number(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

pub(crate) fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn put_node(to: &Connection, row: &NodeRow, at: i64) -> rusqlite::Result<()> {
    let id = row.id.to_string();
    to.prepare_cached(
        "INSERT OR REPLACE INTO nodes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        id,
        row.uuid,
        row.addr.to_string(),
        at,
        row.boot,
        row.boots,
        row.boot_id,
        json(&row.former)?,
        row.asked.number(),
        row.revision.as_ref().map(ToString::to_string),
        row.waits,
        row.trust.word(),
        row.bound.map(u64::cast_signed),
    ])?;
    to.prepare_cached("DELETE FROM macs WHERE node = ?1")?.execute([&id])?;
    let mut add = to.prepare_cached("INSERT OR REPLACE INTO macs VALUES (?1, ?2)")?;
    row.macs.iter().try_for_each(|mac| add.execute([&mac.to_string(), &id]).map(drop))
}

fn assign(to: &Connection, node: NodeId, row: &AssignmentRow, at: i64) -> rusqlite::Result<()> {
    let node = node.to_string();
    if row.revision.is_none() && row.in_store.is_none() {
        return to
            .prepare_cached("DELETE FROM assignments WHERE node = ?1")?
            .execute([node])
            .map(drop);
    }
    let text = |revision: &Option<RevisionRef>| revision.as_ref().map(ToString::to_string);
    to.prepare_cached("INSERT OR REPLACE INTO assignments VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            node,
            at,
            text(&row.revision),
            row.kernel_args.to_string(),
            text(&row.in_store)
        ])
        .map(drop)
}

fn channel_moved(to: &Connection, moved: &Moved, keep: usize, at: i64) -> rusqlite::Result<()> {
    let text = |revision: &Option<RevisionRef>| revision.as_ref().map(|r| r.id.to_string());
    let (channel, image) = (moved.channel.as_str(), moved.image.as_str());
    match text(&moved.revision) {
        Some(id) => to
            .prepare_cached("INSERT OR REPLACE INTO channels VALUES (?1, ?2, ?3)")?
            .execute([channel, image, &id])?,
        None => to
            .prepare_cached("DELETE FROM channels WHERE channel = ?1 AND image = ?2")?
            .execute([channel, image])?,
    };
    to.prepare_cached(
        "INSERT INTO history (at_ms, channel, image, revision, former) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![at, channel, image, text(&moved.revision), text(&moved.former)])?;
    let sql = "DELETE FROM history WHERE id <= \
               (SELECT id FROM history ORDER BY id DESC LIMIT 1 OFFSET ?1)";
    to.prepare_cached(sql)?.execute([number(keep)]).map(drop)
}
