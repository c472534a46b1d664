//! Mounting what a stateless root is made of: tmpfs, an image, overlay (mount(2)).

mod image;
mod table;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use thiserror::Error;

pub use image::image;
pub use table::is_listed;

/// Something could not be mounted or unmounted.
#[derive(Debug, Error)]
pub enum MountError {
    /// The kernel refused the mount.
    #[error("cannot mount {kind} on {}{}", target.display(), remedy(kind, source))]
    Mount {
        /// File-system type.
        kind: &'static str,
        /// Mount point.
        target: PathBuf,
        /// What mount(2) said.
        #[source]
        source: Errno,
    },
    /// What is on the device is no image of ours.
    #[error(
        "{} holds neither a squashfs nor an EROFS image that can be read: pack it with bee-packer",
        device.display()
    )]
    Image {
        /// The block device.
        device: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the unmount.
    #[error("cannot unmount {}", target.display())]
    Unmount {
        /// Mount point.
        target: PathBuf,
        /// What umount2(2) said.
        #[source]
        source: Errno,
    },
    /// The kernel gave no mount namespace.
    #[error("cannot make a mount namespace{}", remedy("", source))]
    Namespace {
        /// What unshare(2) or mount(2) said.
        #[source]
        source: Errno,
    },
    /// The list of mounts cannot be read.
    #[error("cannot read {}: is /proc mounted?", path.display())]
    Table {
        /// The file of /proc.
        path: PathBuf,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// Whether the device itself could not be read (EIO), whatever it holds.
    pub fn is_read_error(&self) -> bool {
        let errno = match self {
            Self::Image { source, .. } => source.raw_os_error(),
            Self::Mount { source, .. } => Some(*source as i32),
            _ => None,
        };
        errno == Some(Errno::EIO as i32)
    }
}

/// What to do about the refusals that are met in practice.
fn remedy(kind: &str, errno: &Errno) -> String {
    match errno {
        Errno::ENODEV => format!(
            ": the kernel has no {kind}; load its module or put it into the initrd (dracut --add-drivers {kind})"
        ),
        Errno::ENOENT => ": the mount point or the source does not exist".into(),
        Errno::EPERM => ": needs root (CAP_SYS_ADMIN)".into(),
        Errno::EINVAL | Errno::EOPNOTSUPP if matches!(kind, "squashfs" | "erofs") => {
            format!(": a damaged {kind} image, or one with a compressor this kernel lacks")
        }
        _ => String::new(),
    }
}

/// Settings of a tmpfs.
#[derive(Debug, Clone, Copy)]
pub struct TmpfsOptions {
    /// The most it may hold, in bytes. `None` is the kernel's default: half of the memory.
    pub size: Option<u64>,
    /// Permission bits of its root directory.
    pub mode: u32,
    /// Spread the pages over all NUMA nodes, so that an image does not fill one of them.
    pub interleave: bool,
    /// Huge pages as far as a file reaches: writing an image takes half as long, reading it two
    /// thirds.
    pub huge: bool,
    /// No set-user-id programs, devices or programs at all in it. Right for data, wrong for a root.
    pub data_only: bool,
}

impl TmpfsOptions {
    /// What is asked for but can be done without: not every kernel knows it.
    fn wishes(&self) -> impl Iterator<Item = &'static str> {
        let interleave = self.interleave.then_some("mpol=interleave");
        interleave.into_iter().chain(self.huge.then_some("huge=within_size"))
    }
}

/// Mounts a tmpfs on `target`. A kernel without NUMA refuses to interleave, one without transparent
/// huge pages to use them: then the tmpfs is mounted without what was refused. Returns what was
/// granted of both, as options of tmpfs(5).
///
/// # Errors
/// [`MountError::Mount`].
pub fn tmpfs(target: &Path, options: &TmpfsOptions) -> Result<Vec<&'static str>, MountError> {
    let mut flags = MsFlags::empty();
    if options.data_only {
        flags |= MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    }
    let mut plain = format!("mode={:o}", options.mode);
    if let Some(size) = options.size {
        plain.push_str(&format!(",size={size}"));
    }
    let with = |wishes: &[&str]| {
        let data = wishes.iter().fold(plain.clone(), |data, wish| format!("{data},{wish}"));
        match mount("tmpfs", Some(OsStr::new("tmpfs")), target, flags, data.as_ref()) {
            Err(MountError::Mount { source: Errno::EINVAL, .. }) if !wishes.is_empty() => Ok(false),
            other => other.map(|()| true),
        }
    };
    let wishes: Vec<&'static str> = options.wishes().collect();
    if with(&wishes)? {
        return Ok(wishes);
    }
    for wish in wishes {
        if with(&[wish])? {
            return Ok(vec![wish]);
        }
    }
    with(&[])?;
    Ok(Vec::new())
}

/// Mounts an overlay on `target`: `upper` (writable, with its empty `work` directory on the same
/// file system) over `lower` (the first one on top).
///
/// # Errors
/// [`MountError::Mount`].
pub fn overlay(
    target: &Path,
    lower: &[&Path],
    upper: &Path,
    work: &Path,
) -> Result<(), MountError> {
    let mut data = b"lowerdir=".to_vec();
    for (index, dir) in lower.iter().enumerate() {
        if index > 0 {
            data.push(b':');
        }
        escape_into(&mut data, dir);
    }
    data.extend_from_slice(b",upperdir=");
    escape_into(&mut data, upper);
    data.extend_from_slice(b",workdir=");
    escape_into(&mut data, work);
    let source = Some(OsStr::new("overlay"));
    mount("overlay", source, target, MsFlags::empty(), OsStr::from_bytes(&data))
}

/// Overlay separates directories by `:` and options by `,`; a backslash takes their meaning away.
fn escape_into(data: &mut Vec<u8>, path: &Path) {
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            data.push(b'\\');
        }
        data.push(byte);
    }
}

/// Puts the calling thread, and the programs that it starts, into a mount namespace of its own
/// (mount_namespaces(7)): nobody else sees what is mounted from now on, and it is gone when the
/// last of them ends, however that comes. What the host mounts and unmounts still arrives.
///
/// # Errors
/// [`MountError::Namespace`]: without CAP_SYS_ADMIN, as in most containers.
pub fn own_namespace() -> Result<(), MountError> {
    let error = |source| MountError::Namespace { source };
    unshare(CloneFlags::CLONE_NEWNS).map_err(error)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    nix::mount::mount(None::<&Path>, "/", None::<&Path>, flags, None::<&Path>).map_err(error)
}

/// Unmounts `target`. `lazy`: out of the tree at once, really gone when the last user is.
///
/// # Errors
/// [`MountError::Unmount`].
pub fn unmount(target: &Path, lazy: bool) -> Result<(), MountError> {
    let flags = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    umount2(target, flags | MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|e| MountError::Unmount { target: target.into(), source: e })
}

/// Whether something is mounted on exactly this path (which must be absolute and free of links).
///
/// # Errors
/// [`MountError::Table`].
pub fn is_mounted(target: &Path) -> Result<bool, MountError> {
    let path = Path::new("/proc/self/mountinfo");
    let text =
        std::fs::read(path).map_err(|e| MountError::Table { path: path.into(), source: e })?;
    Ok(is_listed(&text, target))
}

fn mount(
    kind: &'static str,
    source: Option<&OsStr>,
    target: &Path,
    flags: MsFlags,
    data: &OsStr,
) -> Result<(), MountError> {
    nix::mount::mount(source, target, Some(kind), flags, Some(data))
        .map_err(|e| MountError::Mount { kind, target: target.into(), source: e })
}

#[cfg(test)]
mod tests;
