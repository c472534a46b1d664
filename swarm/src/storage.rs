//! Where the bytes of an image lie.
//!
//! A storage has a fixed length and is read and written at positions, from several threads at once.
//! The engine writes verified pieces only, so there is nothing to roll back.

mod file;
mod memory;

use std::fs::File;
use std::io;

pub use file::{FileStorage, FileStorageError};
pub use memory::MemoryStorage;

/// Positional access to the bytes of one image.
pub trait Storage: Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether it holds no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the storage ends first, or what the system reports.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// What the system reports.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Whether reading and writing is copying in memory (tmpfs): then it is done where it is needed
    /// instead of on a thread for blocking work, and block by block instead of by whole pieces.
    fn in_memory(&self) -> bool {
        false
    }

    /// The file that holds the bytes, at the same positions, when the kernel may send it to a socket
    /// by itself (sendfile(2)). Without one, what is sent is read first.
    fn file(&self) -> Option<&File> {
        None
    }
}
