//! Making one file, link or device of a tree, with everything that belongs to it.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::fault::{Fault, cannot};
use super::member::{Kind, Layout, Member};

/// Bytes that are copied at a time.
const CHUNK: usize = 256 * 1024;

/// Makes `name` in `parent`, where nothing has that name. Directories and hard links are the
/// tree's own business.
pub(super) fn make(
    parent: &OwnedFd,
    name: &[u8],
    member: &Member,
    content: &mut impl Read,
) -> Result<(), Fault> {
    let device = |kind, major, minor| {
        let number: Dev = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), number)
            .map_err(cannot("make the device"))
    };
    match &member.kind {
        Kind::File(layout) => make_file(parent, name, layout, content)?,
        Kind::Symlink(target) => {
            rustix::fs::symlinkat(&**target, parent, name).map_err(cannot("make the link"))?;
        }
        Kind::Character(major, minor) => device(FileType::CharacterDevice, *major, *minor)?,
        Kind::Block(major, minor) => device(FileType::BlockDevice, *major, *minor)?,
        Kind::Fifo => device(FileType::Fifo, 0, 0)?,
        Kind::Directory | Kind::Hardlink(_) => return Ok(()),
    }
    // in this order: a new owner takes set-uid bits and capabilities away
    let (uid, gid) = owner(member);
    rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(cannot("change the owner of"))?;
    if !matches!(member.kind, Kind::Symlink(_)) {
        let mode = Mode::from_raw_mode(member.mode);
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
            .map_err(cannot("change the mode of"))?;
    }
    // the directory is held open; its name in /proc is not a path that a link could change
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    for (key, value) in &member.attributes {
        rustix::fs::lsetxattr(&*path, &**key, value, XattrFlags::empty())
            .map_err(cannot("set an extended attribute of"))?;
    }
    rustix::fs::utimensat(parent, name, &times(member.modified), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(cannot("set the time of"))
}

/// Owner, mode and attributes of a directory; attributes that it had before go.
pub(super) fn change_directory(directory: &OwnedFd, member: &Member) -> Result<(), Fault> {
    let (uid, gid) = owner(member);
    rustix::fs::fchown(directory, uid, gid).map_err(cannot("change the owner of"))?;
    rustix::fs::fchmod(directory, Mode::from_raw_mode(member.mode))
        .map_err(cannot("change the mode of"))?;
    for key in attributes(directory).map_err(cannot("read the attributes of"))? {
        if !member.attributes.iter().any(|(name, _)| *name == key) {
            match rustix::fs::fremovexattr(directory, &*key) {
                // the system's own labels are not ours to remove
                Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::NODATA) => {}
                Err(errno) => return Err(Fault::Refused("remove an attribute of", errno)),
            }
        }
    }
    for (key, value) in &member.attributes {
        rustix::fs::fsetxattr(directory, &**key, value, XattrFlags::empty())
            .map_err(cannot("set an extended attribute of"))?;
    }
    Ok(())
}

/// Names of a directory's extended attributes.
fn attributes(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = vec![0; 64 * 1024];
    let length = match rustix::fs::flistxattr(directory, &mut *names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno),
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

fn owner(member: &Member) -> (Option<Uid>, Option<Gid>) {
    let (uid, gid) = member.owner;
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// 1970: the time of what no archive mentions.
pub(crate) const BEGIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// When it was modified; when it was read last is of no interest.
pub(super) fn times(modified: Timespec) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: modified,
    }
}

fn make_file(
    parent: &OwnedFd,
    name: &[u8],
    layout: &Layout,
    content: &mut impl Read,
) -> Result<(), Fault> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
        .map_err(cannot("make"))?;
    let mut file = File::from(file);
    match layout {
        Layout::Whole(length) => copy(content, &mut file, *length),
        Layout::Sparse { length, regions } => {
            for (offset, length) in regions {
                file.seek(SeekFrom::Start(*offset)).map_err(|e| write_fault(&e))?;
                copy(content, &mut file, *length)?;
            }
            file.set_len(*length).map_err(|e| write_fault(&e))
        }
    }
}

fn write_fault(error: &io::Error) -> Fault {
    Fault::Refused("write", Errno::from_io_error(error).unwrap_or(Errno::IO))
}

fn copy(from: &mut impl Read, to: &mut File, length: u64) -> Result<(), Fault> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(length).unwrap_or(CHUNK))];
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(CHUNK).min(buffer.len());
        let count = match from.read(&mut buffer[..most]) {
            Ok(0) => return Err(Fault::Content(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Fault::Content(error)),
        };
        to.write_all(&buffer[..count]).map_err(|e| write_fault(&e))?;
        left -= count as u64;
    }
    Ok(())
}
