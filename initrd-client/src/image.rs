//! The whole image against the digest in a signed manifest.
//!
//! For torrents of BEP 3 alone: the pieces of a hybrid one are compared by SHA-256 (BEP 52), with hashes
//! that the signature covers, so nothing is left to be done.
//!
//! Every piece was compared with its SHA-1 before. Two different pieces with one SHA-1 can be made by
//! whoever may put files into an image, and swapped on the way later: with a signature demanded the
//! image is read once more, from memory, and compared by SHA-256: of its blocks, whose tree leads to the
//! root in the manifest, or of the whole in manifests of version 1. Others are served meanwhile.

use std::io;
use std::path::Path;
use std::sync::Arc;

use proto::hash::{Sha256Digest, Sha256Stream};
use proto::manifest::Digest;
use proto::merkle;
use swarm::storage::Storage;

use crate::exit::Exit;
use crate::trust::SignedImage;

/// Read at a time, in bytes: whole blocks.
const CHUNK: usize = 256 * 1024;

/// An image that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Another image.
    #[error(
        "the image has {} {got}, but the signed manifest of {name} names {}: its pieces fit the \
         torrent, so it was packed wrongly or forged; it was not used. Pack and sign it again",
        .wanted.name(), .wanted.value()
    )]
    Other {
        /// Name of the image.
        name: String,
        /// In the manifest.
        wanted: Digest,
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
    let SignedImage { name, digest: wanted, .. } = signed.clone();
    let hashing = tokio::task::spawn_blocking(move || digest(storage.as_ref(), wanted));
    // a thread that panicked has hashed nothing
    let got = hashing.await.map_err(io::Error::other).and_then(|result| result);
    let got = got.map_err(ImageError::Read)?;
    if got == wanted.value() { Ok(()) } else { Err(ImageError::Other { name, wanted, got }) }
}

/// The digest of the same kind as `wanted`.
fn digest(storage: &dyn Storage, wanted: Digest) -> io::Result<Sha256Digest> {
    let mut stream = Sha256Stream::default();
    let mut blocks = Vec::new();
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    while offset < storage.len() {
        let left = usize::try_from(storage.len() - offset).unwrap_or(CHUNK);
        let chunk = &mut buffer[..CHUNK.min(left)];
        storage.read_at(offset, chunk)?;
        match wanted {
            Digest::Sha256(_) => stream.update(chunk),
            Digest::PiecesRoot(_) => blocks.extend(merkle::blocks(chunk)),
        }
        offset += chunk.len() as u64;
    }
    Ok(match wanted {
        Digest::Sha256(_) => stream.finish(),
        Digest::PiecesRoot(_) => merkle::pieces_root(&blocks),
    })
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
    use proto::manifest::{Artefact, ArtefactKind};
    use proto::signature::{Signed, TrustedComment};
    use swarm::storage::FileStorage;

    use super::*;

    fn signed(digest: Digest) -> SignedImage {
        let key: proto::signature::PublicKey =
            "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse().unwrap();
        let by = Signed { key: key.id(), comment: TrustedComment::default() };
        SignedImage { by, name: "demo".into(), digest }
    }

    #[test]
    fn one_wrong_byte_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for length in [1, 262_143, 262_144, 700_001] {
            let bytes = vec![7; length];
            std::fs::write(&path, &bytes).unwrap();
            let storage: Arc<dyn Storage> = Arc::new(FileStorage::open_read_only(&path).unwrap());
            let mut other = bytes.clone();
            other[length - 1] ^= 1;
            let kinds: [fn(&[u8]) -> Digest; 2] = [
                |bytes| Artefact::of(ArtefactKind::Image, bytes).digest,
                |bytes| Digest::Sha256(Sha256Digest::of(bytes)),
            ];
            for digest in kinds {
                runtime.block_on(check(storage.clone(), &signed(digest(&bytes)))).unwrap();
                let wrong = signed(digest(&other));
                let error = runtime.block_on(check(storage.clone(), &wrong)).unwrap_err();
                assert_eq!(error.exit(), Exit::WrongImage);
                let text = error.to_string();
                assert!(text.contains("demo") && text.contains(wrong.digest.name()), "{text}");
                assert!(text.contains(&digest(&bytes).value().to_string()), "{text}");
            }
        }
        discard(&path);
        assert!(!path.exists());
    }
}
