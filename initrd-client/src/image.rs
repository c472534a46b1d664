//! The whole image against the digest in a signed manifest.
//!
//! For torrents of BEP 3 alone: the pieces of a hybrid one are compared by SHA-256 (BEP 52), with hashes
//! that the signature covers, so nothing is left to be done.
//!
//! Every piece was compared with its SHA-1 before. Two different pieces with one SHA-1 can be made by
//! whoever may put files into an image, and swapped on the way later: with a signature demanded the
//! image is read once more, from memory, and compared by SHA-256. Others are served meanwhile.

use std::io;
use std::path::Path;
use std::sync::Arc;

use proto::hash::{Sha256Digest, Sha256Stream};
use swarm::storage::Storage;

use crate::exit::Exit;
use crate::trust::SignedImage;

/// Read at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// An image that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Another image.
    #[error(
        "the image has SHA-256 {got}, but the signed manifest of {name} names {wanted}: its pieces fit \
         the torrent, so it was packed wrongly or forged; it was not used. Pack and sign it again"
    )]
    Other {
        /// Name of the image.
        name: String,
        /// In the manifest.
        wanted: Sha256Digest,
        /// Of what came.
        got: Sha256Digest,
    },
    /// It cannot be read back.
    #[error("cannot read the image back")]
    Read(#[source] io::Error),
}

impl ImageError {
    /// The exit code that says it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Other { .. } => Exit::WrongImage,
            Self::Read(_) => Exit::Device,
        }
    }
}

/// Hashes all of `storage`, on a thread of its own.
///
/// # Errors
/// [`ImageError`].
pub async fn check(storage: Arc<dyn Storage>, signed: &SignedImage) -> Result<(), ImageError> {
    let hashing = tokio::task::spawn_blocking(move || digest(storage.as_ref()));
    // a thread that panicked has hashed nothing
    let got = hashing.await.map_err(io::Error::other).and_then(|result| result);
    let got = got.map_err(ImageError::Read)?;
    let SignedImage { name, sha256: wanted, .. } = signed.clone();
    if got == wanted { Ok(()) } else { Err(ImageError::Other { name, wanted, got }) }
}

fn digest(storage: &dyn Storage) -> io::Result<Sha256Digest> {
    let mut stream = Sha256Stream::default();
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    while offset < storage.len() {
        let left = usize::try_from(storage.len() - offset).unwrap_or(CHUNK);
        let chunk = &mut buffer[..CHUNK.min(left)];
        storage.read_at(offset, chunk)?;
        stream.update(chunk);
        offset += chunk.len() as u64;
    }
    Ok(stream.finish())
}

/// Removes an image that was refused, so that nobody uses it; a device stays.
pub fn discard(path: &Path) {
    if path.is_file() {
        // the message says already that it is not to be used
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use proto::signature::{Signed, TrustedComment};
    use swarm::storage::FileStorage;

    use super::*;

    fn signed(bytes: &[u8]) -> SignedImage {
        let key: proto::signature::PublicKey =
            "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse().unwrap();
        let by = Signed { key: key.id(), comment: TrustedComment::default() };
        SignedImage { by, name: "demo".into(), sha256: Sha256Digest::of(bytes) }
    }

    #[test]
    fn one_wrong_byte_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for length in [1, 262_143, 262_144, 700_001] {
            let mut bytes = vec![7; length];
            std::fs::write(&path, &bytes).unwrap();
            let storage: Arc<dyn Storage> = Arc::new(FileStorage::open_read_only(&path).unwrap());
            runtime.block_on(check(storage.clone(), &signed(&bytes))).unwrap();
            bytes[length - 1] ^= 1;
            let error = runtime.block_on(check(storage, &signed(&bytes))).unwrap_err();
            assert_eq!(error.exit(), Exit::WrongImage);
            assert!(error.to_string().contains("demo"), "{error}");
        }
        discard(&path);
        assert!(!path.exists());
    }
}
