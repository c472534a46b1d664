//! Which file system the image is, and how it is compressed. Checked before any work begins.

use std::fmt;

use proto::units::ByteSize;

/// File system of the image. Nodes tell them apart by their superblock, not by a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filesystem {
    /// Every kernel since 2.6.29: the default.
    #[default]
    Squashfs,
    /// Linux 5.4 and later; keeps POSIX ACLs.
    Erofs,
}

impl Filesystem {
    /// As the manifest and mount(8) call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }

    /// What each kernel that has the file system can read.
    fn default_compression(self) -> Compression {
        match self {
            Self::Squashfs => Compression::Zstd,
            // EROFS has zstd since Linux 6.10 and erofs-utils 1.8
            Self::Erofs => Compression::Lz4,
        }
    }

    /// Bytes that are compressed together (squashfs), or that compressed data fills (EROFS).
    fn default_block_size(self) -> u32 {
        match self {
            Self::Squashfs => 128 << 10,
            Self::Erofs => 64 << 10,
        }
    }
}

/// How the image is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Small, and fast to read.
    Zstd,
    /// Smallest, slow to read (MicroLZMA in EROFS).
    Xz,
    /// Largest, fastest to read.
    Lz4,
}

impl Compression {
    /// As `--compression` and the manifest call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
        }
    }
}

/// A combination that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// That compressor has no such level.
    #[error("{filesystem} with {compression} has no level {level}: {range}")]
    Level {
        /// File system.
        filesystem: &'static str,
        /// Compressor.
        compression: &'static str,
        /// What was given.
        level: u32,
        /// What there is.
        range: Levels,
    },
    /// `--order` for EROFS.
    #[error(
        "mkfs.erofs lays files out by their paths and takes no list: leave --order out, or use \
         --format squashfs"
    )]
    NoOrder,
    /// No power of two, or out of range.
    #[error("a block of {bytes} bytes is not possible: give a power of two from 4K to 1M")]
    BlockSize {
        /// What was given.
        bytes: u64,
    },
}

/// Levels of a compressor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// None at all.
    None,
    /// From 1 (0 for MicroLZMA) to this.
    UpTo(u32),
    /// 1 is fast, 2 is small.
    Two,
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("it has no levels, leave --level out"),
            Self::UpTo(most) => write!(f, "give 1 to {most}"),
            Self::Two => f.write_str("give 1 (fast, the default) or 2 (small)"),
        }
    }
}

/// A format that the tools and kernels know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFormat {
    filesystem: Filesystem,
    compression: Compression,
    level: Option<u32>,
    block_size: u32,
}

impl Default for ImageFormat {
    fn default() -> Self {
        let filesystem = Filesystem::default();
        Self {
            filesystem,
            compression: filesystem.default_compression(),
            level: None,
            block_size: filesystem.default_block_size(),
        }
    }
}

impl ImageFormat {
    /// Puts together what was asked for; `None` is the default of the file system.
    ///
    /// # Errors
    /// [`FormatError`] for a level or block size that is not there.
    pub fn new(
        filesystem: Filesystem,
        compression: Option<Compression>,
        level: Option<u32>,
        block_size: Option<ByteSize>,
    ) -> Result<Self, FormatError> {
        let compression = compression.unwrap_or_else(|| filesystem.default_compression());
        let bytes = block_size.map_or(u64::from(filesystem.default_block_size()), |size| size.0);
        let block_size = u32::try_from(bytes)
            .ok()
            .filter(|size| size.is_power_of_two() && (4 << 10..=1 << 20).contains(size))
            .ok_or(FormatError::BlockSize { bytes })?;
        let format = Self { filesystem, compression, level, block_size };
        let range = format.levels();
        let exists = |level: u32| match range {
            Levels::None => false,
            Levels::UpTo(most) => (1..=most).contains(&level),
            Levels::Two => (1..=2).contains(&level),
        };
        match level.filter(|level| !exists(*level)) {
            Some(level) => Err(FormatError::Level {
                filesystem: filesystem.name(),
                compression: compression.name(),
                level,
                range,
            }),
            None => Ok(format),
        }
    }

    fn levels(self) -> Levels {
        match (self.filesystem, self.compression) {
            (_, Compression::Zstd) => Levels::UpTo(22),
            (Filesystem::Squashfs, Compression::Xz) => Levels::None,
            (Filesystem::Squashfs, Compression::Lz4) => Levels::Two,
            (Filesystem::Erofs, Compression::Xz) => Levels::UpTo(9),
            (Filesystem::Erofs, Compression::Lz4) => Levels::UpTo(12),
        }
    }

    /// File system.
    #[must_use]
    pub fn filesystem(self) -> Filesystem {
        self.filesystem
    }

    /// Compressor.
    #[must_use]
    pub fn compression(self) -> Compression {
        self.compression
    }

    /// Level, if one was asked for.
    #[must_use]
    pub fn level(self) -> Option<u32> {
        self.level
    }

    /// Bytes.
    #[must_use]
    pub fn block_size(self) -> u32 {
        self.block_size
    }

    /// The kernel configuration options that a node needs to mount the image.
    pub(crate) fn kernel_options(self) -> &'static [&'static str] {
        match (self.filesystem, self.compression) {
            (Filesystem::Squashfs, Compression::Zstd) => {
                &["CONFIG_SQUASHFS", "CONFIG_SQUASHFS_ZSTD"]
            }
            (Filesystem::Squashfs, Compression::Xz) => &["CONFIG_SQUASHFS", "CONFIG_SQUASHFS_XZ"],
            (Filesystem::Squashfs, Compression::Lz4) => &["CONFIG_SQUASHFS", "CONFIG_SQUASHFS_LZ4"],
            (Filesystem::Erofs, Compression::Zstd) => {
                &["CONFIG_EROFS_FS", "CONFIG_EROFS_FS_ZIP", "CONFIG_EROFS_FS_ZIP_ZSTD"]
            }
            (Filesystem::Erofs, Compression::Xz) => {
                &["CONFIG_EROFS_FS", "CONFIG_EROFS_FS_ZIP", "CONFIG_EROFS_FS_ZIP_LZMA"]
            }
            (Filesystem::Erofs, Compression::Lz4) => &["CONFIG_EROFS_FS", "CONFIG_EROFS_FS_ZIP"],
        }
    }

    /// For the manifest: what one needs to make the same image again.
    pub(crate) fn facts(self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("format", self.filesystem.name().to_owned()),
            ("compression", self.compression.name().to_owned()),
            ("block-size", self.block_size.to_string()),
        ];
        facts.extend(self.level.map(|level| ("level", level.to_string())));
        facts
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.compression.name(), self.filesystem.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_what_every_kernel_reads() {
        let squashfs = ImageFormat::new(Filesystem::Squashfs, None, None, None).unwrap();
        assert_eq!(squashfs, ImageFormat::default());
        assert_eq!(squashfs.to_string(), "zstd squashfs");
        assert_eq!(squashfs.block_size(), 131_072);
        let erofs = ImageFormat::new(Filesystem::Erofs, None, None, None).unwrap();
        assert_eq!((erofs.to_string().as_str(), erofs.block_size()), ("lz4 erofs", 65_536));
        assert_eq!(erofs.kernel_options(), ["CONFIG_EROFS_FS", "CONFIG_EROFS_FS_ZIP"]);
    }

    #[test]
    fn levels_and_blocks_that_do_not_exist_are_refused_with_those_that_do() {
        use Compression::{Lz4, Xz, Zstd};
        let make = |filesystem, compression, level| {
            ImageFormat::new(filesystem, Some(compression), Some(level), None)
        };
        for (filesystem, compression, good, bad, remedy) in [
            (Filesystem::Squashfs, Zstd, Some(22), 23, "1 to 22"),
            (Filesystem::Squashfs, Xz, None, 6, "leave --level out"),
            (Filesystem::Squashfs, Lz4, Some(2), 9, "1 (fast"),
            (Filesystem::Erofs, Lz4, Some(12), 13, "1 to 12"),
            (Filesystem::Erofs, Xz, Some(9), 0, "1 to 9"),
        ] {
            assert!(good.is_none_or(|level| make(filesystem, compression, level).is_ok()));
            let error = make(filesystem, compression, bad).unwrap_err();
            assert!(error.to_string().contains(remedy), "{error}");
        }
        for bytes in [0, 2048, 5000, 2 << 20, u64::MAX] {
            let error = ImageFormat::new(Filesystem::Squashfs, None, None, Some(ByteSize(bytes)));
            assert_eq!(error, Err(FormatError::BlockSize { bytes }));
        }
    }
}
