//! dm-verity: a tree of hashes behind an image, with which a kernel checks each block that it reads.
//!
//! ```text
//!  0              hash_offset    + 4096
//!  │ the image     │ superblock   │ hash blocks: the topmost, ... those of the data ... │ end of the file
//! ```
//!
//! The superblock is for people and `veritysetup`; neither kernel nor client reads it. What they believe is in
//! the manifest. Format: the kernel's `Documentation/admin-guide/device-mapper/verity.rst`, type 1.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::hash::Sha256Digest;

/// Bytes of a block, of data and of hashes: the one size that this program writes and takes.
pub const VERITY_BLOCK: u32 = 4096;

/// Digests in a hash block.
const FAN_OUT: u64 = VERITY_BLOCK as u64 / Sha256Digest::LEN as u64;

/// The one algorithm, as the kernel calls it.
pub const VERITY_ALGORITHM: &str = "sha256";

/// Most blocks of data, 4 PiB: no sum or product below overflows.
const MAX_BLOCKS: u64 = 1 << 40;

/// What is hashed before each block: a digest, so that nothing of it was chosen, and always the same, so
/// that one image has one tree. It is the SHA-256 of `beeswarm dm-verity salt 1`.
pub const VERITY_SALT: Sha256Digest = Sha256Digest([
    0xc6, 0xe1, 0xea, 0xa5, 0x56, 0x9f, 0x84, 0xef, 0x80, 0x02, 0xe6, 0xdc, 0x33, 0xb7, 0xbb, 0x0b,
    0x37, 0xad, 0x26, 0x17, 0xb8, 0x5c, 0x09, 0x65, 0x41, 0xcb, 0xfc, 0xf4, 0xce, 0x2f, 0x35, 0xe5,
]);

/// The tree of an image, as the manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Verity {
    /// Hash of the topmost hash block (of the data, when it is a single block).
    pub root_hash: Sha256Digest,
    /// What is hashed before each block.
    pub salt: Sha256Digest,
    data_blocks: NonZeroU64,
}

/// As it stands in the manifest.
#[derive(Serialize, Deserialize)]
struct Written {
    root_hash: Sha256Digest,
    salt: Sha256Digest,
    data_blocks: NonZeroU64,
    hash_offset: u64,
    data_block_size: u32,
    hash_block_size: u32,
    algorithm: String,
}

impl From<Verity> for Written {
    fn from(verity: Verity) -> Self {
        Self {
            root_hash: verity.root_hash,
            salt: verity.salt,
            data_blocks: verity.data_blocks,
            hash_offset: verity.hash_offset(),
            data_block_size: VERITY_BLOCK,
            hash_block_size: VERITY_BLOCK,
            algorithm: VERITY_ALGORITHM.to_owned(),
        }
    }
}

impl TryFrom<Written> for Verity {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { root_hash, salt, data_blocks, hash_offset, .. } = written;
        let sizes = [written.data_block_size, written.hash_block_size];
        match Self::new(root_hash, salt, data_blocks) {
            Some(verity)
                if sizes == [VERITY_BLOCK; 2]
                    && written.algorithm == VERITY_ALGORITHM
                    && hash_offset == verity.hash_offset() =>
            {
                Ok(verity)
            }
            _ => Err("a dm-verity tree that this program does not read: update it"),
        }
    }
}

impl Verity {
    /// A tree over this many blocks; `None` when no image is so large.
    #[must_use]
    pub fn new(
        root_hash: Sha256Digest,
        salt: Sha256Digest,
        data_blocks: NonZeroU64,
    ) -> Option<Self> {
        (data_blocks.get() <= MAX_BLOCKS).then_some(Self { root_hash, salt, data_blocks })
    }

    /// Blocks of the image itself.
    #[must_use]
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks.get()
    }

    /// Where the image ends and the superblock begins, in bytes: `--hash-offset` of `veritysetup`.
    #[must_use]
    pub fn hash_offset(&self) -> u64 {
        self.data_blocks() * u64::from(VERITY_BLOCK)
    }

    /// Bytes of image, superblock and tree.
    #[must_use]
    pub fn length(&self) -> u64 {
        let (mut width, mut tree) = (self.data_blocks(), 0);
        while width > 1 {
            width = width.div_ceil(FAN_OUT);
            tree += width;
        }
        self.hash_offset() + (1 + tree) * u64::from(VERITY_BLOCK)
    }

    /// The line for device-mapper's target `verity`; `device`, a path or `MAJOR:MINOR`, holds image and tree.
    #[must_use]
    pub fn table(&self, device: &str) -> String {
        let (blocks, root, salt) = (self.data_blocks, self.root_hash, self.salt);
        let tree = self.data_blocks() + 1;
        format!(
            "1 {device} {device} {VERITY_BLOCK} {VERITY_BLOCK} {blocks} {tree} {VERITY_ALGORITHM} {root} {salt}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verity(blocks: u64) -> Verity {
        let blocks = NonZeroU64::new(blocks).unwrap();
        Verity::new(Sha256Digest([1; 32]), VERITY_SALT, blocks).unwrap()
    }

    #[test]
    fn the_salt_was_not_chosen() {
        assert_eq!(VERITY_SALT, Sha256Digest::of(b"beeswarm dm-verity salt 1"));
    }

    #[test]
    fn lengths_follow_from_the_blocks() {
        // levels of hash blocks: none; 1; 1; 2 + 1; 128 + 1; 129 + 2 + 1
        for (blocks, tree) in [(1, 0), (2, 1), (128, 1), (129, 3), (16384, 129), (16385, 132)] {
            assert_eq!(verity(blocks).length(), (blocks + 1 + tree) * 4096, "{blocks}");
        }
        let largest = verity(MAX_BLOCKS);
        assert!(largest.length() > largest.hash_offset());
        assert!(Verity::new(VERITY_SALT, VERITY_SALT, NonZeroU64::MAX).is_none());
    }

    #[test]
    fn the_kernel_gets_what_veritysetup_would_give_it() {
        let root = "01".repeat(32);
        assert_eq!(
            verity(129).table("7:3"),
            format!("1 7:3 7:3 4096 4096 129 130 sha256 {root} {VERITY_SALT}")
        );
    }

    #[test]
    fn what_this_program_cannot_set_up_is_refused() {
        let json = serde_json::to_value(verity(5)).unwrap();
        assert_eq!(serde_json::from_value::<Verity>(json.clone()).unwrap(), verity(5));
        for (field, value) in [
            ("hash_offset", 4096.into()),
            ("data_block_size", 512.into()),
            ("hash_block_size", 8192.into()),
            ("algorithm", "sha512".into()),
            ("data_blocks", 0.into()),
            ("data_blocks", u64::MAX.into()),
            ("salt", "00".into()),
            ("root_hash", serde_json::Value::Null),
        ] {
            let mut other = json.clone();
            other[field] = value;
            assert!(serde_json::from_value::<Verity>(other).is_err(), "{field}");
        }
    }
}
