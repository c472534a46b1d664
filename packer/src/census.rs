//! How much there is to pack: what progress is measured by.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Census {
    /// Files, directories, links, devices, without the topmost directory.
    pub(crate) entries: u64,
    /// Bytes in regular files, those with several names once, holes included.
    pub(crate) bytes: u64,
}

/// Counts a tree, without what lies in the directories `emptied` of its top. What cannot be read is
/// left out: the packing itself will say so.
pub(crate) fn count(root: &Path, emptied: &[&str]) -> Census {
    let mut census = Census::default();
    let mut linked = HashSet::new();
    let mut folders = vec![(root.to_owned(), true)];
    while let Some((folder, is_top)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.filter_map(io::Result::ok) {
            census.entries += 1;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                if !(is_top && emptied.iter().any(|name| *entry.file_name() == **name)) {
                    folders.push((entry.path(), false));
                }
            } else if meta.is_file()
                && (meta.nlink() == 1 || linked.insert((meta.dev(), meta.ino())))
            {
                census.bytes += meta.len();
            }
        }
    }
    census
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_file_are_counted_and_its_bytes_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/tmp")).unwrap();
        fs::create_dir_all(root.join("tmp/x")).unwrap();
        fs::write(root.join("usr/a"), "12345").unwrap();
        fs::write(root.join("usr/tmp/b"), "123").unwrap();
        fs::write(root.join("tmp/x/c"), "left out").unwrap();
        fs::hard_link(root.join("usr/a"), root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("symbolic")).unwrap();
        // usr, usr/tmp, usr/a, usr/tmp/b, tmp, link, symbolic
        assert_eq!(count(root, &["tmp"]), Census { entries: 7, bytes: 8 });
    }
}
