//! What goes wrong with one member, before its path is put to it.

use std::io;

use rustix::io::Errno;

use super::error::{ArchiveError, shown};

/// A failure with one member.
#[derive(Debug)]
pub(super) enum Fault {
    /// The system refuses: what was to be done, and why not.
    Refused(&'static str, Errno),
    /// What is wrong with the path.
    Path(&'static str),
    /// A hard link to this.
    NoTarget(Vec<u8>),
    /// Its content cannot be read.
    Content(io::Error),
}

/// For `map_err`.
pub(super) fn cannot(action: &'static str) -> impl FnOnce(Errno) -> Fault {
    move |errno| Fault::Refused(action, errno)
}

impl Fault {
    /// The error about the member at `path`; `position` is how far the archive was read.
    pub(super) fn of(self, path: &[u8], position: u64) -> ArchiveError {
        let path = shown(path);
        match self {
            Self::Refused(action, errno) => {
                ArchiveError::Refused { action, path, source: errno.into() }
            }
            Self::Path(why) => ArchiveError::Path { path, why },
            Self::NoTarget(target) => ArchiveError::NoTarget { path, target: shown(&target) },
            Self::Content(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                ArchiveError::CutShort { after: format!("inside {path}"), position }
            }
            Self::Content(source) => ArchiveError::Read { source },
        }
    }
}
