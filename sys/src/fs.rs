//! Files that are whole or not there: space taken first, renamed last, on disk before it counts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::statvfs;
use thiserror::Error;

/// A file-system operation failed.
#[derive(Debug, Error)]
pub enum FsError {
    /// There is not enough room.
    #[error("no room for {wanted} bytes in {}: {free} bytes are free there", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes free on its file system.
        free: u64,
    },
    /// Anything else.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FsError {
    move |source| FsError::Io { action, path: path.into(), source }
}

/// Takes `len` bytes of space for `file`, so that a full disk is noticed before the work and not
/// in the middle of it. `path` is named in errors. A file system that cannot reserve space gets a
/// sparse file of that length.
///
/// # Errors
/// [`FsError::NoSpace`], [`FsError::Io`].
pub fn preallocate(file: &File, len: u64, path: &Path) -> Result<(), FsError> {
    if len == 0 {
        return Ok(());
    }
    let signed = i64::try_from(len)
        .map_err(|_| failed("preallocate", path)(io::Error::from(Errno::EFBIG)))?;
    match fallocate(file.as_fd(), FallocateFlags::empty(), 0, signed) {
        Ok(()) => Ok(()),
        Err(Errno::ENOSPC) => {
            Err(FsError::NoSpace { path: path.into(), wanted: len, free: free_bytes(path)? })
        }
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            file.set_len(len).map_err(failed("set the length of", path))
        }
        Err(e) => Err(failed("preallocate", path)(e.into())),
    }
}

/// Bytes that an unprivileged user can still write on the file system that holds `path`.
///
/// # Errors
/// [`FsError::Io`].
pub fn free_bytes(path: &Path) -> Result<u64, FsError> {
    let stat = statvfs(path).map_err(|e| failed("examine the file system of", path)(e.into()))?;
    #[expect(clippy::useless_conversion, reason = "both are 32 bits wide on some targets")]
    Ok(u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size())))
}

/// Brings a directory's entries to disk: a new or renamed file survives a power cut after this.
///
/// # Errors
/// [`FsError::Io`].
pub fn sync_dir(dir: &Path) -> Result<(), FsError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

/// Renames within a file system and brings the new name to disk.
///
/// # Errors
/// [`FsError::Io`].
pub fn rename_durably(from: &Path, to: &Path) -> Result<(), FsError> {
    std::fs::rename(from, to).map_err(failed("rename to", to))?;
    to.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
}

/// Replaces the file at `path` by `bytes`: readers see the old one or the new one, also after a
/// power cut. Leaves a `.new` beside it only when the machine dies in between.
///
/// # Errors
/// [`FsError::Io`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(failed("write", &temporary));
    let done = written.and_then(|()| rename_durably(&temporary, path));
    if done.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    done
}

/// A file that is nowhere but in memory; it goes with its last descriptor. `name` shows in `/proc`.
///
/// # Errors
/// What the system call says: too many descriptors, no memory.
pub fn memory_file(name: &str) -> io::Result<File> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{TmpfsOptions, tmpfs, unmount};

    #[test]
    fn full_file_system_is_noticed_first() {
        let dir = tempfile::tempdir().unwrap();
        let options = TmpfsOptions {
            size: Some(1 << 20),
            mode: 0o755,
            interleave: false,
            huge: false,
            data_only: true,
        };
        tmpfs(dir.path(), &options).expect("mounting needs root");
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        let fits = preallocate(&file, 512 << 10, &path);
        let len = file.metadata().unwrap().len();
        let other = dir.path().join("other");
        let too_much = preallocate(&File::create(&other).unwrap(), 4 << 20, &other);
        let free = free_bytes(dir.path()).unwrap();
        drop(file);
        unmount(dir.path(), false).unwrap();
        fits.unwrap();
        assert_eq!(len, 512 << 10);
        assert!(
            matches!(too_much, Err(FsError::NoSpace { wanted: 4_194_304, .. })),
            "{too_much:?}"
        );
        assert!(free <= 512 << 10, "{free}");
    }

    #[test]
    fn replacing_leaves_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        for bytes in [b"first".as_slice(), b"second"] {
            write_atomically(&path, bytes).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write_atomically(&dir.path().join("no/dir"), b"x").unwrap_err();
        assert!(error.to_string().contains("no/dir"), "{error}");
    }
}
