//! What a tracker that starts finds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use proto::event::Event;
use proto::node_id::NodeId;
use rusqlite::{Connection, Row};
use serde::Serialize;
use store::{Channel, RevisionName, RevisionRef};

use super::error::{StateError, database};
use super::journal::unix_ms;
use super::op::{AssignmentRow, Moved, NodeRow, PastBoot};
use super::rollout::RolloutRow;
use crate::nodes::node::{Asked, Trust};

/// Everything that lives in memory while the tracker runs.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) nodes: Vec<(NodeRow, Instant)>,
    pub(crate) events: Vec<LoadedEvent>,
    pub(crate) assignments: BTreeMap<NodeId, AssignmentRow>,
    /// Where channels pointed when that was last looked at.
    pub(crate) channels: Vec<((Channel, RevisionName), RevisionRef)>,
    pub(crate) meta: BTreeMap<String, Vec<u8>>,
    pub(crate) rollouts: Vec<RolloutRow>,
    /// Largest number of a row of `events`.
    pub(crate) last_row: i64,
}

/// An event as it was taken, oldest first.
#[derive(Debug)]
pub(crate) struct LoadedEvent {
    pub(crate) row: i64,
    pub(crate) node: NodeId,
    pub(crate) boot: u32,
    pub(crate) received: Instant,
    pub(crate) event: Event,
}

/// Reads everything.
pub(crate) fn load(from: &Connection, path: &Path) -> Result<Loaded, StateError> {
    read(from).map_err(database(path))
}

fn read(from: &Connection) -> rusqlite::Result<Loaded> {
    let clock = Clock::now();
    let mut macs = BTreeMap::<NodeId, Vec<NodeId>>::new();
    for pair in rows(from, "SELECT mac, node FROM macs ORDER BY mac", |row| {
        Ok((parsed(row, 0)?, parsed(row, 1)?))
    })? {
        let (mac, node): (NodeId, NodeId) = pair;
        macs.entry(node).or_default().push(mac);
    }
    let nodes = rows(from, "SELECT * FROM nodes ORDER BY heard_ms", |row| {
        let id: NodeId = parsed(row, 0)?;
        let former: String = row.get(7)?;
        let node = NodeRow {
            id,
            macs: macs.remove(&id).unwrap_or_else(|| vec![id]),
            uuid: row.get(1)?,
            addr: parsed(row, 2)?,
            boot: row.get(4)?,
            boots: row.get(5)?,
            boot_id: row.get(6)?,
            former: serde_json::from_str(&former).map_err(|e| bad(7, e))?,
            asked: Asked::of_number(row.get(8)?),
            revision: optional(row, 9)?,
            waits: row.get(10)?,
            trust: Trust::of_word(&row.get::<_, String>(11)?),
            bound: row.get::<_, Option<i64>>(12)?.map(i64::cast_unsigned),
        };
        Ok((node, clock.instant(row.get(3)?)))
    })?;
    let events = rows(from, "SELECT * FROM events ORDER BY id", |row| {
        let body: String = row.get(4)?;
        Ok(LoadedEvent {
            row: row.get(0)?,
            node: parsed(row, 1)?,
            boot: row.get(2)?,
            received: clock.instant(row.get(3)?),
            event: serde_json::from_str(&body).map_err(|e| bad(4, e))?,
        })
    })?;
    let assignments = rows(from, "SELECT * FROM assignments", |row| {
        let told = AssignmentRow {
            revision: optional(row, 2)?,
            kernel_args: parsed(row, 3)?,
            in_store: optional(row, 4)?,
        };
        Ok((parsed(row, 0)?, told))
    })?;
    let channels = rows(from, "SELECT * FROM channels", |row| {
        let (channel, image, id): (String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let revision = format!("{image}@{id}").parse().map_err(|e| bad(2, e))?;
        let channel = Channel::new(channel).map_err(|e| bad(0, e))?;
        Ok(((channel, RevisionName::new(image).map_err(|e| bad(1, e))?), revision))
    })?;
    let meta = rows(from, "SELECT * FROM meta", |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Loaded {
        rollouts: super::rollout::load(from)?,
        last_row: events.last().map_or(0, |event| event.row),
        nodes,
        events,
        assignments: assignments.into_iter().collect(),
        channels,
        meta: meta.into_iter().collect(),
    })
}

/// A past boot, for the node's page.
#[derive(Debug, Serialize)]
pub(crate) struct EndedBoot {
    /// Unix time in milliseconds.
    pub(crate) ended_ms: i64,
    #[serde(flatten)]
    pub(crate) boot: PastBoot,
}

/// The past boots of a node, newest first.
pub(crate) fn past_boots(from: &Connection, node: NodeId) -> rusqlite::Result<Vec<EndedBoot>> {
    let sql = "SELECT ended_ms, summary FROM boots WHERE node = ?1 ORDER BY id DESC";
    let mut statement = from.prepare_cached(sql)?;
    let boots = statement.query_map([node.to_string()], |row| {
        let summary: String = row.get(1)?;
        let boot = serde_json::from_str(&summary).map_err(|e| bad(1, e))?;
        Ok(EndedBoot { ended_ms: row.get(0)?, boot })
    })?;
    boots.collect()
}

/// A change of a channel.
#[derive(Debug, Serialize)]
pub(crate) struct PastMove {
    /// Unix time in milliseconds.
    pub(crate) at_ms: i64,
    #[serde(flatten)]
    pub(crate) moved: Moved,
}

/// How channels changed, newest first.
pub(crate) fn history(from: &Connection, most: u32) -> rusqlite::Result<Vec<PastMove>> {
    let sql =
        "SELECT at_ms, channel, image, revision, former FROM history ORDER BY id DESC LIMIT ?1";
    let mut statement = from.prepare_cached(sql)?;
    let moves = statement.query_map([most], |row| {
        let image: String = row.get(2)?;
        let revision = |id: Option<String>| -> rusqlite::Result<Option<RevisionRef>> {
            id.map(|id| format!("{image}@{id}").parse().map_err(|e| bad(3, e))).transpose()
        };
        let moved = Moved {
            channel: Channel::new(row.get::<_, String>(1)?).map_err(|e| bad(1, e))?,
            revision: revision(row.get(3)?)?,
            former: revision(row.get(4)?)?,
            image: RevisionName::new(image.clone()).map_err(|e| bad(2, e))?,
        };
        Ok(PastMove { at_ms: row.get(0)?, moved })
    })?;
    moves.collect()
}

pub(super) fn rows<T>(
    from: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    from.prepare(sql)?.query_map([], read)?.collect()
}

pub(super) fn bad(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

pub(super) fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get::<_, String>(column)?.parse().map_err(|e| bad(column, e))
}

fn optional<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|e| bad(column, e))).transpose()
}

/// Both clocks at one moment.
struct Clock {
    instant: Instant,
    unix_ms: i64,
}

impl Clock {
    fn now() -> Self {
        Self { instant: Instant::now(), unix_ms: unix_ms(SystemTime::now()) }
    }

    /// A moment in the past; one in the future (the clock was set back) is now.
    fn instant(&self, unix_ms: i64) -> Instant {
        let ago = u64::try_from(self.unix_ms.saturating_sub(unix_ms)).unwrap_or(0);
        self.instant.checked_sub(Duration::from_millis(ago)).unwrap_or(self.instant)
    }
}
