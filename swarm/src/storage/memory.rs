//! A storage in memory: for tests, and for images that never touch a file system.

use std::io;
use std::sync::{PoisonError, RwLock};

use super::Storage;

/// Bytes in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    bytes: RwLock<Vec<u8>>,
}

impl MemoryStorage {
    /// `length` zero bytes.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        Self::from(vec![0; length])
    }

    /// A copy of all bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Vec<u8>> for MemoryStorage {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: RwLock::new(bytes) }
    }
}

fn range(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    Ok(start..start.saturating_add(length))
}

impl Storage for MemoryStorage {
    fn len(&self) -> u64 {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let source = bytes.get(range(offset, buf.len())?).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(source);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        let target = bytes.get_mut(range(offset, data.len())?).ok_or(io::ErrorKind::WriteZero)?;
        target.copy_from_slice(data);
        Ok(())
    }

    fn in_memory(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_written_and_stays_in_bounds() {
        let storage = MemoryStorage::zeroed(10);
        storage.write_at(6, &[1, 2, 3]).unwrap();
        let mut buf = [9; 4];
        storage.read_at(5, &mut buf).unwrap();
        assert_eq!(buf, [0, 1, 2, 3]);
        assert_eq!(storage.read_at(7, &mut buf).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(storage.write_at(8, &[0; 3]).is_err());
        assert!(storage.read_at(u64::MAX, &mut buf).is_err());
    }
}
