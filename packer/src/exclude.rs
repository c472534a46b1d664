//! `--exclude`: what is left out of the image.
//!
//! It is really removed from the tree that is packed: so the gate, the image and everything else see
//! one and the same.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::PackError;
use crate::pattern::Patterns;
use crate::tree::Dir;

/// What the patterns mean in the tree at `root`: relative paths, of a directory only its own. What is in
/// `kept`, with the directories above, is not meant.
///
/// # Errors
/// [`PackError::Read`].
pub(crate) fn find(
    root: &Path,
    patterns: &mut Patterns,
    kept: &HashSet<PathBuf>,
) -> Result<Vec<PathBuf>, PackError> {
    let mut found = Vec::new();
    // with whether the directory itself is meant
    let mut left = vec![(PathBuf::new(), false)];
    while let Some((dir, meant)) = left.pop() {
        let absolute = root.join(&dir);
        let error = |source| PackError::Read { path: absolute.clone(), source };
        for entry in fs::read_dir(&absolute).map_err(error)? {
            let entry = entry.map_err(error)?;
            let directory = entry.file_type().map_err(error)?.is_dir();
            let path = dir.join(entry.file_name());
            let meant = patterns.matches(path.as_os_str().as_bytes(), directory) || meant;
            if meant && !kept.contains(&path) {
                found.push(path);
            } else if directory {
                left.push((path, meant));
            }
        }
    }
    Ok(found)
}

/// Removes `path`, if it is there, from the tree at `root`, a directory with all that is in it.
///
/// # Errors
/// Those of removing.
pub(crate) fn remove(root: &Path, path: &Path) -> io::Result<()> {
    let absolute = root.join(path);
    let meta = match fs::symlink_metadata(&absolute) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    Dir::open(absolute.parent().unwrap_or(root))?.keeping_time(|_| match meta.is_dir() {
        true => fs::remove_dir_all(&absolute),
        false => fs::remove_file(&absolute),
    })
}
