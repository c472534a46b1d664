//! What lies in a folder, in order.

use std::path::{Path, PathBuf};

/// The paths of all entries of `folder`, by name; none when it cannot be read.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // a few files: a sort of the standard library would be larger than all that reads them
        let path = entry.path();
        let at = paths.partition_point(|other| other.as_os_str() < path.as_os_str());
        paths.insert(at, path);
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(entries(&dir.path().join("none")), Vec::<PathBuf>::new());
        for name in ["b", "a10", "c", "a9"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names = ["a10", "a9", "b", "c"].map(|name| dir.path().join(name));
        assert_eq!(entries(dir.path()), names);
    }
}
