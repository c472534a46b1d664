//! The dm-verity tree of an image (`--verity`), written behind it.
//!
//! What `veritysetup format --hash-offset` writes: superblock, then the hash blocks, topmost level first.
//! Salt and UUID are no random numbers, so that one image has one tree.

use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroU64;
use std::path::Path;

use proto::hash::Sha256Digest;
use proto::verity::{VERITY_ALGORITHM, VERITY_BLOCK, VERITY_SALT, Verity};
use sys::sha256;

const BLOCK: usize = VERITY_BLOCK as usize;

/// Blocks that are hashed together; more would leave the processor's cache.
const BATCH: usize = 16;

/// Bytes read at once: a number of blocks.
const CHUNK: usize = 1 << 20;

/// What belongs behind the image.
#[derive(Debug)]
pub(crate) struct Tree {
    /// For the manifest.
    pub(crate) verity: Verity,
    /// Superblock and hash blocks.
    pub(crate) bytes: Vec<u8>,
}

/// The digests of the blocks of a part of an image, which begins with a block: 32 bytes each, 8 MiB for a GiB.
/// A last block that is short counts as filled with zeros.
pub(crate) fn leaves(bytes: &[u8]) -> Vec<u8> {
    let mut digests = Vec::with_capacity(bytes.len().div_ceil(BLOCK) * Sha256Digest::LEN);
    let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK);
    hash_blocks(whole, &mut digests);
    if !rest.is_empty() {
        let mut last = rest.to_vec();
        last.resize(BLOCK, 0);
        hash_blocks(&last, &mut digests);
    }
    digests
}

/// Bytes of an image of `length` bytes with its tree; `None` when it is empty, or too long for a tree.
pub(crate) fn length_with_tree(length: u64) -> Option<u64> {
    // the length does not depend on what the hashes are
    let data_blocks = NonZeroU64::new(length.div_ceil(BLOCK as u64))?;
    Verity::new(Sha256Digest::ZERO, VERITY_SALT, data_blocks).map(|verity| verity.length())
}

impl Tree {
    /// The tree over all [`leaves`] of an image; `None` when there are none, or too many.
    pub(crate) fn over(mut digests: Vec<u8>) -> Option<Self> {
        let data_blocks = NonZeroU64::new((digests.len() / Sha256Digest::LEN) as u64)?;
        let mut levels = Vec::new();
        while digests.len() > Sha256Digest::LEN {
            digests.resize(digests.len().next_multiple_of(BLOCK), 0);
            let mut above = Vec::with_capacity(digests.len() / BLOCK * Sha256Digest::LEN);
            hash_blocks(&digests, &mut above);
            levels.push(std::mem::replace(&mut digests, above));
        }
        let verity = Verity::new(Sha256Digest::from_slice(&digests)?, VERITY_SALT, data_blocks)?;
        let mut bytes = superblock(&verity);
        levels.iter().rev().for_each(|level| bytes.extend_from_slice(level));
        Some(Self { verity, bytes })
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

/// Whether a file is an image with this tree behind it.
///
/// # Errors
/// Those of reading.
pub(crate) fn fits(path: &Path, verity: &Verity) -> io::Result<bool> {
    let tree = of_file(path, verity.hash_offset())?;
    let mut behind = Vec::with_capacity(tree.bytes.len());
    let mut file = File::open(path)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(verity.hash_offset()))?;
    file.read_to_end(&mut behind)?;
    Ok(tree.verity == *verity && tree.bytes == behind)
}

/// The tree of the first bytes of a file.
fn of_file(path: &Path, length: u64) -> io::Result<Tree> {
    let mut file = File::open(path)?.take(length);
    let (mut digests, mut chunk) = (Vec::new(), Vec::with_capacity(CHUNK));
    loop {
        chunk.clear();
        if (&mut file).take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
            let error = || io::Error::new(io::ErrorKind::InvalidData, "it is empty");
            return Tree::over(digests).ok_or_else(error);
        }
        digests.extend(leaves(&chunk));
    }
}

#[cfg(test)]
mod tests;
