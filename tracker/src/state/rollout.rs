//! Rollouts on disk.

use proto::rollout::{Member, Phase};
use rusqlite::{Connection, params};

use super::load::{bad, parsed, rows};
use super::op::{json, number};
use crate::rollout::Plan;

/// A rollout. Its nodes are rows of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RolloutRow {
    pub(crate) id: i64,
    pub(crate) started_ms: i64,
    pub(crate) plan: Plan,
    pub(crate) phase: Phase,
    pub(crate) reason: String,
    /// Place, node, and the boot that it must leave.
    pub(crate) members: Vec<(usize, Member, Option<String>)>,
}

pub(super) fn put(to: &Connection, row: &RolloutRow) -> rusqlite::Result<()> {
    let plan = &row.plan;
    to.prepare_cached(
        "INSERT OR REPLACE INTO rollouts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        row.id,
        row.started_ms,
        plan.revision.to_string(),
        plan.kernel_args.to_string(),
        number(plan.batch),
        number(plan.max_failed),
        number(plan.min_copies),
        i64::try_from(plan.patience_s).unwrap_or(i64::MAX),
        json(&row.phase)?,
        row.reason,
    ])
    .map(drop)
}

pub(super) fn put_member(
    to: &Connection,
    rollout: i64,
    place: usize,
    member: &Member,
    before: Option<&str>,
) -> rusqlite::Result<()> {
    to.prepare_cached("INSERT OR REPLACE INTO rollout_nodes VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![rollout, number(place), before, json(member)?])
        .map(drop)
}

pub(super) fn forget(to: &Connection, id: i64) -> rusqlite::Result<()> {
    to.prepare_cached("DELETE FROM rollout_nodes WHERE rollout = ?1")?.execute([id])?;
    to.prepare_cached("DELETE FROM rollouts WHERE id = ?1")?.execute([id]).map(drop)
}

/// All of them.
pub(super) fn load(from: &Connection) -> rusqlite::Result<Vec<RolloutRow>> {
    let size = |number: i64| usize::try_from(number).unwrap_or(0);
    let mut found = rows(from, "SELECT * FROM rollouts ORDER BY id", |row| {
        let phase: String = row.get(8)?;
        Ok(RolloutRow {
            id: row.get(0)?,
            started_ms: row.get(1)?,
            plan: Plan {
                revision: parsed(row, 2)?,
                kernel_args: parsed(row, 3)?,
                batch: size(row.get(4)?),
                max_failed: size(row.get(5)?),
                min_copies: size(row.get(6)?),
                patience_s: row.get::<_, i64>(7)?.cast_unsigned(),
            },
            phase: serde_json::from_str(&phase).map_err(|e| bad(8, e))?,
            reason: row.get(9)?,
            members: Vec::new(),
        })
    })?;
    let members = rows(from, "SELECT * FROM rollout_nodes", |row| {
        let body: String = row.get(3)?;
        let member: Member = serde_json::from_str(&body).map_err(|e| bad(3, e))?;
        Ok((row.get::<_, i64>(0)?, (size(row.get(1)?), member, row.get(2)?)))
    })?;
    for (rollout, member) in members {
        if let Some(row) = found.iter_mut().find(|row| row.id == rollout) {
            row.members.push(member);
        }
    }
    Ok(found)
}
