//! The image that a benchmark distributes: random bytes, the same for every client of a run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lab::client::Offer;
use proto::geometry::Geometry;
use proto::hash::{InfoHash, PieceHash};
use proto::metainfo::{Info, Metainfo};

/// Name of the image, on disk and in the torrent.
const NAME: &str = "image";

/// An image and its torrent.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) image: PathBuf,
    /// What clients take: the torrent, and the name that the image has in it.
    pub(crate) offer: Offer,
    /// Debian's opentracker serves none that is not listed.
    pub(crate) info_hash: InfoHash,
    pub(crate) bytes: Vec<u8>,
}

/// Writes `image` and `image.torrent` into `folder`.
pub(crate) fn make(
    folder: &Path,
    length: u64,
    piece: u64,
    tracker: &str,
) -> anyhow::Result<Content> {
    let geometry = Geometry::new(length, piece).context("--image and --piece do not fit")?;
    let bytes = noise(usize::try_from(length)?);
    let piece_length = usize::try_from(geometry.piece_length())?;
    let pieces = bytes.chunks(piece_length).map(PieceHash::of).collect();
    let info = Info::new(NAME, geometry, true, pieces)?;
    let metainfo = Metainfo::new(info, vec![vec![tracker.to_owned()]], Vec::new(), None)?;
    let (image, torrent) = (folder.join(NAME), folder.join("image.torrent"));
    fs::write(&image, &bytes).with_context(|| format!("cannot write {}", image.display()))?;
    fs::write(&torrent, metainfo.to_bytes()?)
        .with_context(|| format!("cannot write {}", torrent.display()))?;
    let offer = Offer { torrent, file: NAME.to_owned() };
    Ok(Content { image, offer, info_hash: metainfo.info_hash, bytes })
}

/// Bytes without structure (xorshift64*), so that nothing on the way can compress them.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
