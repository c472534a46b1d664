//! `--exclude`: what is left out of the image.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::PackError;
use crate::pattern::Patterns;
use crate::tool::Place;
use crate::tree::Tree;

/// Removes from the tree at `root` what the patterns mean, a directory with all that is in it.
///
/// Really removes: so the gate, the image and everything else see one and the same tree.
///
/// # Errors
/// [`PackError::Read`], [`PackError::Write`], [`PackError::DiskFull`].
pub(crate) fn apply(
    root: &Path,
    patterns: &mut Patterns,
    place: Place<'_>,
) -> Result<(), PackError> {
    let mut left = vec![PathBuf::new()];
    while let Some(dir) = left.pop() {
        let absolute = root.join(&dir);
        let error = |source| PackError::Read { path: absolute.clone(), source };
        let mut gone = Vec::new();
        for entry in fs::read_dir(&absolute).map_err(error)? {
            let entry = entry.map_err(error)?;
            let directory = entry.file_type().map_err(error)?.is_dir();
            let path = dir.join(entry.file_name());
            if patterns.matches(path.as_os_str().as_bytes(), directory) {
                gone.push((path, directory));
            } else if directory {
                left.push(path);
            }
        }
        if !gone.is_empty() {
            remove(&absolute, &gone).map_err(|e| place.write_error(absolute.clone(), e))?;
        }
    }
    Ok(())
}

fn remove(dir: &Path, gone: &[(PathBuf, bool)]) -> io::Result<()> {
    let parent = Tree::open(dir)?.dir(Path::new(""))?.ok_or(io::ErrorKind::NotFound)?;
    parent.keeping_time(|parent| {
        for (path, directory) in gone {
            let entry = parent.entry(path.file_name().unwrap_or_default());
            if *directory {
                fs::remove_dir_all(entry)?;
            } else {
                fs::remove_file(entry)?;
            }
        }
        Ok(())
    })
}
