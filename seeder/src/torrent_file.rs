//! Reading a torrent file from disk.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use proto::metainfo::{MAX_TORRENT_LEN, Metainfo, MetainfoError};
use thiserror::Error;

/// A torrent file is not usable.
#[derive(Debug, Error)]
pub enum TorrentFileError {
    /// It cannot be read.
    #[error("cannot read the torrent {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// It is not valid.
    #[error("the torrent {} is not usable; pack the image again or copy the file again", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: MetainfoError,
    },
}

/// Reads and parses the torrent at `path`; also gives its bytes.
///
/// # Errors
/// [`TorrentFileError`].
pub fn read(path: &Path) -> Result<(Metainfo, Vec<u8>), TorrentFileError> {
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the parser refuses what is too large.
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_TORRENT_LEN as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| TorrentFileError::Read { path: path.into(), source: e })?;
    let metainfo = Metainfo::parse(&bytes)
        .map_err(|e| TorrentFileError::Parse { path: path.into(), source: e })?;
    Ok((metainfo, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.torrent");
        for bytes in [b"".as_slice(), b"<html>", b"d4:infod6:lengthi5eee", &[0; 100]] {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.to_string().contains("bad.torrent"), "{error}");
            assert!(matches!(error, TorrentFileError::Parse { .. }));
        }
        let error = read(&dir.path().join("none")).unwrap_err();
        assert!(matches!(error, TorrentFileError::Read { .. }));
    }
}
