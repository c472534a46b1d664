//! A storage in one file, preallocated so that a full disk is found before the first byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::Storage;

/// A file of fixed length.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    length: u64,
    in_memory: bool,
}

/// Why a file cannot serve as storage.
#[derive(Debug, thiserror::Error)]
pub enum FileStorageError {
    /// It cannot be opened or created.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The file system is too small.
    #[error(
        "no room for {}: {needed} bytes are needed, {available} are available; free some space or use a larger file system",
        path.display()
    )]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Bytes that must still be allocated.
        needed: u64,
        /// Bytes the file system has left.
        available: u64,
    },
    /// Its space cannot be reserved for another reason.
    #[error("cannot reserve {length} bytes for {}", path.display())]
    Allocate {
        /// The file.
        path: PathBuf,
        /// Length asked for.
        length: u64,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// Its length or file system cannot be read.
    #[error("cannot inspect {}", path.display())]
    Inspect {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
}

impl FileStorage {
    /// Opens or creates a file for reading and writing and reserves `length` bytes for it. What is
    /// in it stays; what is beyond `length` is cut off.
    ///
    /// # Errors
    /// [`FileStorageError::NoSpace`] when the file system cannot hold it; nothing is left behind
    /// that was not there before.
    pub fn create(path: impl AsRef<Path>, length: u64) -> Result<Self, FileStorageError> {
        let path = path.as_ref();
        let existed = path.exists();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|source| FileStorageError::Open { path: path.into(), source })?;
        let reserved = reserve(path, &file, length);
        if reserved.is_err() && !existed {
            // the error is what counts
            let _ = std::fs::remove_file(path);
        }
        reserved?;
        Self::inspect(path, file, Some(length))
    }

    /// Opens an existing file for reading and writing, with the length it has.
    ///
    /// # Errors
    /// [`FileStorageError`] with the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileStorageError> {
        Self::open_with(path.as_ref(), true)
    }

    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// [`FileStorageError`] with the path.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, FileStorageError> {
        Self::open_with(path.as_ref(), false)
    }

    fn open_with(path: &Path, write: bool) -> Result<Self, FileStorageError> {
        let file = File::options()
            .read(true)
            .write(write)
            .open(path)
            .map_err(|source| FileStorageError::Open { path: path.into(), source })?;
        Self::inspect(path, file, None)
    }

    fn inspect(path: &Path, file: File, length: Option<u64>) -> Result<Self, FileStorageError> {
        let error = |source| FileStorageError::Inspect { path: path.into(), source };
        let length = match length {
            Some(length) => length,
            None => file.metadata().map_err(error)?.len(),
        };
        let in_memory =
            fstatfs(&file).map_err(|e| error(e.into()))?.filesystem_type() == TMPFS_MAGIC;
        Ok(Self { file, length, in_memory })
    }
}

fn reserve(path: &Path, file: &File, length: u64) -> Result<(), FileStorageError> {
    let failed = |source| FileStorageError::Allocate { path: path.into(), length, source };
    let signed = i64::try_from(length).map_err(|e| failed(io::Error::other(e)))?;
    let room = |file: &File| {
        let allocated = file.metadata().map_err(failed)?.blocks().saturating_mul(512);
        let fs = fstatfs(file).map_err(|e| failed(e.into()))?;
        let block = u64::try_from(fs.block_size()).unwrap_or(512);
        let (needed, available) =
            (length.saturating_sub(allocated), fs.blocks_available().saturating_mul(block));
        Ok((needed, available))
    };
    let no_space =
        |needed, available| FileStorageError::NoSpace { path: path.into(), needed, available };
    // asked first: a file system that is too small is not filled to find that out
    let (needed, available) = room(file)?;
    if needed > available {
        return Err(no_space(needed, available));
    }
    file.set_len(length).map_err(failed)?;
    if length == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, signed) {
        // file systems without fallocate: the write will tell
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(Errno::ENOSPC) => {
            let (needed, available) = room(file)?;
            Err(no_space(needed, available))
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

impl Storage for FileStorage {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn in_memory(&self) -> bool {
        self.in_memory
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_with_its_length_and_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let storage = FileStorage::create(&path, 100_000).unwrap();
        storage.write_at(70_000, b"kept").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 100_000);
        let again = FileStorage::create(&path, 100_000).unwrap();
        let mut buf = [0; 4];
        again.read_at(70_000, &mut buf).unwrap();
        assert_eq!(&buf, b"kept");
        assert_eq!(FileStorage::open_read_only(&path).unwrap().len(), 100_000);
        assert!(FileStorage::open_read_only(&path).unwrap().write_at(0, b"x").is_err());
    }

    #[test]
    fn a_cut_file_is_an_unexpected_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, [1; 1000]).unwrap();
        let storage = FileStorage::open(&path).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(500).unwrap();
        let error = storage.read_at(400, &mut [0; 200]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_full_file_system_is_named_with_numbers_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        // more than any machine has
        let error = FileStorage::create(&path, 1 << 60).unwrap_err();
        let FileStorageError::NoSpace { needed, available, .. } = &error else { panic!("{error}") };
        assert_eq!(*needed, 1 << 60);
        assert!(available < needed);
        assert!(error.to_string().contains("bytes are needed"));
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = FileStorage::open("/nonexistent/image").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/image"));
    }
}
