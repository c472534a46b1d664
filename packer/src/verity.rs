//! The dm-verity tree of an image (`--verity`), written behind it.
//!
//! What `veritysetup format --hash-offset` writes: superblock, then the hash blocks, topmost level first.
//! Salt and UUID are no random numbers, so that one image has one tree.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroU64;
use std::path::Path;

use proto::hash::Sha256Digest;
use proto::verity::{VERITY_ALGORITHM, VERITY_BLOCK, VERITY_SALT, Verity};
use sys::sha256;

const BLOCK: usize = VERITY_BLOCK as usize;

/// Blocks that are hashed together; more would leave the processor's cache.
const BATCH: usize = 16;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// Hashes an image whose bytes come in order, in parts of any length.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    /// Less than a batch, that waits.
    rest: Vec<u8>,
    /// Of the blocks so far, 32 bytes each: 8 MiB for a GiB.
    digests: Vec<u8>,
}

/// What belongs behind the image.
#[derive(Debug)]
pub(crate) struct Tree {
    /// For the manifest.
    pub(crate) verity: Verity,
    /// Superblock and hash blocks.
    pub(crate) bytes: Vec<u8>,
}

impl Builder {
    /// The next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() - self.rest.len() % (BATCH * BLOCK);
        hash_blocks(&self.rest[..whole], &mut self.digests);
        self.rest.drain(..whole);
    }

    /// The tree; `None` when there was no byte, or too many for a tree. A last block that is short
    /// counts as filled with zeros.
    pub(crate) fn finish(mut self) -> Option<Tree> {
        self.rest.resize(self.rest.len().next_multiple_of(BLOCK), 0);
        hash_blocks(&self.rest, &mut self.digests);
        let count = (self.digests.len() / Sha256Digest::LEN) as u64;
        let data_blocks = NonZeroU64::new(count)?;
        let mut levels = Vec::new();
        let mut digests = self.digests;
        while digests.len() > Sha256Digest::LEN {
            digests.resize(digests.len().next_multiple_of(BLOCK), 0);
            let mut above = Vec::with_capacity(digests.len() / BLOCK * Sha256Digest::LEN);
            hash_blocks(&digests, &mut above);
            levels.push(std::mem::replace(&mut digests, above));
        }
        let verity = Verity::new(Sha256Digest::from_slice(&digests)?, VERITY_SALT, data_blocks)?;
        let mut bytes = superblock(&verity);
        levels.iter().rev().for_each(|level| bytes.extend_from_slice(level));
        Some(Tree { verity, bytes })
    }
}

/// Appends the digests of whole blocks.
fn hash_blocks(blocks: &[u8], digests: &mut Vec<u8>) {
    let salted = BLOCK + Sha256Digest::LEN;
    let mut buffer = Vec::with_capacity(BATCH * salted);
    for batch in blocks.chunks(BATCH * BLOCK) {
        buffer.clear();
        for block in batch.chunks(BLOCK) {
            buffer.extend_from_slice(VERITY_SALT.as_bytes());
            buffer.extend_from_slice(block);
        }
        let inputs: Vec<&[u8]> = buffer.chunks(salted).collect();
        digests.extend(sha256::each(&inputs).into_iter().flatten());
    }
}

/// cryptsetup's superblock, version 1, filled up to a block. Its UUID is the first half of the root hash.
fn superblock(verity: &Verity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    let field = |bytes: &mut Vec<u8>, content: &[u8], length: usize| {
        let end = bytes.len() + length;
        bytes.extend_from_slice(content);
        bytes.resize(end, 0);
    };
    field(&mut bytes, b"verity", 8);
    // version of the superblock, type of the tree
    field(&mut bytes, &[1, 0, 0, 0, 1, 0, 0, 0], 8);
    field(&mut bytes, &verity.root_hash.as_bytes()[..16], 16);
    field(&mut bytes, VERITY_ALGORITHM.as_bytes(), 32);
    field(&mut bytes, &VERITY_BLOCK.to_le_bytes(), 4);
    field(&mut bytes, &VERITY_BLOCK.to_le_bytes(), 4);
    field(&mut bytes, &verity.data_blocks().to_le_bytes(), 8);
    // the length of the salt, in 16 bits
    field(&mut bytes, &[32], 8);
    field(&mut bytes, verity.salt.as_bytes(), 256);
    bytes.resize(BLOCK, 0);
    bytes
}

/// Reads the image at `path`, a multiple of 4 KiB, and appends its tree; `progress` is told the bytes
/// read so far.
///
/// # Errors
/// Those of reading and writing; [`io::ErrorKind::InvalidData`] for an empty file.
pub(crate) fn append(path: &Path, mut progress: impl FnMut(u64)) -> io::Result<Verity> {
    let tree = of_file(path, u64::MAX, &mut progress)?;
    OpenOptions::new().append(true).open(path)?.write_all(&tree.bytes)?;
    Ok(tree.verity)
}

/// Whether a file is an image with this tree behind it.
///
/// # Errors
/// Those of reading.
pub(crate) fn fits(path: &Path, verity: &Verity) -> io::Result<bool> {
    let tree = of_file(path, verity.hash_offset(), &mut |_| {})?;
    let mut behind = Vec::with_capacity(tree.bytes.len());
    let mut file = File::open(path)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(verity.hash_offset()))?;
    file.read_to_end(&mut behind)?;
    Ok(tree.verity == *verity && tree.bytes == behind)
}

/// The tree of the first bytes of a file.
fn of_file(path: &Path, length: u64, progress: &mut dyn FnMut(u64)) -> io::Result<Tree> {
    let mut file = File::open(path)?.take(length);
    let mut builder = Builder::default();
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            let error = || io::Error::new(io::ErrorKind::InvalidData, "it is empty");
            return builder.finish().ok_or_else(error);
        }
        builder.update(&buffer[..count]);
        done += count as u64;
        progress(done);
    }
}

#[cfg(test)]
mod tests;
