//! The revision store: layout on disk, reading, publishing, pruning.
//!
//! Packer, tracker and seeder all read this directory; this crate is the only place that knows
//! its layout (see "The store" in ARCHITECTURE.md).
//!
//! What holds at every moment, also after `kill -9` or a power cut between any two system calls:
//!
//! - a directory under `revisions/` is complete and never changes again, but for the signature of
//!   its manifest, which is replaced as a whole;
//! - a link under `published/` or `channels/` points to such a directory;
//! - what is half-written lies under `tmp/`, and the next [`Store::begin`] removes it.
//!
//! Writers exclude each other with `flock(2)` on `tmp/.lock`, held for a few system calls only;
//! a [`Draft`] holds a lock of its own for as long as its packer lives. Readers take no lock.

mod assign;
mod crash;
mod draft;
mod durable;
mod error;
mod fingerprint;
mod history;
mod layout;
mod name;
mod prune;
mod publish;
mod revision;
mod root;
#[cfg(test)]
mod tests;

pub use assign::Assignments;
pub use draft::{Committed, Draft};
pub use error::StoreError;
pub use fingerprint::Fingerprint;
pub use history::{Action, HistoryEntry};
pub use name::{Channel, NameError, RevisionId, RevisionName, RevisionRef};
pub use prune::{Nodes, Pruned, Use};
pub use publish::Published;
pub use revision::RevisionDir;
pub use root::{Listed, Store};
