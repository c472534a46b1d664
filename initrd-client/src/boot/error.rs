//! Why a boot cannot go on by itself.

use std::io;
use std::path::PathBuf;

use proto::event::StallCause;
use proto::kernel_args::KernelArgsError;
use swarm::storage::FileStorageError;
use sys::fs::FsError;
use sys::loop_device::LoopError;
use sys::memory::MemoryError;
use sys::mount::MountError;

use crate::cmdline::CmdlineError;
use crate::discover::DiscoverError;
use crate::download::DownloadError;
use crate::exit::Exit;
use crate::fetch::{discover_exit, download_exit, storage_exit};
use crate::policy::PolicyError;
use crate::preflight::MemoryShort;

/// Each names what failed; [`BootError::exit`] tells it to scripts.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel arguments cannot be read.
    #[error(transparent)]
    Cmdline(CmdlineError),
    /// The kernel arguments cannot be used.
    #[error("wrong kernel arguments")]
    Arguments(#[source] KernelArgsError),
    /// It is not known which signature to demand.
    #[error(transparent)]
    Policy(PolicyError),
    /// No usable torrent.
    #[error(transparent)]
    Discover(DiscoverError),
    /// The image cannot be put on a loop device without losing its tail.
    #[error(
        "the image has {length} bytes, not a multiple of 512: a loop device would cut off its tail; pack it with bee-packer, which pads"
    )]
    Unaligned {
        /// Bytes of the image.
        length: u64,
    },
    /// Too little memory.
    #[error(transparent)]
    Memory(MemoryShort),
    /// The amount of memory is not known.
    #[error("cannot find out how much memory there is")]
    Meminfo(#[source] MemoryError),
    /// A mount failed.
    #[error(transparent)]
    Mount(MountError),
    /// Something else is where the root should go.
    #[error("{} has something mounted on it that this program did not mount", root.display())]
    Occupied {
        /// The mount point.
        root: PathBuf,
    },
    /// A file or folder cannot be made or read.
    #[error("cannot use {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file for the running node cannot be written.
    #[error(transparent)]
    Write(FsError),
    /// The image file cannot be made.
    #[error(transparent)]
    Storage(FileStorageError),
    /// The transfer failed.
    #[error(transparent)]
    Download(DownloadError),
    /// The loop device cannot be made.
    #[error(transparent)]
    Loop(LoopError),
    /// `beeswarm.verity=require`, and it cannot be.
    #[error(
        "beeswarm.verity=require, but {reason}; pack with --verity, for a kernel with dm-verity, or \
         leave the argument out"
    )]
    Unchecked {
        /// What is missing.
        reason: String,
    },
    /// dm-verity lets nothing of it be read.
    #[error(
        "the image is not what its dm-verity root hash in the manifest says: packed wrongly, or changed \
         in this machine's memory"
    )]
    WrongTree(#[source] MountError),
    /// The image is no root file system.
    #[error("the image has no {0}: is it the root of a system? (bee-packer pack --source)")]
    NoInit(&'static str),
    /// The boot record cannot be put together.
    #[error("cannot write the boot record: {0}")]
    Record(String),
}

impl BootError {
    /// The exit code that says it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Cmdline(_) | Self::Arguments(_) => Exit::Usage,
            Self::Policy(_) => Exit::Policy,
            Self::Discover(error) => discover_exit(error),
            Self::Unaligned { .. } | Self::NoInit(_) => Exit::Refused,
            Self::Memory(_) => Exit::NoRoom,
            Self::Unchecked { .. } => Exit::Unchecked,
            Self::WrongTree(_) => Exit::WrongImage,
            Self::Storage(error) => storage_exit(error),
            Self::Download(error) => download_exit(error),
            Self::Meminfo(_)
            | Self::Mount(_)
            | Self::Occupied { .. }
            | Self::File { .. }
            | Self::Write(_)
            | Self::Loop(_)
            | Self::Record(_) => Exit::Device,
        }
    }
    /// The word for it in boot events, when the machine lacks something or the image cannot be mounted.
    #[must_use]
    pub fn cause(&self) -> Option<StallCause> {
        match self {
            Self::Mount(_) | Self::Occupied { .. } => Some(StallCause::Mount),
            _ => self.exit().cause(),
        }
    }
}
