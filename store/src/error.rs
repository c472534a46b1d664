//! What can go wrong in the store, each with its path and what to do about it.

use std::io;
use std::path::PathBuf;

use proto::manifest::ManifestError;
use proto::node_id::NodeId;

use crate::name::{Channel, NameError, RevisionId, RevisionName, RevisionRef};

/// A failed operation on the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no `store.json`: a wrong path, or a store nobody has made yet.
    #[error(
        "{path} is no store: it has no store.json. Give the directory that `bee-packer pack \
         --store` wrote; `bee-packer pack` makes a new one"
    )]
    NotAStore {
        /// The directory that was given.
        path: PathBuf,
    },
    /// `store.json` is not what this version reads.
    #[error("{path} is not of store format 1: {reason}. Use the Beeswarm version that wrote it")]
    Format {
        /// The `store.json`.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A directory could not be listed.
    #[error("cannot list {path}{}", hint(source))]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or link could not be read.
    #[error("cannot read {path}{}", hint(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file, link or directory could not be written.
    #[error("cannot write {path}{}", hint(source))]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Data did not reach the disk.
    #[error("cannot bring {path} safely to disk (fsync){}", hint(source))]
    Sync {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An atomic rename failed.
    #[error("cannot move {from} to {to}{}", hint(source))]
    Rename {
        /// Old path.
        from: PathBuf,
        /// New path.
        to: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something could not be removed.
    #[error("cannot remove {path}{}", hint(source))]
    Remove {
        /// What was to go.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `flock(2)` failed.
    #[error("cannot lock {path}: the store must lie on a file system with flock(2)")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No such revision.
    #[error("{reference} is not in the store; `bee-packer list` shows what is")]
    NoRevision {
        /// What was asked for.
        reference: RevisionRef,
    },
    /// No revision of that image at all.
    #[error("the store has no revision of {name:?}; `bee-packer list` shows what it has", name = name.as_str())]
    NoImage {
        /// The image.
        name: RevisionName,
    },
    /// Nothing older to roll back to.
    #[error(
        "channel {channel} has no published revision of {name} older than the one it points to; \
         `bee-packer publish {name}@REV --channel {channel}` chooses one by hand"
    )]
    NothingOlder {
        /// The image.
        name: RevisionName,
        /// The channel.
        channel: Channel,
    },
    /// A revision is what a channel boots.
    #[error(
        "{reference} is what channel {channel} boots: publish another revision there, \
         or roll it back, first"
    )]
    InUse {
        /// The revision.
        reference: RevisionRef,
        /// A channel that points to it.
        channel: Channel,
    },
    /// A revision is what a node was told to boot.
    #[error(
        "{reference} is what node {node} was told to boot: let it follow its channel again \
         (`bee-packer unassign --nodes {node}`), or reimage it with another revision, first"
    )]
    Assigned {
        /// The revision.
        reference: RevisionRef,
        /// A node that was told to boot it.
        node: NodeId,
    },
    /// A revision that no node can boot.
    #[error("{reference} has no kernel or no initrd: nodes cannot boot it. Pack it with both")]
    NotBootable {
        /// The revision.
        reference: RevisionRef,
    },
    /// `assignments.json` cannot be understood.
    #[error(
        "{path} is damaged or of a newer version ({reason}): remove it, and nodes follow their \
         channels"
    )]
    Assignments {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A link that does not lead to a revision.
    #[error("{path} leads to {target:?}, not to a revision: remove the link and publish again")]
    BadLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// `manifest.json` cannot be understood.
    #[error("{path} is damaged or of a newer version; pack the image again")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// A manifest cannot be written.
    #[error("the manifest cannot be written")]
    Encode {
        /// Why.
        source: ManifestError,
    },
    /// The manifest's image name cannot be a directory name.
    #[error("the manifest's image name is not usable")]
    ManifestName {
        /// Why.
        source: NameError,
    },
    /// A draft lacks a file that its manifest names, or it has another length.
    #[error("{path} does not fit the manifest: {reason}. Nothing was stored; pack again")]
    Artefact {
        /// The file.
        path: PathBuf,
        /// In what it differs.
        reason: String,
    },
    /// A revision of that id exists with other contents.
    #[error(
        "{path} exists and holds another manifest than its id {id} says: it was altered after \
         packing. `bee-packer verify` shows what; remove the directory and pack again"
    )]
    Altered {
        /// The revision directory.
        path: PathBuf,
        /// Its id.
        id: RevisionId,
    },
    /// A test asked for a crash here.
    #[cfg(test)]
    #[error("simulated crash")]
    Crash,
}

/// The remedy for the errors of the operating system that an admin can do something about.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": free some space (`bee-packer prune`) or use a larger disk"
        }
        io::ErrorKind::ReadOnlyFilesystem => ": remount it writable or use another --store",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            ": a file is where a directory should be; give another --store"
        }
        io::ErrorKind::PermissionDenied => ": run as the user that owns the store",
        _ => "",
    }
}
