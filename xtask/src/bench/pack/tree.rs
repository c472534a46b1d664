//! Roots for the benchmark: one as large as wanted, as compressible as the one it is made of.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use anyhow::Context as _;

/// Regular files, and their bytes.
pub(super) fn count(root: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            let (more_files, more_bytes) = count(&entry.path())?;
            (files, bytes) = (files + more_files, bytes + more_bytes);
        } else if meta.is_file() {
            (files, bytes) = (files + 1, bytes + meta.len());
        }
    }
    Ok((files, bytes))
}

/// Makes a root of at least `wanted` bytes at `to`: `usr/copy-N/` are copies of `from`. In each copy
/// every byte is replaced by another, always by the same: compressors find as much as before, and
/// no copy has a file of another copy, which mksquashfs would store only once.
pub(super) fn enlarge(from: &Path, to: &Path, wanted: u64) -> anyhow::Result<()> {
    let mut bytes = 0;
    for number in 0u8..=250 {
        let folder = to.join(format!("usr/copy-{number}"));
        fs::create_dir_all(&folder)?;
        bytes += copy(from, &folder, number, wanted - bytes)?;
        if bytes >= wanted {
            return Ok(());
        }
    }
    anyhow::bail!("{} is too small to make {wanted} bytes of it", from.display())
}

/// Copies at most about `most` bytes; returns how many it were.
fn copy(from: &Path, to: &Path, number: u8, most: u64) -> anyhow::Result<u64> {
    let mut entries = fs::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut bytes = 0;
    for entry in entries {
        let (meta, target) = (entry.metadata()?, to.join(entry.file_name()));
        if meta.is_dir() {
            fs::create_dir(&target)?;
            bytes += copy(&entry.path(), &target, number, most.saturating_sub(bytes))?;
        } else if meta.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
        } else if meta.is_file() && bytes < most && meta.blocks() > 0 {
            let mut content = fs::read(entry.path())?;
            // odd, so that two bytes never become one
            let factor = number.wrapping_mul(2).wrapping_add(1);
            for byte in &mut content {
                *byte = byte.wrapping_mul(factor).wrapping_add(number);
            }
            bytes += content.len() as u64;
            fs::write(&target, content)?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_large_root_has_the_size_and_no_file_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("etc/deep")).unwrap();
        fs::write(from.join("etc/deep/file"), b"abcabcabc".repeat(50)).unwrap();
        fs::write(from.join("etc/other"), vec![7; 1000]).unwrap();
        symlink("other", from.join("etc/link")).unwrap();
        enlarge(&from, &to, 10_000).unwrap();
        let (files, bytes) = count(&to).unwrap();
        assert!((10_000..11_000).contains(&bytes), "{bytes}");
        assert_eq!(fs::read_link(to.join("usr/copy-3/etc/link")).unwrap(), Path::new("other"));
        let contents: HashSet<Vec<u8>> = (0..files / 2)
            .map(|number| fs::read(to.join(format!("usr/copy-{number}/etc/deep/file"))).unwrap())
            .collect();
        assert_eq!(contents.len() as u64, files / 2);
        assert!(contents.iter().all(|content| content[..3] == content[3..6]));
    }
}
