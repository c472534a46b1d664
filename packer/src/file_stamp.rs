//! Whether a file that is a source stays as it is while it is unpacked.
//!
//! A tar that is still being copied or downloaded, or made anew, gives a root that is neither the old nor the
//! new one, or a message about damage that sends its reader looking in the wrong place.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::PackError;

/// What a file looked like before it was opened.
#[derive(Debug)]
pub(crate) struct FileStamp {
    path: PathBuf,
    before: Look,
}

/// What tells a changed file: its change time cannot be set by anybody (inode(7)).
#[derive(Debug, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Look {
    fn of(meta: &Metadata) -> Self {
        let changed = (meta.ctime(), meta.ctime_nsec());
        Self { device: meta.dev(), inode: meta.ino(), size: meta.size(), changed }
    }
}

impl FileStamp {
    /// Looks at a file; `None` for what is no regular file: a pipe changes whenever it is written to.
    pub(crate) fn take(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok().filter(Metadata::is_file)?;
        Some(Self { path: path.to_owned(), before: Look::of(&meta) })
    }

    /// Compares with the file as it is now.
    ///
    /// # Errors
    /// [`PackError::ChangedFile`], also when another file has its name now, or none.
    pub(crate) fn compare(&self) -> Result<(), PackError> {
        match fs::metadata(&self.path) {
            Ok(meta) if Look::of(&meta) == self.before => Ok(()),
            _ => Err(PackError::ChangedFile { path: self.path.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_a_replacement_and_a_removal_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.tar");
        let append = || {
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, b"more").unwrap();
        };
        let replace = || {
            let other = dir.path().join("other");
            fs::copy(&path, &other).unwrap();
            fs::rename(other, &path).unwrap();
        };
        let remove = || fs::remove_file(&path).unwrap();
        for change in [&append as &dyn Fn(), &replace, &remove] {
            fs::write(&path, "content").unwrap();
            let stamp = FileStamp::take(&path).unwrap();
            stamp.compare().unwrap();
            change();
            let error = stamp.compare().unwrap_err().to_string();
            assert!(error.contains("root.tar") && error.contains("was changed"), "{error}");
        }
        assert!(FileStamp::take(dir.path()).is_none(), "a directory is looked at as a tree");
        assert!(FileStamp::take(Path::new("/dev/null")).is_none());
    }
}
