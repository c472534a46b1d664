//! Loop devices: a file shown as a block device (loop(4)).
//!
//! The image lies on a tmpfs and is mounted through a loop device, and the same device is what a
//! booted node re-seeds from. A device stays attached when the file is unlinked, its file system
//! unmounted lazily, or the process that attached it gone.

mod ioctl;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, thread};

use nix::errno::Errno;
use thiserror::Error;

/// The unit in which the kernel counts the size of a loop device: a tail shorter than this is
/// dropped, with no more than a warning in the kernel log.
pub const SECTOR: u64 = 512;

/// How often a free device is asked for when others take it first.
const ATTEMPTS: u32 = 64;

/// A loop device could not be attached, examined or detached.
#[derive(Debug, Error)]
pub enum LoopError {
    /// The loop driver is not there.
    #[error("cannot open /dev/loop-control: load the kernel module `loop` (modprobe loop)")]
    Control {
        /// What open(2) said.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no free device.
    #[error("the kernel gave no free loop device")]
    Free {
        /// What the ioctl said.
        #[source]
        source: io::Error,
    },
    /// Every device that was free was taken by somebody else before we had it.
    #[error(
        "lost the race for a free loop device {attempts} times: \
         too many programs attach loop devices at once"
    )]
    Contended {
        /// Devices tried.
        attempts: u32,
    },
    /// A file or device could not be opened or examined.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file or device.
        path: PathBuf,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// The file would lose its tail.
    #[error(
        "{} has {len} bytes, not a multiple of {SECTOR}: a loop device would cut off its tail; pad the image (bee-packer does)",
        path.display()
    )]
    Unaligned {
        /// The backing file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// The kernel refused to attach the file.
    #[error("cannot attach {} to {}", backing.display(), device.display())]
    Attach {
        /// The backing file.
        backing: PathBuf,
        /// The device.
        device: PathBuf,
        /// What the ioctl said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to detach the device.
    #[error("cannot detach {}", device.display())]
    Detach {
        /// The device.
        device: PathBuf,
        /// What the ioctl said.
        #[source]
        source: io::Error,
    },
    /// The path is not a block device.
    #[error("{} is not a block device", path.display())]
    NotBlockDevice {
        /// The path.
        path: PathBuf,
    },
}

/// How a file is attached. The default is what an image needs: read-only, stays attached.
#[derive(Debug, Clone)]
pub struct AttachOptions {
    /// Nobody can write through the device.
    pub read_only: bool,
    /// The kernel detaches the device when its last user closes it.
    pub autoclear: bool,
    /// The driver reads the backing file with direct I/O where the file system can; a refusal is
    /// not an error.
    pub direct_io: bool,
    /// Logical block size in bytes (512 to 4096, a power of two); the kernel's default is 512.
    pub block_size: Option<u32>,
}

impl Default for AttachOptions {
    fn default() -> Self {
        Self { read_only: true, autoclear: false, direct_io: false, block_size: None }
    }
}

/// Major and minor number of a device. Displayed `7:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Driver (7 is loop).
    pub major: u32,
    /// Device of that driver.
    pub minor: u32,
}

impl DeviceNumber {
    /// Number of an open block device.
    ///
    /// # Errors
    /// [`LoopError::NotBlockDevice`] when `file` is something else; `path` is named in errors.
    pub fn of_file(file: &File, path: &Path) -> Result<Self, LoopError> {
        let meta = file.metadata().map_err(|e| LoopError::Open { path: path.into(), source: e })?;
        if !meta.file_type().is_block_device() {
            return Err(LoopError::NotBlockDevice { path: path.into() });
        }
        let dev = meta.rdev();
        let small = |n: u64| u32::try_from(n).expect("Linux has 12 and 20 bits for these");
        Ok(Self {
            major: small(nix::sys::stat::major(dev)),
            minor: small(nix::sys::stat::minor(dev)),
        })
    }

    /// Number of the block device at `path`.
    ///
    /// # Errors
    /// As [`Self::of_file`], and [`LoopError::Open`].
    pub fn of_path(path: &Path) -> Result<Self, LoopError> {
        Self::of_file(&open(path, false)?, path)
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// An attached loop device. Dropping it closes the handle and leaves the device attached (unless
/// [`AttachOptions::autoclear`] was asked for and nobody else holds it).
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    file: File,
    number: DeviceNumber,
}

impl LoopDevice {
    /// `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Major and minor number.
    pub fn number(&self) -> DeviceNumber {
        self.number
    }

    /// The open device.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Length of the device in bytes.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn size(&self) -> Result<u64, LoopError> {
        size_of(&self.file, &self.path)
    }

    /// Detaches the device. The kernel does it when the last user closes it: at once, unless it is
    /// mounted or open elsewhere.
    ///
    /// # Errors
    /// [`LoopError::Detach`].
    pub fn detach(self) -> Result<(), LoopError> {
        detach_open(&self.file, &self.path)
    }
}

/// Attaches `backing` to a free loop device.
///
/// # Errors
/// The driver is missing, the file cannot be opened or has an odd length, or the kernel refuses.
pub fn attach(backing: &Path, options: &AttachOptions) -> Result<LoopDevice, LoopError> {
    let file = open(backing, !options.read_only)?;
    let len =
        file.metadata().map_err(|e| LoopError::Open { path: backing.into(), source: e })?.len();
    if len % SECTOR != 0 {
        return Err(LoopError::Unaligned { path: backing.into(), len });
    }
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(|e| LoopError::Control { source: e })?;

    for attempt in 0..ATTEMPTS {
        if let Some(device) = attach_to_free(&control, &file, backing, options, ioctl::configure)? {
            return Ok(device);
        }
        thread::sleep(Duration::from_millis(u64::from(attempt.min(20))));
    }
    Err(LoopError::Contended { attempts: ATTEMPTS })
}

/// How the driver is told; see [`ioctl::configure`].
type Configure = fn(&File, &File, &Path, &AttachOptions) -> Result<(), Errno>;

/// One attempt. `None`: another program was faster; asking again helps.
fn attach_to_free(
    control: &File,
    file: &File,
    backing: &Path,
    options: &AttachOptions,
    configure: Configure,
) -> Result<Option<LoopDevice>, LoopError> {
    let number = ioctl::get_free(control).map_err(|e| LoopError::Free { source: e.into() })?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = match open(&path, !options.read_only) {
        Ok(device) => device,
        // ENXIO: somebody took it, and its detach is under way at this moment.
        Err(LoopError::Open { source, .. })
            if source.raw_os_error() == Some(Errno::ENXIO as i32) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    match configure(&device, file, backing, options) {
        Ok(()) => {
            let number = DeviceNumber::of_file(&device, &path)?;
            Ok(Some(LoopDevice { path, file: device, number }))
        }
        Err(Errno::EBUSY) => Ok(None),
        Err(e) => {
            Err(LoopError::Attach { backing: backing.into(), device: path, source: e.into() })
        }
    }
}

/// Detaches the loop device at `device`.
///
/// # Errors
/// [`LoopError::Open`] or [`LoopError::Detach`].
pub fn detach(device: &Path) -> Result<(), LoopError> {
    detach_open(&open(device, false)?, device)
}

/// Length in bytes of a block device (or of a regular file).
///
/// # Errors
/// [`LoopError::Open`].
pub fn device_size(path: &Path) -> Result<u64, LoopError> {
    size_of(&open(path, false)?, path)
}

/// What a loop device shows: the path of its backing file as sysfs tells it. A file that was
/// unlinked meanwhile has ` (deleted)` at its end. `None`: no loop device, or nothing attached.
pub fn backing_file(number: DeviceNumber) -> Option<PathBuf> {
    let text =
        std::fs::read_to_string(format!("/sys/dev/block/{number}/loop/backing_file")).ok()?;
    Some(PathBuf::from(text.trim_end_matches('\n')))
}

fn open(path: &Path, write: bool) -> Result<File, LoopError> {
    OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| LoopError::Open { path: path.into(), source: e })
}

fn size_of(mut file: &File, path: &Path) -> Result<u64, LoopError> {
    // For a block device the end of the file is the size of the device: no ioctl is needed.
    file.seek(SeekFrom::End(0)).map_err(|e| LoopError::Open { path: path.into(), source: e })
}

fn detach_open(file: &File, path: &Path) -> Result<(), LoopError> {
    ioctl::clear(file).map_err(|e| LoopError::Detach { device: path.into(), source: e.into() })
}

#[cfg(test)]
mod tests;
