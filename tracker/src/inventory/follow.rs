//! Follows the file.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Format, Inventory, InventoryError, MAX_LEN};

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("cannot read the inventory {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the inventory {} is longer than {MAX_LEN} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("the inventory {} is wrong", path.display())]
    Wrong {
        path: PathBuf,
        #[source]
        source: InventoryError,
    },
}

/// A good inventory as it is kept, for a start with a wrong one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    toml: bool,
    text: String,
}

impl Stored {
    /// Reads it back; `None` when a later version no longer understands it.
    pub(crate) fn restore(bytes: &[u8]) -> Option<Inventory> {
        let stored: Self = serde_json::from_slice(bytes).ok()?;
        let format = if stored.toml { Format::Toml } else { Format::Csv };
        Inventory::parse(format, &stored.text).ok()
    }

    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }
}

/// What tells one version of a file from another without reading it.
type Stamp = (u64, u64, u64, i64, i64);

/// Notices changes of one file.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    last: Option<Stamp>,
}

impl Follower {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), last: None }
    }

    /// The inventory when the file has changed since the last call. A file that was wrong is told of
    /// once, and looked at again when it changes.
    pub(crate) fn poll(&mut self) -> Result<Option<(Inventory, Stored)>, FollowError> {
        let failed = |source| FollowError::Read { path: self.path.clone(), source };
        let meta = fs::metadata(&self.path).map_err(|source| {
            self.last = None;
            failed(source)
        })?;
        let stamp = (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        if self.last == Some(stamp) {
            return Ok(None);
        }
        let mut text = String::new();
        File::open(&self.path)
            .and_then(|file| file.take(MAX_LEN + 1).read_to_string(&mut text))
            .map_err(failed)?;
        self.last = Some(stamp);
        if text.len() as u64 > MAX_LEN {
            return Err(FollowError::TooLong { path: self.path.clone() });
        }
        let format = Format::of(&self.path);
        match Inventory::parse(format, &text) {
            Ok(inventory) => Ok(Some((inventory, Stored { toml: format == Format::Toml, text }))),
            Err(source) => Err(FollowError::Wrong { path: self.path.clone(), source }),
        }
    }
}
