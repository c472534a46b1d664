//! Walks over a tree: removing what is replaced or whited out, and setting times.
//!
//! A tree is never deeper than `Tree` allows, so that a function may call itself and hold a
//! directory open at each step.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::make;
use super::tree::{Directory, Place};

/// Removes `name` with everything below it, but for what is in `keep`, and the way there.
pub(super) fn remove(parent: &OwnedFd, name: &[u8], keep: &HashSet<Place>) -> Result<(), Errno> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let kept =
        !keep.is_empty() && keep.contains(&(rustix::fs::fstat(parent)?.st_ino, name.to_vec()));
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return if kept { Ok(()) } else { rustix::fs::unlinkat(parent, name, AtFlags::empty()) };
    }
    clear(&open(parent, name)?, keep)?;
    if kept {
        return Ok(());
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        // something in it stays
        Err(Errno::NOTEMPTY) if !keep.is_empty() => Ok(()),
        result => result,
    }
}

/// Removes everything in a directory, but for what is in `keep`, and the way there.
pub(super) fn clear(directory: &OwnedFd, keep: &HashSet<Place>) -> Result<(), Errno> {
    for name in names(directory)? {
        remove(directory, &name, keep)?;
    }
    Ok(())
}

/// Sets the time of every directory, the lowest first.
pub(super) fn set_times(
    directory: &OwnedFd,
    directories: &HashMap<u64, Directory>,
) -> Result<(), Errno> {
    for name in names(directory)? {
        let stat = rustix::fs::statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            set_times(&open(directory, &name)?, directories)?;
        }
    }
    let inode = rustix::fs::fstat(directory)?.st_ino;
    let modified = directories.get(&inode).map_or(make::BEGIN, |known| known.modified);
    rustix::fs::futimens(directory, &make::times(modified))
}

fn open(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// All names first: a directory that changes while it is read may show some of them twice.
fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}
