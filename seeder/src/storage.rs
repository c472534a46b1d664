//! A storage that leaves nothing in the page cache: for block devices.

use std::io;

use swarm::storage::Storage;
use sys::direct::DirectReader;

/// The first bytes of a file or device, read with direct I/O. It cannot be written.
#[derive(Debug)]
pub struct DirectStorage {
    reader: DirectReader,
    len: u64,
}

impl DirectStorage {
    /// The first `len` bytes of what `reader` reads; a device may be larger than the image on it.
    pub fn new(reader: DirectReader, len: u64) -> Self {
        let len = len.min(reader.len());
        Self { reader, len }
    }
}

impl Storage for DirectStorage {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.reader.read_exact_at(offset, buf)
    }

    fn write_at(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "this storage is only read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_where_the_image_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device");
        std::fs::write(&path, [7; 8192]).unwrap();
        let storage = DirectStorage::new(DirectReader::open(&path).unwrap(), 5000);
        assert_eq!(storage.len(), 5000);
        let mut buf = [0; 10];
        storage.read_at(4990, &mut buf).unwrap();
        assert_eq!(buf, [7; 10]);
        assert!(storage.read_at(4991, &mut buf).is_err());
        assert!(storage.read_at(u64::MAX, &mut buf).is_err());
        assert!(storage.write_at(0, &buf).is_err());
    }
}
