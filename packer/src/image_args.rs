//! Flags of `bee-packer pack` that say what kind of image is made.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use packer::PackError;
use packer::format::{Compression, Filesystem, ImageFormat};
use packer::pack::Order;
use proto::units::ByteSize;

/// `--format` and what belongs to it.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// File system of the image
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: FormatArg,
    /// Compression of the image [default: zstd for squashfs, lz4 for erofs]
    #[arg(long, value_enum)]
    pub(crate) compression: Option<CompressionArg>,
    /// Level of the compression: zstd 1 to 22; lz4 1 or 2 in squashfs, 1 to 12 in erofs; xz 1 to 9
    /// in erofs [default: that of mksquashfs or mkfs.erofs]
    #[arg(long, value_name = "N")]
    pub(crate) level: Option<u32>,
    /// Bytes that are compressed together, 4K to 1M; in erofs, bytes that they are compressed into
    /// [default: 128K for squashfs, 64K for erofs]
    #[arg(long, value_name = "SIZE")]
    pub(crate) block_size: Option<ByteSize>,
    /// Append a dm-verity tree: nodes then check each block of the image whenever they read it. Puts
    /// the kernel modules for it into the initrd, too
    #[arg(long)]
    pub(crate) verity: bool,
    /// List of files whose data lies first in the image, in this order: one path per line, # begins a
    /// comment. `bee-seeder record-order` on a node writes one. squashfs only
    #[arg(long, value_name = "FILE")]
    pub(crate) order: Option<PathBuf>,
}

impl ImageArgs {
    /// The format, if there is such a one.
    pub(crate) fn format(&self) -> Result<ImageFormat, PackError> {
        let filesystem = match self.format {
            FormatArg::Squashfs => Filesystem::Squashfs,
            FormatArg::Erofs => Filesystem::Erofs,
        };
        let compression = self.compression.map(|arg| match arg {
            CompressionArg::Zstd => Compression::Zstd,
            CompressionArg::Xz => Compression::Xz,
            CompressionArg::Lz4 => Compression::Lz4,
        });
        ImageFormat::new(filesystem, compression, self.level, self.block_size)
            .map_err(|source| PackError::Format { source })
    }

    /// What `--order` names.
    pub(crate) fn order(&self) -> Result<Option<Order>, PackError> {
        self.order.as_deref().map(Order::read).transpose().map_err(PackError::Order)
    }
}

/// `--format`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum FormatArg {
    /// Mounted by every kernel
    #[default]
    Squashfs,
    /// What RHEL 10 and containers moved to; keeps POSIX ACLs. Needs erofs-utils
    Erofs,
}

/// `--compression`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CompressionArg {
    /// Small, and fast to read; in erofs from Linux 6.10 on
    Zstd,
    /// Smallest, slow to read
    Xz,
    /// Largest, fastest to read
    Lz4,
}
