//! How a tar is compressed: told by its first bytes, not by its name.

use crate::tool::{BZIP2, GZIP, Tool, XZ, ZSTD};

/// How a tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    /// Recognises a tar by its first 512 bytes; `None` for anything else.
    pub(crate) fn sniff(head: &[u8]) -> Option<Self> {
        let magic: [(&[u8], Self); 5] = [
            (&[0x1f, 0x8b], Self::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
            // a skippable frame first: seekable zstd
            (&[0x50, 0x2a, 0x4d, 0x18], Self::Zstd),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Self::Xz),
            (b"BZh", Self::Bzip2),
        ];
        magic
            .iter()
            .find(|(bytes, _)| head.starts_with(bytes))
            .map(|(_, found)| *found)
            .or_else(|| is_tar_header(head).then_some(Self::Plain))
    }

    /// Decodes it.
    pub(super) fn program(self) -> Option<Tool> {
        match self {
            Self::Plain => None,
            Self::Gzip => Some(GZIP),
            Self::Zstd => Some(ZSTD),
            Self::Xz => Some(XZ),
            Self::Bzip2 => Some(BZIP2),
        }
    }
}

/// A header block whose checksum fits (POSIX.1-1988 ustar and everything before and after it):
/// the sum of all bytes, with the checksum's own eight taken as spaces.
fn is_tar_header(head: &[u8]) -> bool {
    let Some(block) = head.first_chunk::<512>() else { return false };
    let text: String =
        block[148..156].iter().map(|&b| char::from(b)).filter(char::is_ascii_digit).collect();
    let Ok(stated) = u32::from_str_radix(&text, 8) else { return false };
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u32::from(byte) })
        .sum();
    stated == sum
}
