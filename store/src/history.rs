//! What was done to the channels, and when: a line of JSON per change.
//!
//! The file is replaced as a whole, so a crash leaves no half line. It is written before the change, which a full
//! disk must not leave half done, and put in its place after it: one that a crash kept from that shows as [`Action::Found`] before the next entry of its
//! channel, as do changes made before this file existed.

use std::fs;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::unix_time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::durable::Prepared;
use crate::error::StoreError;
use crate::layout::{HISTORY, TMP};
use crate::name::{Channel, RevisionId, RevisionName, RevisionRef};
use crate::root::Store;

/// Entries that are kept: about a megabyte.
const MOST: usize = 5000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// A channel was pointed to a revision.
    Publish,
    /// A channel went back to an older one.
    Rollback,
    /// A revision is no longer seeded.
    Unpublish,
    /// A revision was removed.
    Prune,
    /// Nodes were told to boot a revision, whatever their channel says.
    Assign,
    /// Nodes boot what their channel says again.
    Unassign,
    /// The channel pointed there, and nobody had written down since when.
    Found,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When, by the clock of who did it.
    pub time: UnixTime,
    /// What.
    pub action: Action,
    /// The image; none when nodes of any image were meant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<RevisionName>,
    /// The channel, for what concerns one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel: Option<Channel>,
    /// The revision that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<RevisionId>,
    /// What the channel pointed to before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<RevisionId>,
    /// How many nodes, for what concerns nodes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nodes: Option<usize>,
}

impl HistoryEntry {
    /// Something that happens now to a revision.
    pub(crate) fn now(action: Action, reference: Option<&RevisionRef>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            time: UnixTime(since.as_secs()),
            action,
            name: reference.map(|r| r.name.clone()),
            channel: None,
            revision: reference.map(|r| r.id.clone()),
            previous: None,
            nodes: None,
        }
    }
}

impl Store {
    /// Every change, the oldest first. Lines of a newer version that cannot be read are left out.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn history(&self) -> Result<Vec<HistoryEntry>, StoreError> {
        let text = self.history_text()?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Adds entries. The caller holds the lock.
    pub(crate) fn record(&self, entries: &[HistoryEntry]) -> Result<(), StoreError> {
        self.prepare_record(entries)?.adopt()
    }

    /// Writes the history with further entries, for after the change. The caller holds the lock.
    pub(crate) fn prepare_record(&self, entries: &[HistoryEntry]) -> Result<Prepared, StoreError> {
        let old = self.history_text()?;
        let mut lines: Vec<String> = old.lines().map(str::to_owned).collect();
        // strings, numbers and nothing else: it can be written
        lines.extend(entries.iter().filter_map(|entry| serde_json::to_string(entry).ok()));
        let from = lines.len().saturating_sub(MOST);
        let text = lines[from..].join("\n") + "\n";
        let scratch = self.root().join(TMP).join(HISTORY);
        Prepared::new(text.as_bytes(), scratch, self.root().join(HISTORY))
    }

    /// Prepares the note that a channel points to `current`; none when the last entry says so already.
    pub(crate) fn prepare_pointer(
        &self,
        action: Action,
        channel: &Channel,
        current: &RevisionRef,
        previous: Option<&RevisionRef>,
    ) -> Result<Option<Prepared>, StoreError> {
        let last = self.history()?.into_iter().rev().find(|entry| {
            entry.channel.as_ref() == Some(channel) && entry.name.as_ref() == Some(&current.name)
        });
        let last = last.and_then(|entry| entry.revision);
        let mut entries = Vec::new();
        if let Some(previous) = previous.filter(|p| **p != *current && Some(&p.id) != last.as_ref())
        {
            let channel = Some(channel.clone());
            entries
                .push(HistoryEntry { channel, ..HistoryEntry::now(Action::Found, Some(previous)) });
        }
        if !(entries.is_empty() && last.as_ref() == Some(&current.id)) {
            entries.push(HistoryEntry {
                channel: Some(channel.clone()),
                previous: previous.filter(|p| **p != *current).map(|p| p.id.clone()),
                ..HistoryEntry::now(action, Some(current))
            });
        }
        if entries.is_empty() { Ok(None) } else { self.prepare_record(&entries).map(Some) }
    }

    fn history_text(&self) -> Result<String, StoreError> {
        let path = self.root().join(HISTORY);
        match fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }
}
