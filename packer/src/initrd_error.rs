//! What can go wrong with the drivers of an initrd, or with a tool that the image brings.

use std::path::PathBuf;

/// An initrd could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitrdError {
    /// A line of `--hardware` cannot be read.
    #[error(
        "line {line} of {path} is no network card: {text:?}. Write one per line: a modalias \
         (/sys/class/net/*/device/modalias of a node), a line of `lspci -n`, 8086:10d3, or the name \
         of a module"
    )]
    Hardware {
        /// The list.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Itself.
        text: String,
    },
    /// The list names no card.
    #[error(
        "{path} names no network card: a node with this initrd could not load its image. Record it \
         on a node: cat /sys/class/net/*/device/modalias"
    )]
    NoCard {
        /// The list.
        path: PathBuf,
    },
    /// The kernel has no such driver.
    #[error(
        "{wanted}: kernel {release} has no such driver, neither as a module nor built in. Is it \
         spelt right (`find ROOT/lib/modules -name '*.ko*'`)? Debian's cloud kernels have few: \
         install linux-image-amd64 in the root"
    )]
    NoDriver {
        /// Flag or line of the list.
        wanted: String,
        /// Kernel release.
        release: String,
    },
    /// The kernel cannot check an image by its tree.
    #[error(
        "--verity: kernel {release} has no dm-verity (CONFIG_DM_VERITY): leave --verity out, or \
         install another kernel in the root"
    )]
    NoVerity {
        /// Kernel release.
        release: String,
    },
    /// `--initrd-tool initramfs-tools`, and the root does not have it.
    #[error(
        "{root} has no {missing}: install initramfs-tools-core and zstd in it, or use \
         --initrd-tool dracut, which is taken from this host"
    )]
    NotInRoot {
        /// The root.
        root: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// Our hook and scripts for initramfs-tools were not found.
    #[error(
        "cannot find our hook for initramfs-tools (looked in {looked}): give --initramfs-tools DIR"
    )]
    NoHook {
        /// Paths tried.
        looked: String,
    },
    /// A finished initrd cannot be read.
    #[error("{path} is no initrd that can be read: {reason}")]
    NotAnInitrd {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}
