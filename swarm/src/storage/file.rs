//! A storage in one file, with its space looked for before the first byte and then reserved.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::Storage;

/// Bytes of a file in memory that are reserved at a time. From Linux 6.14 on a tmpfs with huge pages
/// makes them one folio: larger ones would be cleared at their first block, all in the first second
/// of a fetch, and smaller ones cost more to write and to read. 1 GB takes 50 ms.
const STEP: u64 = 64 * 1024;

/// Before the first step: a node that starts has its connections to make. Blocks that come earlier
/// find their pages themselves.
const FIRST_STEP: Duration = Duration::from_secs(1);

/// A file of fixed length.
#[derive(Debug)]
pub struct FileStorage {
    file: Arc<File>,
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
    /// In memory that is done a second later, while the image already comes in. Should others take the
    /// room meanwhile, a write fails.
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
        let storage = make_room(path, &file, length)
            .and_then(|()| Self::inspect(path, file, Some(length)))
            .and_then(|storage| storage.reserve(path).map(|()| storage));
        if storage.is_err() && !existed {
            // the error is what counts
            let _ = std::fs::remove_file(path);
        }
        storage
    }

    fn reserve(&self, path: &Path) -> Result<(), FileStorageError> {
        if !self.in_memory {
            return allocate(path, &self.file, 0, self.length);
        }
        let (file, path, length) = (Arc::downgrade(&self.file), path.to_path_buf(), self.length);
        let rest = move || reserve_slowly(&path, &file, length);
        // without a thread each page is found when it is written
        let _ = std::thread::Builder::new().name("reserve".to_owned()).spawn(rest);
        Ok(())
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
        Ok(Self { file: Arc::new(file), length, in_memory })
    }
}

/// Gives the file its length, when the file system has room for it: one that is too small is not
/// filled to find that out.
fn make_room(path: &Path, file: &File, length: u64) -> Result<(), FileStorageError> {
    let (needed, available) = room(path, file, length)?;
    if needed > available {
        return Err(FileStorageError::NoSpace { path: path.into(), needed, available });
    }
    let failed = |source| FileStorageError::Allocate { path: path.into(), length, source };
    file.set_len(length).map_err(failed)
}

/// Bytes that a file of `length` still needs, and bytes that there are.
fn room(path: &Path, file: &File, length: u64) -> Result<(u64, u64), FileStorageError> {
    let failed = |source| FileStorageError::Inspect { path: path.into(), source };
    let allocated = file.metadata().map_err(failed)?.blocks().saturating_mul(512);
    let fs = fstatfs(file).map_err(|e| failed(e.into()))?;
    let block = u64::try_from(fs.block_size()).unwrap_or(512);
    Ok((length.saturating_sub(allocated), fs.blocks_available().saturating_mul(block)))
}

/// Reserves `length` bytes from `offset` on.
fn allocate(path: &Path, file: &File, offset: u64, length: u64) -> Result<(), FileStorageError> {
    let failed = |source| FileStorageError::Allocate { path: path.into(), length, source };
    let signed = |n: u64| i64::try_from(n).map_err(|e| failed(io::Error::other(e)));
    if length == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), signed(offset)?, signed(length)?) {
        // file systems without fallocate: the write will tell
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(Errno::ENOSPC) => {
            let (needed, available) = room(path, file, offset + length)?;
            Err(FileStorageError::NoSpace { path: path.into(), needed, available })
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Reserves step by step, until the file is not used any more.
fn reserve_slowly(path: &Path, file: &Weak<File>, length: u64) {
    std::thread::sleep(FIRST_STEP);
    let mut offset = 0;
    while offset < length {
        let Some(file) = file.upgrade() else { return };
        let step = STEP.min(length - offset);
        if let Err(error) = allocate(path, &file, offset, step) {
            crate::log::warn!(%error, "the rest of the image may find no room");
            return;
        }
        offset += step;
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
    fn a_file_in_memory_is_reserved_in_the_background() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("image");
        let length = 33 * STEP / 2;
        let storage = FileStorage::create(&path, length).unwrap();
        assert!(storage.in_memory());
        storage.write_at(length - 4, b"kept").unwrap();
        let whole = length.div_ceil(4096) * 8;
        let begun = std::time::Instant::now();
        while std::fs::metadata(&path).unwrap().blocks() < whole {
            assert!(begun.elapsed().as_secs() < 30, "still not reserved");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let mut buf = [0; 4];
        storage.read_at(length - 4, &mut buf).unwrap();
        assert_eq!(&buf, b"kept");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = FileStorage::open("/nonexistent/image").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/image"));
    }
}
