//! SHA-256 of a file, in one pass and constant memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use proto::hash::Sha256Stream;
use proto::manifest::{Artefact, Digest};

use crate::error::PackError;

/// Length and digest of the file at `path`.
///
/// # Errors
/// Those of reading.
pub(crate) fn artefact(path: &Path) -> io::Result<Artefact> {
    let mut file = File::open(path)?;
    let mut digest = Sha256Stream::default();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Artefact { length, digest: Digest::Sha256(digest.finish()) });
        }
        digest.update(&buffer[..count]);
        length += count as u64;
    }
}

/// The same of a file of a revision.
///
/// # Errors
/// [`PackError::Read`].
pub(crate) fn of_part(path: &Path) -> Result<Artefact, PackError> {
    artefact(path).map_err(|source| PackError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use proto::hash::Sha256Digest;

    use super::*;

    #[test]
    fn a_file_has_the_digest_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        std::fs::write(&path, &bytes).unwrap();
        let found = artefact(&path).unwrap();
        assert_eq!(found.length, 3_000_000);
        assert_eq!(found.digest, Digest::Sha256(Sha256Digest::of(&bytes)));
    }
}
