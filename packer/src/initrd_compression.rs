//! How an initrd is compressed: every node loads it from the admin host, packed once.
//!
//! Of a Debian 12 initrd of 46.0 MB: zstd -19 gives 12.68 MB, zstd -22 with a window as large as the
//! whole 12.40, xz with a filter for x86 code 11.26; each takes about 40 s. A node unpacks the last
//! in less than a second.

use std::path::Path;

use crate::kernel;
use crate::tool::Tool;

const XZ: Tool = Tool { program: "xz", purpose: "compresses the initrd", package: "xz-utils" };
const ZSTD: Tool = Tool { program: "zstd", purpose: "compresses the initrd", package: "zstd" };

/// A way to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Smaller.
    Xz,
    /// For kernels that do not have the other.
    Zstd,
}

impl Compression {
    /// The smallest that the kernel unpacks.
    pub(crate) fn of_kernel(root: &Path, release: &str) -> Compression {
        let lacks = |option| kernel::lacks_option(root, release, option);
        if lacks("CONFIG_RD_XZ") || (is_x86() && lacks("CONFIG_XZ_DEC_X86")) {
            Compression::Zstd
        } else {
            Compression::Xz
        }
    }

    pub(crate) fn tool(self) -> Tool {
        match self {
            Self::Xz => XZ,
            Self::Zstd => ZSTD,
        }
    }

    /// From standard input to standard output. One thread: what several make is larger, or depends
    /// on how many there are.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            // the kernel knows no other checksum
            Self::Xz if is_x86() => {
                &["--check=crc32", "--x86", "--lzma2=preset=6,dict=64MiB", "-c"]
            }
            Self::Xz => &["--check=crc32", "--lzma2=preset=6,dict=64MiB", "-c"],
            // a window as large as the whole: the kernel takes up to 2^27
            Self::Zstd => &["--ultra", "-22", "--long=27", "-q", "-c"],
        }
    }

    /// As dracut takes it.
    pub(crate) fn command_line(self) -> String {
        let arguments = self.arguments().join(" ");
        format!("{} {arguments}", self.tool().program)
    }
}

fn is_x86() -> bool {
    std::env::consts::ARCH.starts_with("x86")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_cannot_unpack_xz_gets_zstd() {
        let dir = tempfile::tempdir().unwrap();
        let of = || Compression::of_kernel(dir.path(), "6.1");
        assert_eq!(of(), Compression::Xz, "unknown is not a no");
        std::fs::create_dir(dir.path().join("boot")).unwrap();
        let config = dir.path().join("boot/config-6.1");
        std::fs::write(&config, "CONFIG_RD_XZ=y\nCONFIG_XZ_DEC_X86=y\n").unwrap();
        assert_eq!(of(), Compression::Xz);
        std::fs::write(&config, "CONFIG_RD_ZSTD=y\n").unwrap();
        assert_eq!(of(), Compression::Zstd);
    }
}
