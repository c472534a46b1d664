//! What the torrent and the manifest name an image by, and how it is made of a file by reading it.
//!
//! One thread reads, one makes SHA-1 of each piece and SHA-256 of its blocks, several at a time. What is
//! hashed while it is written is `follow`'s.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use proto::geometry::BLOCK_LEN;
use proto::hash::{PieceHash, Sha256Digest, Sha256Stream};
use proto::manifest::{Artefact, Digest};
use proto::merkle::{self, Node};
use sys::{sha1, sha256};

/// Pieces that may wait for a hash thread: memory is twice as many pieces, at most 16 MiB.
const QUEUE: usize = 4;

/// The hashes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hashes {
    /// Bytes of the image.
    pub(crate) length: u64,
    /// Bytes of a piece, but the last.
    pub(crate) piece_length: u32,
    /// SHA-1 of each piece.
    pub(crate) pieces: Vec<PieceHash>,
    /// The node of each piece in the tree of blocks.
    pub(crate) layer: Vec<Node>,
}

impl Hashes {
    /// The image in a manifest.
    pub(crate) fn artefact(&self) -> Artefact {
        let level = merkle::piece_level(self.length, self.piece_length);
        let height = self.layer.len().next_power_of_two().ilog2();
        let root = merkle::root(&self.layer, level, height);
        Artefact { length: self.length, digest: Digest::PiecesRoot(root) }
    }
}

/// SHA-1 of each piece, four at once where the processor can and they are of one length.
pub(crate) fn of_pieces(pieces: &[&[u8]]) -> Vec<PieceHash> {
    let mut hashes = Vec::with_capacity(pieces.len());
    for few in pieces.chunks(sha1::LANES) {
        match few.try_into().ok().and_then(|four: [&[u8]; sha1::LANES]| sha1::four(four)) {
            Some(four) => hashes.extend(four.map(PieceHash)),
            None => hashes.extend(few.iter().map(|piece| PieceHash::of(piece))),
        }
    }
    hashes
}

/// SHA-256 of each block of the parts, each of which begins with a block.
pub(crate) fn of_blocks(parts: &[&[u8]]) -> Vec<Node> {
    let blocks: Vec<&[u8]> =
        parts.iter().flat_map(|part| part.chunks(BLOCK_LEN as usize)).collect();
    sha256::each(&blocks).into_iter().map(Sha256Digest).collect()
}

/// A thread that hashes what is sent to it from start to end.
type Whole<'scope> = (SyncSender<Arc<[u8]>>, ScopedJoinHandle<'scope, Sha256Digest>);

/// Hashes of the bytes that were pushed, on a thread for each kind.
struct Hasher<'scope> {
    to_pieces: SyncSender<Arc<[u8]>>,
    pieces: ScopedJoinHandle<'scope, (Vec<PieceHash>, Vec<Node>)>,
    whole: Option<Whole<'scope>>,
}

impl<'scope> Hasher<'scope> {
    /// `level` is that of the nodes that stand for pieces.
    fn start<'env>(scope: &'scope Scope<'scope, 'env>, level: u32, whole: bool) -> Self {
        let (to_pieces, from_pieces) = sync_channel(QUEUE);
        let pieces = scope.spawn(move || hash_pieces(&from_pieces, level));
        let whole = whole.then(|| {
            let (to_whole, from_whole) = sync_channel(QUEUE);
            (to_whole, scope.spawn(move || hash_whole(&from_whole)))
        });
        Self { to_pieces, pieces, whole }
    }

    /// Takes the next piece.
    fn push(&self, piece: &Arc<[u8]>) {
        let why = "the threads end after their queue does";
        self.to_pieces.send(Arc::clone(piece)).expect(why);
        if let Some((to_whole, _)) = &self.whole {
            to_whole.send(Arc::clone(piece)).expect(why);
        }
    }

    fn finish(self) -> (Vec<PieceHash>, Vec<Node>, Option<Sha256Digest>) {
        let why = "hashing does not panic";
        drop(self.to_pieces);
        let whole = self.whole.map(|(to_whole, thread)| {
            drop(to_whole);
            thread.join().expect(why)
        });
        let (pieces, layer) = self.pieces.join().expect(why);
        (pieces, layer, whole)
    }
}

fn hash_pieces(queue: &Receiver<Arc<[u8]>>, level: u32) -> (Vec<PieceHash>, Vec<Node>) {
    let (mut hashes, mut layer) = (Vec::new(), Vec::new());
    loop {
        let few: Vec<Arc<[u8]>> = queue.iter().take(sha1::LANES).collect();
        if few.is_empty() {
            return (hashes, layer);
        }
        let pieces: Vec<&[u8]> = few.iter().map(AsRef::as_ref).collect();
        hashes.extend(of_pieces(&pieces));
        let nodes = of_blocks(&pieces);
        let mut rest = nodes.as_slice();
        for piece in pieces {
            let (own, others) = rest.split_at(piece.len().div_ceil(BLOCK_LEN as usize));
            layer.push(merkle::root(own, 0, level));
            rest = others;
        }
    }
}

fn hash_whole(queue: &Receiver<Arc<[u8]>>) -> Sha256Digest {
    let mut digest = Sha256Stream::default();
    for piece in queue {
        digest.update(&piece);
    }
    digest.finish()
}

/// Reads the file at `path` and hashes it, also as a `whole` if that is wanted; `progress` is told the
/// bytes read so far.
///
/// # Errors
/// Those of reading.
pub(crate) fn read(
    path: &Path,
    piece_length: u32,
    whole: bool,
    mut progress: impl FnMut(u64),
) -> io::Result<(Hashes, Option<Sha256Digest>)> {
    let mut file = File::open(path)?;
    let level = merkle::piece_level(file.metadata()?.len(), piece_length);
    std::thread::scope(|scope| {
        let hasher = Hasher::start(scope, level, whole);
        let mut length = 0;
        loop {
            let mut piece = Vec::with_capacity(piece_length as usize);
            (&mut file).take(u64::from(piece_length)).read_to_end(&mut piece)?;
            if piece.is_empty() {
                let (pieces, layer, whole) = hasher.finish();
                return Ok((Hashes { length, piece_length, pieces, layer }, whole));
            }
            length += piece.len() as u64;
            hasher.push(&Arc::from(piece));
            progress(length);
        }
    })
}

#[cfg(test)]
mod tests {
    use proto::manifest::ArtefactKind;

    use super::*;
    use crate::torrent::{self, TorrentFormat};

    #[test]
    fn hashing_in_threads_gives_what_hashing_at_once_gives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        for length in [1usize, 16_384, 32_768, 32_769, 50_000, 262_144, 1_000_000] {
            let bytes: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
            std::fs::write(&path, &bytes).unwrap();
            let mut last = 0;
            let (hashes, whole) = read(&path, 32_768, true, |read| last = read).unwrap();
            let expected: Vec<_> = bytes.chunks(32_768).map(PieceHash::of).collect();
            assert_eq!(hashes.pieces, expected);
            assert_eq!(whole, Some(Sha256Digest::of(&bytes)));
            assert_eq!((hashes.length, last), (length as u64, length as u64));
            assert_eq!(hashes.artefact(), Artefact::of(ArtefactKind::Image, &bytes));
            assert_eq!(read(&path, 32_768, false, |_| {}).unwrap(), (hashes.clone(), None));
            let tree = torrent::info(hashes, false, TorrentFormat::Hybrid).unwrap();
            for (piece, part) in tree.geometry.indices().zip(bytes.chunks(32_768)) {
                assert!(tree.tree().unwrap().piece_is(piece, &merkle::blocks(part)));
            }
        }
    }
}
