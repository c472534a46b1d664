//! Changes to the disk that are whole or absent after a crash.
//!
//! Each is: make it under `tmp/`, fsync it, rename(2) it into place, fsync the directory.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{AT_FDCWD, Flock, FlockArg};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::crash::{dead, step};
use crate::error::StoreError;

/// Files are for everybody to read: the seeder and tracker run as users of their own.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |source| StoreError::Write { path: path.to_owned(), source }
}

/// fsync(2) of a file or directory.
pub(crate) fn sync(path: &Path) -> Result<(), StoreError> {
    step()?;
    let error = |source| StoreError::Sync { path: path.to_owned(), source };
    File::open(path).and_then(|f| f.sync_all()).map_err(error)
}

/// Makes a directory (mode 0755 whatever the umask) and its parents; each is on disk afterwards.
pub(crate) fn create_dir(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(p) if p.as_os_str().is_empty() => Path::new("."),
        Some(p) => p,
        None => Path::new("/"),
    };
    create_dir(parent)?;
    step()?;
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Ok(()) => {
            fs::set_permissions(path, Permissions::from_mode(DIR_MODE))
                .map_err(write_error(path))?;
            sync(parent)
        }
        // another packer was faster
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(write_error(path)(e)),
    }
}

/// Writes a new file (mode 0644) and brings it to disk. Fails when the path exists.
pub(crate) fn create_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    step()?;
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(FILE_MODE))
    };
    write().map_err(write_error(path))?;
    sync(path)
}

/// Makes a file readable for all and brings it to disk.
pub(crate) fn settle_file(path: &Path) -> Result<(), StoreError> {
    step()?;
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE)).map_err(write_error(path))?;
    sync(path)
}

/// Makes a directory readable for all and brings it to disk.
pub(crate) fn settle_dir(path: &Path) -> Result<(), StoreError> {
    step()?;
    fs::set_permissions(path, Permissions::from_mode(DIR_MODE)).map_err(write_error(path))?;
    sync(path)
}

/// Lets nobody else look into a directory.
pub(crate) fn make_private(path: &Path) -> Result<(), StoreError> {
    step()?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(write_error(path))
}

/// rename(2); the parent of `to` is on disk afterwards.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    step()?;
    fs::rename(from, to).map_err(|source| StoreError::Rename {
        from: from.to_owned(),
        to: to.to_owned(),
        source,
    })?;
    sync_parent(to)
}

/// Puts a symbolic link with modification time `time` at `link`, in place of one that may be
/// there. `scratch` is a free path on the same file system.
pub(crate) fn replace_link(
    target: &Path,
    link: &Path,
    scratch: &Path,
    time: SystemTime,
) -> Result<(), StoreError> {
    step()?;
    symlink(target, scratch).map_err(write_error(scratch))?;
    let time = TimeSpec::from(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    utimensat(AT_FDCWD, scratch, &time, &time, UtimensatFlags::NoFollowSymlink)
        .map_err(|errno| write_error(scratch)(errno.into()))?;
    rename(scratch, link)
}

/// A file that is on disk, whole, but not in its place yet. So whoever lacks the room for it learns that before
/// anything of the store changes. Dropping it removes it.
#[derive(Debug)]
#[must_use = "it is not in its place"]
pub(crate) struct Prepared {
    scratch: PathBuf,
    to: PathBuf,
    is_adopted: bool,
}

impl Prepared {
    /// Writes what is to become `to`. `scratch` is a path on the same file system that nobody else uses now.
    pub(crate) fn new(bytes: &[u8], scratch: PathBuf, to: PathBuf) -> Result<Self, StoreError> {
        // of a packer that was killed here
        remove_tree(&scratch)?;
        // first, so that what is written in part goes away as well
        let this = Self { scratch, to, is_adopted: false };
        create_file(&this.scratch, bytes)?;
        Ok(this)
    }

    /// Puts it in its place.
    pub(crate) fn adopt(mut self) -> Result<(), StoreError> {
        rename(&self.scratch, &self.to)?;
        self.is_adopted = true;
        Ok(())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.is_adopted && !dead() {
            // what cannot be removed now is removed by the next packer
            let _ = fs::remove_file(&self.scratch);
        }
    }
}

/// Removes a file or link that may be absent; its parent is on disk afterwards.
pub(crate) fn remove_file(path: &Path) -> Result<(), StoreError> {
    step()?;
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StoreError::Remove { path: path.to_owned(), source }),
    }
}

/// Removes whatever lies at `path`: nothing refers to it, so the order does not matter.
pub(crate) fn remove_tree(path: &Path) -> Result<(), StoreError> {
    step()?;
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Remove { path: path.to_owned(), source: e })
        }
        _ => Ok(()),
    }
}

/// Opens (and makes) a lock file and waits until it is ours.
pub(crate) fn lock(path: &Path) -> Result<Flock<File>, StoreError> {
    let error = |source| StoreError::Lock { path: path.to_owned(), source };
    let file = open_lock(path).map_err(write_error(path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| error(errno.into()))
}

/// The lock at `path` if nobody holds it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Flock<File>>, StoreError> {
    let error = |source| StoreError::Lock { path: path.to_owned(), source };
    let file = open_lock(path).map_err(write_error(path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(error(errno.into())),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    path.parent().map_or(Ok(()), sync)
}
