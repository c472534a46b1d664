//! What goes wrong with the state on disk, in the words of the one who has to repair it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// The state cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory, or a small file in it.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The same, for want of permission.
    #[error(
        "cannot {action} {}: the state directory must belong to the user of bee-tracker, on a file \
         system that is not read-only",
        path.display()
    )]
    NotAllowed {
        /// What was tried.
        action: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has the directory.
    #[error(
        "the state in {} is used by another bee-tracker: stop that one, or give this one a \
         directory of its own with --state",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// A file that should hold a secret does not.
    #[error(
        "{} holds no token: remove the file, a new token is made at the next start",
        path.display()
    )]
    Secret {
        /// The file.
        path: PathBuf,
    },
    /// Not written by any bee-tracker.
    #[error("{} is the database of another program: choose another directory with --state", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error(
        "{} was written by a newer bee-tracker (schema {found}, this one knows {known}): run that \
         version, or give this one an empty directory with --state",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database does not do what it should.
    #[error("{}: {trouble}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Cause and remedy.
        trouble: Trouble,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
}

/// Kinds of trouble with a database, by what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The file is not what was written.
    #[error(
        "the database is damaged. Move it away together with its -wal and -shm and start again: nodes \
         are back with their next event, what was assigned by --token-file has to be assigned again. \
         Or save what can be read with `sqlite3 state.db .recover`"
    )]
    Damaged,
    /// No permission, or a file system that is mounted read-only.
    #[error(
        "the database cannot be written. The directory and the files in it must belong to the user \
         of bee-tracker, on a file system that is not read-only"
    )]
    ReadOnly,
    /// No room.
    #[error(
        "the database cannot grow: the file system is full. Make room there; nothing is lost meanwhile \
             but what nodes do not send again"
    )]
    Full,
    /// Somebody else is writing.
    #[error(
        "the database is locked by another program, such as a backup or a shell of sqlite3: end it"
    )]
    Locked,
    /// All else.
    #[error("the database fails: look for errors of the disk in the kernel's log")]
    Other,
}

impl Trouble {
    /// Reads SQLite's result code.
    #[must_use]
    pub fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::ReadOnly
            }
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(_) => Self::Other,
            // a row that cannot be: no other program writes here
            None => Self::Damaged,
        }
    }
}

/// Attaches the database's path to an error of SQLite.
pub(crate) fn database(path: &Path) -> impl Fn(rusqlite::Error) -> StateError + '_ {
    move |source| StateError::Database {
        path: path.to_owned(),
        trouble: Trouble::of(&source),
        source,
    }
}

/// For people: an error of SQLite with the database's path and what helps.
pub(super) fn describe(path: &Path, source: rusqlite::Error) -> String {
    crate::catalog::describe(&database(path)(source))
}

/// Attaches action and path to an error of a file.
pub(crate) fn file<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StateError + 'a {
    move |source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StateError::NotAllowed { action, path, source }
            }
            _ => StateError::File { action, path, source },
        }
    }
}
