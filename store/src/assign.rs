//! Nodes that boot another revision than their channel's: from their next boot on, until told
//! otherwise. The tracker follows this file.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use proto::manifest::ArtefactKind;
use proto::node_id::NodeId;
use serde::{Deserialize, Serialize};

use crate::durable::Prepared;
use crate::error::StoreError;
use crate::history::{Action, HistoryEntry};
use crate::layout::{self, ASSIGNMENTS, TMP};
use crate::name::RevisionRef;
use crate::root::Store;

/// Version of the file that this crate reads and writes.
const VERSION: u32 = 1;

/// Contents of `assignments.json`: revisions as `NAME@REV`.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    nodes: BTreeMap<NodeId, String>,
}

/// Which node boots which revision, for nodes that do not follow their channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignments(BTreeMap<NodeId, RevisionRef>);

impl Assignments {
    /// What a node was told to boot; `None`: what its channel says.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&RevisionRef> {
        self.0.get(&node)
    }

    /// Every node that does not follow its channel.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &RevisionRef)> {
        self.0.iter().map(|(node, reference)| (*node, reference))
    }

    /// A node that was told to boot this revision.
    pub(crate) fn holder(&self, reference: &RevisionRef) -> Option<NodeId> {
        self.iter().find(|(_, r)| *r == reference).map(|(node, _)| node)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if document.version != VERSION {
            return Err(format!("it has version {}", document.version));
        }
        let read = |(node, text): (NodeId, String)| match text.parse() {
            Ok(reference) => Ok((node, reference)),
            Err(e) => Err(format!("{node}: {e}")),
        };
        document.nodes.into_iter().map(read).collect::<Result<_, String>>().map(Self)
    }
}

impl Store {
    /// Which nodes were told to boot something of their own.
    ///
    /// # Errors
    /// [`StoreError::Assignments`] when the file cannot be understood, [`StoreError::Read`].
    pub fn assignments(&self) -> Result<Assignments, StoreError> {
        let path = self.root().join(ASSIGNMENTS);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Assignments::default()),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        Assignments::parse(&bytes).map_err(|reason| StoreError::Assignments { path, reason })
    }

    /// Lets these nodes boot `reference` from their next boot on; it is seeded from now on. No channel
    /// changes. All nodes change, or none.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`], [`StoreError::NotBootable`], [`StoreError::Assignments`], the errors
    /// of writing.
    pub fn assign(&self, reference: &RevisionRef, nodes: &[NodeId]) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let manifest = self.revision(reference)?.manifest()?;
        if [ArtefactKind::Kernel, ArtefactKind::Initrd]
            .iter()
            .any(|k| manifest.artefact(*k).is_none())
        {
            return Err(StoreError::NotBootable { reference: reference.clone() });
        }
        let mut assignments = self.assignments()?;
        assignments.0.extend(nodes.iter().map(|node| (*node, reference.clone())));
        let prepared = self.prepare_assignments(&assignments)?;
        let nodes = Some(nodes.len());
        let entry = HistoryEntry { nodes, ..HistoryEntry::now(Action::Assign, Some(reference)) };
        let history = self.prepare_record(&[entry])?;
        // seeded first: the tracker must never send a node to what is not served
        if !layout::published(self.root(), reference).is_symlink() {
            self.seed(reference)?;
        }
        prepared.adopt()?;
        history.adopt()
    }

    /// Lets these nodes (`None`: all) follow their channel again; returns those that did not.
    ///
    /// # Errors
    /// [`StoreError::Assignments`], the errors of writing.
    pub fn unassign(&self, nodes: Option<&[NodeId]>) -> Result<Vec<NodeId>, StoreError> {
        let _lock = self.lock()?;
        let mut assignments = self.assignments()?;
        let meant = |node: &NodeId| nodes.is_none_or(|nodes| nodes.contains(node));
        let freed: Vec<NodeId> = assignments.0.keys().filter(|node| meant(node)).copied().collect();
        if freed.is_empty() {
            return Ok(freed);
        }
        assignments.0.retain(|node, _| !meant(node));
        let prepared = self.prepare_assignments(&assignments)?;
        let nodes = Some(freed.len());
        let entry = HistoryEntry { nodes, ..HistoryEntry::now(Action::Unassign, None) };
        let history = self.prepare_record(&[entry])?;
        prepared.adopt()?;
        history.adopt()?;
        Ok(freed)
    }

    /// Writes what is to replace the file as a whole. The caller holds the lock.
    fn prepare_assignments(&self, assignments: &Assignments) -> Result<Prepared, StoreError> {
        let path = self.root().join(ASSIGNMENTS);
        let nodes = assignments.iter().map(|(node, r)| (node, r.to_string())).collect();
        let mut bytes = serde_json::to_vec_pretty(&Document { version: VERSION, nodes })
            .map_err(|e| StoreError::Write { path: path.clone(), source: e.into() })?;
        bytes.push(b'\n');
        Prepared::new(&bytes, self.root().join(TMP).join(ASSIGNMENTS), path)
    }
}
