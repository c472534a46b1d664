//! Removing old revisions.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::manifest::MANIFEST_FILE;
use proto::node_id::NodeId;

use crate::durable;
use crate::error::StoreError;
use crate::history::{Action, HistoryEntry};
use crate::layout::{self, TMP};
use crate::name::{Channel, RevisionName, RevisionRef};
use crate::root::{Listed, Store};

/// What [`Store::prune_sparing`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Gone.
    pub removed: Vec<RevisionRef>,
    /// Older than those that were to stay, but in use.
    pub spared: Vec<(RevisionRef, Use)>,
}

/// Why a revision stays.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Use {
    /// A channel boots it.
    Channel(Channel),
    /// A node was told to boot it.
    Assigned(NodeId),
    /// The caller says that nodes run it.
    Running,
    /// It can have been booted before the caller knew of nodes.
    Unknown,
}

/// What is known of the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nodes {
    /// What they run.
    pub running: Vec<RevisionRef>,
    /// Who booted before may run something else as well; `None`: nobody does.
    pub known_since: Option<SystemTime>,
}

impl Store {
    /// As [`Store::prune_sparing`], for a caller who knows of no node that runs anything.
    ///
    /// # Errors
    /// Those of [`Store::prune_sparing`].
    pub fn prune(&self, name: &RevisionName, keep: usize) -> Result<Vec<RevisionRef>, StoreError> {
        self.prune_sparing(name, keep, &Nodes::default()).map(|pruned| pruned.removed)
    }

    /// Removes all but the newest `keep` revisions of an image.
    ///
    /// A revision that a channel points to, that a node was told to boot, or that nodes run or may run is
    /// never removed, however old it is. Newest is what was published last; a revision that never
    /// was counts from when it was packed.
    ///
    /// # Errors
    /// [`StoreError::NoImage`]; [`StoreError::BadLink`] and [`StoreError::Assignments`] when a
    /// channel's pointer or the assignments cannot be read (nothing is removed then); the errors of
    /// writing.
    pub fn prune_sparing(
        &self,
        name: &RevisionName,
        keep: usize,
        nodes: &Nodes,
    ) -> Result<Pruned, StoreError> {
        let _lock = self.lock()?;
        // also an error for a pointer that leads nowhere: it could mean any of them
        for (channel, pointed) in self.channels()? {
            if pointed == *name {
                self.current(&channel, &pointed)?;
            }
        }
        let assignments = self.assignments()?;
        let mut listed = self.list()?;
        listed.retain(|l| l.reference.name == *name);
        if listed.is_empty() {
            return Err(StoreError::NoImage { name: name.clone() });
        }
        let history = self.history()?;
        let mut pruned = Pruned::default();
        for old in listed.into_iter().skip(keep) {
            let used = match (old.channels.first(), assignments.holder(&old.reference)) {
                (Some(channel), _) => Some(Use::Channel(channel.clone())),
                (None, Some(node)) => Some(Use::Assigned(node)),
                (None, None) if nodes.running.contains(&old.reference) => Some(Use::Running),
                (None, None) => {
                    let is_older = |since| self.is_older(&old, since, &history);
                    nodes.known_since.is_some_and(is_older).then_some(Use::Unknown)
                }
            };
            match used {
                Some(used) => pruned.spared.push((old.reference, used)),
                None => pruned.removed.push(old.reference),
            }
        }
        for reference in &pruned.removed {
            self.remove(reference)?;
            self.record(&[HistoryEntry::now(Action::Prune, Some(reference))])?;
        }
        Ok(pruned)
    }

    /// Whether a node can have booted a revision before `time`: it was packed before, or was there before by
    /// any other sign, since a store that was copied has younger files.
    fn is_older(&self, old: &Listed, time: SystemTime, history: &[HistoryEntry]) -> bool {
        let manifest = layout::revision(self.root(), &old.reference).join(MANIFEST_FILE);
        let packed = fs::metadata(manifest).and_then(|meta| meta.modified()).ok();
        let names = |entry: &&HistoryEntry| {
            let is = |id: &Option<_>| id.as_ref() == Some(&old.reference.id);
            entry.name.as_ref() == Some(&old.reference.name)
                && (is(&entry.revision) || is(&entry.previous))
        };
        let told = history.iter().filter(names).map(|entry| entry.time);
        let told = told.min().map(|time| UNIX_EPOCH + Duration::from_secs(time.0));
        [packed, told, Some(old.since)].into_iter().flatten().any(|seen| seen < time)
    }

    /// First nobody is told of it any more, then it is gone at once. The caller holds the lock.
    fn remove(&self, reference: &RevisionRef) -> Result<(), StoreError> {
        durable::remove_file(&layout::published(self.root(), reference))?;
        let grave = self.root().join(TMP).join(format!("pruned-{}", reference.id));
        durable::remove_tree(&grave)?;
        let path = layout::revision(self.root(), reference);
        durable::rename(&path, &grave)?;
        if let Some(parent) = path.parent() {
            durable::sync(parent)?;
        }
        durable::remove_tree(&grave)
    }
}
