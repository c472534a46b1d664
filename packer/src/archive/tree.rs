//! A directory that archives are unpacked into, and that nothing in them leads out of.
//!
//! Every path is resolved by the kernel with the tree as its root (`openat2` with
//! `RESOLVE_IN_ROOT`): a symbolic link, wherever an archive puts one, points into the tree. What is
//! made is made in a directory that is held open, under a name that is not followed.
//!
//! A second archive is a layer upon the first when it is unpacked as one: `.wh.NAME` then removes
//! NAME, and `.wh..wh..opq` all that its directory has from the layers below (OCI image
//! specification, "Image Layer Filesystem Changeset").

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec};
use rustix::io::Errno;

use super::error::ArchiveError;
use super::fault::{Fault, cannot};
use super::member::{Kind, Member, Members};
use super::{make, purge};

/// Directories within directories; more than any system has, fewer than open files are allowed.
const DEEPEST: u16 = 512;
const TOO_DEEP: Fault = Fault::Path(
    "which lies more than 512 directories deep: leave it out when you make the archive",
);

/// Links to directories that are not there yet, one behind the other.
const MOST_LINKS: u8 = 40;

/// Names that begin so are instructions in a layer.
const WHITEOUT: &[u8] = b".wh.";
/// Of these, names that begin so are about the layer itself.
const ABOUT_LAYER: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an archive is to the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// All of it: no name has a meaning.
    Root,
    /// A layer of an image, with whiteouts.
    Layer,
}

/// A name of the tree: the directory, by inode, and the name in it.
pub(super) type Place = (u64, Vec<u8>);

/// A directory of the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory {
    /// Directories between it and the root.
    depth: u16,
    /// Set at the end, since whatever is put into a directory changes its time.
    /// 1970 for one that no archive has a word about.
    pub(super) modified: Timespec,
}

/// A directory that archives are unpacked into.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    role: Role,
    /// Every directory, by inode.
    directories: HashMap<u64, Directory>,
    /// Names that the current archive has given: its own whiteouts do not concern them.
    fresh: HashSet<Place>,
    acls: bool,
}

impl Tree {
    /// Takes a directory: an empty one, or one in which the new directories need no times.
    ///
    /// # Errors
    /// Those of opening it.
    pub(crate) fn new(path: &Path, role: Role) -> std::io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let inode = rustix::fs::fstat(&root)?.st_ino;
        let directories = HashMap::from([(inode, Directory { depth: 0, modified: make::BEGIN })]);
        Ok(Self { root, role, directories, fresh: HashSet::new(), acls: false })
    }

    /// Whether a member had POSIX ACLs, which are not kept.
    pub(crate) fn had_acls(&self) -> bool {
        self.acls
    }

    /// Whether there is something at this path, links within the tree followed.
    pub(crate) fn has(&self, path: &str) -> bool {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).is_ok()
    }

    /// Unpacks an archive upon what there is.
    ///
    /// # Errors
    /// [`ArchiveError`]; the tree is then half done.
    pub(crate) fn unpack(&mut self, members: &mut Members<impl Read>) -> Result<(), ArchiveError> {
        self.fresh.clear();
        while let Some(member) = members.next()? {
            self.acls |= member.has_acl;
            let added = self.add(&member, members);
            added.map_err(|fault| fault.of(&member.path, members.position()))?;
        }
        Ok(())
    }

    /// Puts one member into the tree.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) fn put(
        &mut self,
        member: &Member,
        content: &mut impl Read,
    ) -> Result<(), ArchiveError> {
        self.add(member, content).map_err(|fault| fault.of(&member.path, 0))
    }

    /// Gives every directory its time; the tree is finished.
    ///
    /// # Errors
    /// Those of reading directories and setting times.
    pub(crate) fn finish(self) -> std::io::Result<()> {
        Ok(purge::set_times(&self.root, &self.directories)?)
    }

    fn add(&mut self, member: &Member, content: &mut impl Read) -> Result<(), Fault> {
        let parts = parts(&member.path)?;
        let Some((name, above)) = parts.split_last() else {
            if member.kind != Kind::Directory {
                return Err(Fault::Path("which is the root itself and no directory"));
            }
            return self.change_directory(&self.open(b".").map_err(cannot("open"))?, member);
        };
        if self.role == Role::Layer && name.starts_with(WHITEOUT) {
            return self.white_out(above, name);
        }
        let parent = self.directory(above, MOST_LINKS)?;
        let place = (inode(&parent)?, name.to_vec());
        match &member.kind {
            Kind::Directory => {
                let there =
                    lookup(&parent, name)?.map(|stat| FileType::from_raw_mode(stat.st_mode));
                if there != Some(FileType::Directory) {
                    self.remove(&parent, name)?;
                    self.make_directory(&parent, name)?;
                }
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&parent, *name, flags, Mode::empty());
                self.change_directory(&made.map_err(cannot("open"))?, member)?;
            }
            Kind::Hardlink(target) => {
                let from = self.target(target)?;
                // a link to itself is there already
                if from.1 != place {
                    self.remove(&parent, name)?;
                    let (dir, place) = (&from.0, &from.1);
                    rustix::fs::linkat(dir, &*place.1, &parent, *name, AtFlags::empty())
                        .map_err(cannot("link"))?;
                }
            }
            _ => {
                self.remove(&parent, name)?;
                make::make(&parent, name, member, content)?;
            }
        }
        if self.role == Role::Layer {
            self.fresh.insert(place);
        }
        Ok(())
    }

    /// The directory of a hard link's target, and where in it the target is.
    fn target(&self, target: &[u8]) -> Result<(OwnedFd, Place), Fault> {
        let parts = parts(target)?;
        let missing = || Fault::NoTarget(target.to_vec());
        let (name, above) = parts.split_last().ok_or_else(missing)?;
        let parent = self.open(&join(above)).map_err(|_| missing())?;
        lookup(&parent, name)?.ok_or_else(missing)?;
        let place = (inode(&parent)?, name.to_vec());
        Ok((parent, place))
    }

    /// Opens a directory of the tree.
    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Opens a directory of the tree; what is missing on the way to it is made.
    fn directory(&mut self, above: &[&[u8]], links: u8) -> Result<OwnedFd, Fault> {
        match self.open(&join(above)) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Fault::Refused("open the directory of", errno)),
            Ok(found) => return Ok(found),
        }
        let mut parent = self.open(b".").map_err(cannot("open"))?;
        for end in 1..=above.len() {
            let (name, before) = (above[end - 1], &above[..end - 1]);
            parent = match self.open(&join(&above[..end])) {
                Ok(found) => found,
                Err(Errno::NOENT) => match lookup(&parent, name)? {
                    None => {
                        self.make_directory(&parent, name)?;
                        self.open(&join(&above[..end])).map_err(cannot("open"))?
                    }
                    // a link to a directory that is to come: it comes now
                    Some(_) => {
                        let links = links
                            .checked_sub(1)
                            .ok_or(Fault::Refused("make the directory of", Errno::LOOP))?;
                        let target = rustix::fs::readlinkat(&parent, name, Vec::new());
                        let target = target.map_err(cannot("follow the directory of"))?;
                        let target = target.as_bytes();
                        let start = if target.starts_with(b"/") { &[] } else { before };
                        let steps = target.split(|byte| *byte == b'/').filter(|s| !s.is_empty());
                        let path: Vec<&[u8]> = start.iter().copied().chain(steps).collect();
                        self.directory(&path, links)?
                    }
                },
                Err(errno) => return Err(Fault::Refused("open the directory of", errno)),
            };
        }
        Ok(parent)
    }

    fn make_directory(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), Fault> {
        let above = self.directories.get(&inode(parent)?).map_or(0, |directory| directory.depth);
        let depth = above + 1;
        if depth > DEEPEST {
            return Err(TOO_DEEP);
        }
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(cannot("make"))?;
        // not what the umask leaves of it
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())
            .map_err(cannot("make"))?;
        let stat = lookup(parent, name)?.ok_or(Fault::Refused("make", Errno::NOENT))?;
        self.directories.insert(stat.st_ino, Directory { depth, modified: make::BEGIN });
        Ok(())
    }

    /// Owner, mode, attributes and time of a directory, as this member has them.
    fn change_directory(&mut self, directory: &OwnedFd, member: &Member) -> Result<(), Fault> {
        if let Some(known) = self.directories.get_mut(&inode(directory)?) {
            known.modified = member.modified;
        }
        make::change_directory(directory, member)
    }

    /// Removes what has this name, if anything has.
    fn remove(&self, parent: &OwnedFd, name: &[u8]) -> Result<(), Fault> {
        purge::remove(parent, name, &HashSet::new()).map_err(cannot("replace"))
    }

    fn white_out(&self, above: &[&[u8]], name: &[u8]) -> Result<(), Fault> {
        let parent = match self.open(&join(above)) {
            Ok(parent) => parent,
            // nothing is there that could be removed
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(Fault::Refused("open the directory of", errno)),
        };
        if name == OPAQUE {
            return purge::clear(&parent, &self.fresh).map_err(cannot("carry out"));
        }
        if name.starts_with(ABOUT_LAYER) {
            return Ok(());
        }
        match &name[WHITEOUT.len()..] {
            b"" | b"." | b".." => Err(Fault::Path("a whiteout of nothing that can be removed")),
            hidden => purge::remove(&parent, hidden, &self.fresh).map_err(cannot("carry out")),
        }
    }
}

/// The names of a path. A slash at the start is left out, as every tar program does.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    if path.contains(&0) {
        return Err(Fault::Path("with a NUL byte in its name"));
    }
    let steps = path.split(|byte| *byte == b'/').filter(|s| !s.is_empty() && *s != b".");
    let steps: Vec<&[u8]> = steps.collect();
    if steps.contains(&&b".."[..]) {
        return Err(Fault::Path("which leads out with \"..\""));
    }
    Ok(steps)
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') }
}

pub(super) fn inode(file: &OwnedFd) -> Result<u64, Fault> {
    Ok(rustix::fs::fstat(file).map_err(cannot("look at"))?.st_ino)
}

/// What has this name; a link is not followed.
fn lookup(parent: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Fault> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Fault::Refused("look at", errno)),
    }
}
