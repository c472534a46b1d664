//! Files that came, went or changed between two trees.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::CompareError;

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Below the root, bytes that are no text replaced.
    pub path: String,
    /// Bytes before; none when it was not there.
    pub before: Option<u64>,
    /// Bytes after; none when it is gone.
    pub after: Option<u64>,
}

/// All of them, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileChanges {
    /// New paths.
    pub added: Vec<FileChange>,
    /// Paths that are gone.
    pub removed: Vec<FileChange>,
    /// Another content, kind, owner or mode. A time alone is no change.
    pub changed: Vec<FileChange>,
    /// Bytes of all files, before and after.
    pub total: [u64; 2],
}

/// Compares two trees, contents byte by byte.
pub(super) fn compare(older: &Path, newer: &Path) -> Result<FileChanges, CompareError> {
    let mut changes = FileChanges::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let (old, new) = (list(&older.join(&folder))?, list(&newer.join(&folder))?);
        let mut names: Vec<_> = old.iter().chain(&new).map(|entry| entry.0.clone()).collect();
        names.sort();
        names.dedup();
        let find = |all: &[Entry], name: &std::ffi::OsStr| {
            all.binary_search_by(|entry| entry.0.as_os_str().cmp(name))
                .ok()
                .map(|at| all[at].1.clone())
        };
        for name in names {
            let relative = folder.join(&name);
            let (before, after) = (find(&old, &name), find(&new, &name));
            if [&before, &after].iter().any(|meta| meta.as_ref().is_some_and(Metadata::is_dir)) {
                folders.push(relative.clone());
            }
            let bytes = [size(before.as_ref()), size(after.as_ref())];
            for (total, bytes) in changes.total.iter_mut().zip(bytes) {
                *total += bytes.unwrap_or_default();
            }
            let change = FileChange {
                path: relative.to_string_lossy().into_owned(),
                before: bytes[0],
                after: bytes[1],
            };
            match (before, after) {
                (Some(before), Some(after)) => {
                    let paths = [older.join(&relative), newer.join(&relative)];
                    if differ(&before, &after, &paths)? {
                        changes.changed.push(change);
                    }
                }
                (None, _) => changes.added.push(change),
                (_, None) => changes.removed.push(change),
            }
        }
    }
    for list in [&mut changes.added, &mut changes.removed, &mut changes.changed] {
        list.sort_by(|a, b| a.path.cmp(&b.path));
    }
    Ok(changes)
}

type Entry = (std::ffi::OsString, Metadata);

/// Names and metadata in order of names; none of what is no directory in this tree.
fn list(dir: &Path) -> Result<Vec<Entry>, CompareError> {
    let error = |source| CompareError::Read { path: dir.to_owned(), source };
    match dir.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Ok(Vec::new()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(error(e)),
    }
    let read = || -> io::Result<Vec<Entry>> {
        fs::read_dir(dir)?
            .map(|entry| {
                let entry = entry?;
                Ok((entry.file_name(), entry.metadata()?))
            })
            .collect()
    };
    let mut entries = read().map_err(error)?;
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// Bytes of a file; 0 of anything else that is there.
fn size(meta: Option<&Metadata>) -> Option<u64> {
    meta.map(|meta| if meta.is_file() { meta.len() } else { 0 })
}

fn differ(a: &Metadata, b: &Metadata, paths: &[PathBuf; 2]) -> Result<bool, CompareError> {
    // the kind is part of the mode
    if (a.mode(), a.uid(), a.gid()) != (b.mode(), b.uid(), b.gid()) {
        return Ok(true);
    }
    let kind = a.file_type();
    if kind.is_file() {
        return Ok(a.len() != b.len() || contents_differ(paths)?);
    }
    if kind.is_symlink() {
        let read = |path: &PathBuf| {
            fs::read_link(path).map_err(|source| CompareError::Read { path: path.clone(), source })
        };
        return Ok(read(&paths[0])? != read(&paths[1])?);
    }
    let is_device = kind.is_block_device() || kind.is_char_device();
    Ok(is_device && a.rdev() != b.rdev())
}

/// Two files of one length.
fn contents_differ(paths: &[PathBuf; 2]) -> Result<bool, CompareError> {
    let error = |path: &PathBuf| {
        let path = path.clone();
        move |source| CompareError::Read { path, source }
    };
    let [mut a, mut b] = [
        File::open(&paths[0]).map_err(error(&paths[0]))?,
        File::open(&paths[1]).map_err(error(&paths[1]))?,
    ];
    let (mut one, mut two) = (Vec::new(), Vec::new());
    loop {
        for (file, buffer, path) in [(&mut a, &mut one, &paths[0]), (&mut b, &mut two, &paths[1])] {
            buffer.clear();
            file.take(1 << 18).read_to_end(buffer).map_err(error(path))?;
        }
        if one != two {
            return Ok(true);
        }
        if one.is_empty() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn each_kind_of_change_is_seen_and_a_time_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for root in [&a, &b] {
            fs::create_dir_all(root.join("usr/bin")).unwrap();
            fs::write(root.join("usr/bin/same"), vec![1; 300_000]).unwrap();
            fs::write(root.join("usr/bin/mode"), "x").unwrap();
            fs::write(root.join("usr/bin/touched"), "x").unwrap();
        }
        fs::File::open(b.join("usr/bin/touched"))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        fs::set_permissions(b.join("usr/bin/mode"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut late = vec![1; 300_000];
        fs::write(a.join("late"), &late).unwrap();
        late[299_999] = 2;
        fs::write(b.join("late"), &late).unwrap();
        fs::write(a.join("gone"), "12345").unwrap();
        fs::create_dir_all(b.join("new/deep")).unwrap();
        fs::write(b.join("new/deep/file"), "123").unwrap();
        // a file that became a directory
        fs::write(a.join("kind"), "12").unwrap();
        fs::create_dir(b.join("kind")).unwrap();
        fs::write(b.join("kind/inside"), "1").unwrap();
        symlink("one", a.join("link")).unwrap();
        symlink("two", b.join("link")).unwrap();

        let found = compare(&a, &b).unwrap();
        let paths = |list: &[FileChange]| -> Vec<String> {
            list.iter().map(|change| change.path.clone()).collect()
        };
        assert_eq!(paths(&found.added), ["kind/inside", "new", "new/deep", "new/deep/file"]);
        assert_eq!(paths(&found.removed), ["gone"]);
        assert_eq!(paths(&found.changed), ["kind", "late", "link", "usr/bin/mode"]);
        assert_eq!(found.removed[0].before, Some(5));
        assert_eq!(found.total, [600_009, 600_006]);
        assert_eq!(compare(&a, &a).unwrap().changed, []);
    }
}
