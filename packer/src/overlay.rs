//! `--overlay`: a tree that is laid over the root.
//!
//! As if its files were copied onto a running system: a directory that is there keeps owner and
//! mode (an admin's folder must not make `/` belong to them), and one that is reached by a link, as
//! `/lib` is, is written to where the link leads. Anything else replaces what is there, with owner,
//! mode, time, extended attributes and hard links of its own.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, lseek};

use crate::error::PackError;
use crate::tool::Place;
use crate::tree::{Dir, Tree, remove};

/// Whom the files of an overlay belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owner {
    /// Whom they belong to on this host.
    #[default]
    Kept,
    /// root, whoever made them: for overlays from version control.
    Root,
}

/// Whether a path of an overlay is the history of a checkout, which is no part of it.
pub(crate) fn is_history(path: &Path) -> bool {
    path.starts_with(".git")
}

/// Where overlays left something, and the directories above: relative paths without any link.
pub(crate) type Laid = HashSet<PathBuf>;

/// Lays `from` over the tree, all but what `skip` names (relative paths); adds to `laid`, if it is given.
///
/// # Errors
/// [`PackError::Read`], [`PackError::OverlayClash`], [`PackError::Write`], [`PackError::DiskFull`].
pub(crate) fn apply(
    from: &Path,
    tree: &Tree,
    owner: Owner,
    skip: &dyn Fn(&Path) -> bool,
    laid: Option<&mut Laid>,
    place: Place<'_>,
) -> Result<(), PackError> {
    let mut merge = Merge { from, tree, owner, skip, laid, place, copied: HashMap::new() };
    let root = merge.open(Path::new(""))?;
    merge.dir(Path::new(""), &root)
}

/// Makes `into`, an empty directory, a copy of `from`: apply, and the root's own attributes.
///
/// # Errors
/// As [`apply`].
pub(crate) fn copy(
    from: &Path,
    into: &Path,
    skip: &dyn Fn(&Path) -> bool,
    place: Place<'_>,
) -> Result<(), PackError> {
    let tree = Tree::open(into).map_err(|e| place.write_error(into.to_owned(), e))?;
    apply(from, &tree, Owner::Kept, skip, None, place)?;
    let meta =
        fs::metadata(from).map_err(|source| PackError::Source { path: from.to_owned(), source })?;
    attributes(from, into, &meta, Owner::Kept).map_err(|e| place.write_error(into.to_owned(), e))
}

struct Merge<'a> {
    from: &'a Path,
    tree: &'a Tree,
    owner: Owner,
    skip: &'a dyn Fn(&Path) -> bool,
    laid: Option<&'a mut Laid>,
    place: Place<'a>,
    /// Files with several names: device and inode to the name that was copied.
    copied: HashMap<(u64, u64), PathBuf>,
}

impl Merge<'_> {
    fn open(&self, relative: &Path) -> Result<Dir, PackError> {
        self.tree
            .dir(relative)
            .and_then(|dir| dir.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|e| self.place.write_error(relative.to_owned(), e))
    }

    /// The entries of one directory, into the directory that stands for it.
    fn dir(&mut self, relative: &Path, into: &Dir) -> Result<(), PackError> {
        let path = self.from.join(relative);
        let error = |source| PackError::Read { path: path.clone(), source };
        let entries =
            fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(error)?;
        let modified = fs::metadata(into.path()).and_then(|meta| meta.modified()).map_err(error)?;
        let inside = match self.laid {
            Some(_) => self.tree.relative(into).map_err(error)?,
            None => PathBuf::new(),
        };
        if let Some(laid) = &mut self.laid {
            laid.extend(inside.ancestors().map(Path::to_owned));
        }
        for entry in entries {
            let relative = relative.join(entry.file_name());
            if !(self.skip)(&relative) {
                let meta = entry.metadata().map_err(error)?;
                self.entry(&relative, &meta, into)?;
                if let Some(laid) = &mut self.laid {
                    laid.insert(inside.join(entry.file_name()));
                }
            }
        }
        into.set_modified(modified).map_err(|e| self.place.write_error(relative.to_owned(), e))
    }

    fn entry(&mut self, relative: &Path, meta: &Metadata, into: &Dir) -> Result<(), PackError> {
        let (from, name) = (self.from.join(relative), relative.file_name().unwrap_or_default());
        let to = into.entry(name);
        let place = self.place;
        let write = |e| place.write_error(relative.to_owned(), e);
        let there = match fs::symlink_metadata(&to) {
            Ok(there) => Some(there),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(write(e)),
        };
        if meta.is_dir() {
            if let Some(next) = self.tree.dir(relative).map_err(write)? {
                return self.dir(relative, &next);
            }
            remove(&to).and_then(|()| fs::create_dir(&to)).map_err(write)?;
            let next = self.open(relative)?;
            self.dir(relative, &next)?;
            return attributes(&from, &to, meta, self.owner).map_err(write);
        }
        if there.is_some_and(|there| there.is_dir()) {
            return Err(PackError::OverlayClash { path: from, target: relative.to_owned() });
        }
        remove(&to).map_err(write)?;
        if meta.nlink() > 1 {
            let file = (meta.dev(), meta.ino());
            if let Some(first) = self.copied.get(&file) {
                let dir = self.open(first.parent().unwrap_or(Path::new("")))?;
                let first = dir.entry(first.file_name().unwrap_or_default());
                return fs::hard_link(first, &to).map_err(write);
            }
            self.copied.insert(file, relative.to_owned());
        }
        let kind = meta.file_type();
        if kind.is_file() {
            if meta.blocks() * 512 < meta.size() {
                copy_sparse(&from, &to).map_err(write)?;
            } else {
                fs::copy(&from, &to).map(|_| ()).map_err(write)?;
            }
        } else if kind.is_symlink() {
            let target = fs::read_link(&from)
                .map_err(|source| PackError::Read { path: from.clone(), source })?;
            symlink(target, &to).map_err(write)?;
        } else {
            let kind = SFlag::from_bits_truncate(meta.mode() & SFlag::S_IFMT.bits());
            mknod(&to, kind, Mode::from_bits_truncate(0o600), meta.rdev())
                .map_err(|errno| write(errno.into()))?;
        }
        attributes(&from, &to, meta, self.owner).map_err(write)
    }
}

/// Copies a file without filling its holes: mksquashfs takes as holes what has no room on disk.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create_new(to)?);
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let seek = |file: &File, at: u64, whence| {
        let at = i64::try_from(at).map_err(io::Error::other)?;
        match lseek(file, at, whence) {
            Ok(found) => u64::try_from(found).map(Some).map_err(io::Error::other),
            // no data from there on
            Err(Errno::ENXIO) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    };
    let mut end = 0;
    while let Some(start) = seek(&from, end, Whence::SeekData)? {
        end = seek(&from, start, Whence::SeekHole)?.unwrap_or(length);
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        io::copy(&mut (&from).take(end - start), &mut to)?;
    }
    Ok(())
}

/// Owner, mode, extended attributes and time, in the order in which one does not undo another:
/// chown(2) takes set-uid bits and capabilities away.
pub(crate) fn attributes(from: &Path, to: &Path, meta: &Metadata, owner: Owner) -> io::Result<()> {
    let (uid, gid) = match owner {
        Owner::Kept => (meta.uid(), meta.gid()),
        Owner::Root => (0, 0),
    };
    lchown(to, Some(uid), Some(gid))?;
    if !meta.file_type().is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    match xattr::list(from) {
        Ok(names) => {
            for name in names {
                if let Some(value) = xattr::get(from, &name)? {
                    xattr::set(to, &name, &value)?;
                }
            }
        }
        // a file system without them
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
        Err(e) => return Err(e),
    }
    set_modified(to, meta.modified()?)
}

/// The time of anything, a link itself included.
fn set_modified(path: &Path, modified: SystemTime) -> io::Result<()> {
    let time = match modified.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => TimeSpec::from_duration(since),
        // before 1970
        Err(e) => {
            let before = e.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match i64::from(before.subsec_nanos()) {
                0 => TimeSpec::new(-seconds, 0),
                nanos => TimeSpec::new(-seconds - 1, 1_000_000_000 - nanos),
            }
        }
    };
    let flags = UtimensatFlags::NoFollowSymlink;
    Ok(utimensat(AT_FDCWD, path, &TimeSpec::UTIME_OMIT, &time, flags)?)
}
