//! Why an archive cannot be unpacked.

use std::io;

use rustix::io::Errno;
use tar_core::parse::ParseError;

/// What is wrong with an archive, or with where it is unpacked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// A header that is none.
    #[error("the archive is damaged at byte {position}: {reason}")]
    Damaged {
        /// Position in the archive, uncompressed.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The archive ends too early.
    #[error("the archive is cut short: it ends {after}, at byte {position}. Copy it again")]
    CutShort {
        /// Where it ends, in words.
        after: String,
        /// Position in the archive, uncompressed.
        position: u64,
    },
    /// The archive cannot be read.
    #[error("cannot read the archive")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// A program that takes the compression away failed.
    #[error("{program} says: {message}. The file is damaged or cut short: copy it again")]
    Compressed {
        /// `gzip`, `zstd`, …
        program: &'static str,
        /// Its message.
        message: String,
    },
    /// A path that no archive may hold.
    #[error("the archive holds {path}, {why}. Leave it out when the archive is made")]
    Path {
        /// As it is in the archive, with escapes.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something that is not known here.
    #[error("the archive holds {path}, {what}: make it with another program, such as GNU tar")]
    Unknown {
        /// As it is in the archive, with escapes.
        path: String,
        /// What it is.
        what: String,
    },
    /// A hard link to what is not there.
    #[error("the archive holds the hard link {path} to {target}, which is not in it before")]
    NoTarget {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
    },
    /// The disk or the system refuses.
    #[error("cannot {action} {path} of the archive{}", remedy(source))]
    Refused {
        /// "create", "write", …
        action: &'static str,
        /// As it is in the archive, with escapes.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// What to do when the system says no.
fn remedy(error: &io::Error) -> &'static str {
    if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) {
        return " (openat2 is missing: Linux 5.6 or newer is needed, and a sandbox must allow it)";
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            " (owners, device nodes and capabilities need root: run it with sudo, outside of a \
             container)"
        }
        io::ErrorKind::Unsupported => {
            " (the disk of the store cannot hold it: use one with ext4, xfs or btrfs)"
        }
        io::ErrorKind::InvalidFilename => " (a name has more than 255 bytes, or a path 4095)",
        _ => "",
    }
}

impl ArchiveError {
    /// What a parser found.
    pub(super) fn syntax(position: u64, error: &ParseError) -> Self {
        let reason = match error {
            ParseError::PathTooLong { len, limit } => {
                format!(
                    "a path of {len} bytes; Linux takes {limit}. Leave it out when you make the archive"
                )
            }
            other => other.to_string(),
        };
        Self::Damaged { position, reason }
    }

    /// Whether the disk is full.
    pub(crate) fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Refused { source, .. } if full.contains(&source.kind()))
    }
}

/// A path of an archive, for messages: every byte is visible.
pub(crate) fn shown(path: &[u8]) -> String {
    const LONGEST: usize = 200;
    match path.get(..LONGEST) {
        Some(start) if path.len() > LONGEST => format!("\"{}…\"", start.escape_ascii()),
        _ => format!("\"{}\"", path.escape_ascii()),
    }
}
