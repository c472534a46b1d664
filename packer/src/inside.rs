//! Paths inside a root tree, which must not lead out of it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::PackError;

/// `root/relative` with every link resolved; `None` when it does not exist.
///
/// # Errors
/// [`PackError::Escapes`] when a link leads out of the root: an absolute link in an unpacked
/// system points to the host's files.
pub(crate) fn resolve(root: &Path, relative: &str) -> Result<Option<PathBuf>, PackError> {
    let path = root.join(relative);
    let Ok(real) = fs::canonicalize(&path) else { return Ok(None) };
    let real_root = fs::canonicalize(root)
        .map_err(|source| PackError::Source { path: root.to_owned(), source })?;
    if real.starts_with(&real_root) {
        Ok(Some(real))
    } else {
        Err(PackError::Escapes { path, target: real })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_may_lead_around_but_not_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("usr/lib/modules")).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/usr", root.join("absolute")).unwrap();
        symlink("../..", root.join("up")).unwrap();
        let found = resolve(&root, "lib/modules").unwrap();
        assert_eq!(found, Some(root.join("usr/lib/modules")));
        assert_eq!(resolve(&root, "lib/nothing").unwrap(), None);
        for bad in ["absolute", "up"] {
            assert!(matches!(resolve(&root, bad), Err(PackError::Escapes { .. })), "{bad}");
        }
    }
}
