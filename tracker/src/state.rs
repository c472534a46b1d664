//! State that outlives the process: nodes, their events, assignments, and how channels moved.
//!
//! It lies in one directory, `State::open`ed by one tracker at a time:
//!
//! | file | what |
//! |---|---|
//! | `state.db`, `-wal`, `-shm` | SQLite, write-ahead log |
//! | `admin-token` | what `bee-packer --token-file` shows, mode 0600 |
//! | `lock` | held while a tracker runs |
//!
//! Memory answers every question, the disk is read at the start only (and for past boots). Peers of
//! torrents are not in it: they are back with their next announce.

mod checkpoint;
mod error;
mod journal;
mod load;
mod op;
mod rollout;
mod schema;
mod secret;

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use proto::node_id::NodeId;
#[cfg(test)]
use rusqlite::Connection;

pub use error::{StateError, Trouble};
pub use journal::NotStored;
pub(crate) use journal::{Journal, Place, unix_ms};
pub(crate) use load::{EndedBoot, Loaded, LoadedEvent, PastMove};
pub(crate) use op::{AssignmentRow, Moved, NodeRow, Op, PastBoot, StageTime};
pub(crate) use rollout::RolloutRow;
pub(crate) use secret::hex;
pub use secret::{ADMIN_TOKEN, AdminToken};

const DATABASE: &str = "state.db";

/// Key of the boot tokens, in `meta`.
const BOOT_KEY: &str = "boot-key";

/// Length of that key in bytes: a block of SHA-256.
pub(crate) const KEY_LEN: usize = 64;

/// A state directory that is open.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) journal: Journal,
    pub(crate) admin: AdminToken,
    path: PathBuf,
    /// Released by the kernel when the process ends, however it ends.
    _lock: Flock<File>,
}

impl State {
    /// Opens or makes the state in `dir`, and reads all of it.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Loaded), StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(error::file("create the directory", dir))?;
        let lock = take(dir)?;
        let admin = AdminToken::of(dir)?;
        let path = dir.join(DATABASE);
        private(&path)?;
        let connection = schema::open(&path)?;
        let loaded = load::load(&connection, &path)?;
        let journal = Journal::start(connection, path.clone())?;
        Ok((Self { journal, admin, path, _lock: lock }, loaded))
    }

    /// The boot tokens' key: the stored one, else a new one, which is stored.
    pub(crate) fn boot_key(&self, loaded: &Loaded) -> Result<[u8; KEY_LEN], StateError> {
        let stored = loaded.meta.get(BOOT_KEY).and_then(|key| key.as_slice().try_into().ok());
        if let Some(key) = stored {
            return Ok(key);
        }
        let key = secret::random(&self.path)?;
        // nothing is queued yet, so there is room
        let _ = self.journal.push([Op::PutMeta { key: BOOT_KEY, value: key.to_vec() }]);
        Ok(key)
    }

    /// The past boots of a node, newest first. Reads the disk.
    pub(crate) fn past_boots(&self, node: NodeId) -> Result<Vec<EndedBoot>, StateError> {
        let connection = schema::open_to_read(&self.path)?;
        load::past_boots(&connection, node).map_err(error::database(&self.path))
    }

    /// How channels changed, newest first. Reads the disk.
    pub(crate) fn history(&self, most: u32) -> Result<Vec<PastMove>, StateError> {
        let connection = schema::open_to_read(&self.path)?;
        load::history(&connection, most).map_err(error::database(&self.path))
    }
}

/// A key for a tracker that keeps nothing.
pub(crate) fn passing_key() -> Result<[u8; KEY_LEN], StateError> {
    secret::random(Path::new("boot tokens"))
}

fn take(dir: &Path) -> Result<Flock<File>, StateError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(error::file("write", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => StateError::InUse { dir: dir.to_owned() },
        errno => error::file("lock", &path)(errno.into()),
    })
}

/// Makes the database's file readable by its owner only; SQLite's others follow it.
fn private(path: &Path) -> Result<(), StateError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error::file("create", path)(e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
