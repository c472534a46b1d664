//! A root tree that is written to. Every path is resolved inside it, as if it were `/` already: a
//! link such as `/etc -> /etc` in an unpacked root must never lead to the host's files.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree(File);

/// A directory of it.
#[derive(Debug)]
pub(crate) struct Dir(File);

/// Of a file or directory that is added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: SystemTime,
}

impl Tree {
    /// Opens the tree at `path`.
    ///
    /// # Errors
    /// Those of open(2).
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::options().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path).map(Self)
    }

    fn at(&self, relative: &Path, flags: OFlag) -> io::Result<Option<File>> {
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        // a pipe in the tree must hold nobody up; what opens only a path never does
        let wait = if flags.contains(OFlag::O_PATH) { OFlag::empty() } else { OFlag::O_NONBLOCK };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC | wait)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(&self.0, relative, how) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The directory at `relative`, links followed within the tree; `None` when there is none.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub(crate) fn dir(&self, relative: &Path) -> io::Result<Option<Dir>> {
        Ok(self.at(relative, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?.map(Dir))
    }

    /// The regular file at `relative`, links followed: its path in the tree without any link, and what
    /// it is; `None` when there is none.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub(crate) fn file(&self, relative: &Path) -> io::Result<Option<(PathBuf, fs::Metadata)>> {
        let Some(file) = self.at(relative, OFlag::O_PATH)? else { return Ok(None) };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(None);
        }
        Ok(self.path_of(&file)?.map(|path| (path, meta)))
    }

    /// Where a directory of the tree is in it, without any link.
    ///
    /// # Errors
    /// Those of readlink(2); [`io::ErrorKind::NotFound`] when it is in the tree no more.
    pub(crate) fn relative(&self, dir: &Dir) -> io::Result<PathBuf> {
        self.path_of(&dir.0)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn path_of(&self, file: &File) -> io::Result<Option<PathBuf>> {
        let path = |file: &File| fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(path(file)?.strip_prefix(path(&self.0)?).map(Path::to_owned).ok())
    }

    /// What is in the file at `relative`, links followed; `None` when there is none.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn read(&self, relative: &Path) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.at(relative, OFlag::O_RDONLY)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The directory at `relative`; it and those above it are made when missing.
    ///
    /// # Errors
    /// Those of writing; something else in the way is [`io::ErrorKind::AlreadyExists`].
    pub(crate) fn make_dirs(&self, relative: &Path, attributes: Attributes) -> io::Result<Dir> {
        let mut path = PathBuf::new();
        let mut dir = self.dir(&path)?.ok_or(io::ErrorKind::NotFound)?;
        for component in relative.components() {
            let Component::Normal(name) = component else { continue };
            path.push(name);
            dir = match self.dir(&path)? {
                Some(next) => next,
                None => {
                    dir.keeping_time(|dir| fs::create_dir(dir.entry(name)))?;
                    attributes.apply(&dir.entry(name))?;
                    self.dir(&path)?.ok_or(io::ErrorKind::NotFound)?
                }
            };
        }
        Ok(dir)
    }

    /// Puts a file at `relative` in place of what is there; the link itself, if it is one.
    ///
    /// # Errors
    /// Those of writing; a directory in its place cannot be removed.
    pub(crate) fn write(
        &self,
        relative: &Path,
        bytes: &[u8],
        attributes: Attributes,
    ) -> io::Result<()> {
        let (Some(parent), Some(name)) = (relative.parent(), relative.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directories = Attributes { mode: 0o755, ..attributes };
        self.make_dirs(parent, directories)?.keeping_time(|dir| {
            let path = dir.entry(name);
            remove(&path)?;
            File::create_new(&path)?.write_all(bytes)?;
            attributes.apply(&path)
        })
    }
}

impl Dir {
    /// Opens a directory outside of any tree.
    ///
    /// # Errors
    /// Those of open(2).
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::options().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path).map(Self)
    }

    /// A path of the entry that leads to it and nowhere else, whoever moves directories.
    pub(crate) fn entry(&self, name: &OsStr) -> PathBuf {
        self.path().join(name)
    }

    /// A path of the directory itself.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Changes entries without changing the directory's own time: that is no part of what was
    /// asked for, and would make two packings differ.
    pub(crate) fn keeping_time<T>(
        &self,
        change: impl FnOnce(&Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let modified = self.0.metadata()?.modified()?;
        let changed = change(self);
        self.0.set_times(FileTimes::new().set_modified(modified))?;
        changed
    }

    /// Sets the directory's own time.
    pub(crate) fn set_modified(&self, modified: SystemTime) -> io::Result<()> {
        self.0.set_times(FileTimes::new().set_modified(modified))
    }
}

impl Attributes {
    /// For a regular file or a directory that was made just now.
    fn apply(self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::lchown(path, Some(self.owner.0), Some(self.owner.1))?;
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode))?;
        let flags = OFlag::O_NOFOLLOW.bits();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        file.set_times(FileTimes::new().set_modified(self.modified))
    }
}

/// Removes a file or link, if there is one.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::time::UNIX_EPOCH;

    use super::*;

    fn attributes(mode: u32) -> Attributes {
        let owner = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        Attributes { mode, owner, modified: UNIX_EPOCH }
    }

    #[test]
    fn links_lead_around_in_the_tree_and_never_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        for path in [root.join("real"), outside.clone()] {
            fs::create_dir_all(path).unwrap();
        }
        symlink("/real", root.join("absolute")).unwrap();
        symlink("../../../../outside", root.join("up")).unwrap();
        symlink(&outside, root.join("out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let tree = Tree::open(&root).unwrap();
        tree.write(Path::new("absolute/new/file"), b"x", attributes(0o640)).unwrap();
        let meta = fs::metadata(root.join("real/new/file")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o640, 0));
        assert_eq!(fs::metadata(root.join("real/new")).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(tree.read(Path::new("absolute/new/file")).unwrap().unwrap(), b"x");
        for link in ["up", "out", "loop"] {
            assert!(tree.dir(Path::new(link)).unwrap().is_none(), "{link}");
            assert!(tree.write(&Path::new(link).join("file"), b"x", attributes(0o644)).is_err());
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        // what is a link itself is replaced, not written through
        fs::write(outside.join("secret"), "kept").unwrap();
        symlink(outside.join("secret"), root.join("real/link")).unwrap();
        tree.write(Path::new("real/link"), b"new", attributes(0o644)).unwrap();
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(root.join("real/link")).unwrap(), "new");
    }

    #[test]
    fn a_change_leaves_the_directory_its_time() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let etc = File::open(dir.path().join("etc")).unwrap();
        etc.set_times(FileTimes::new().set_modified(UNIX_EPOCH)).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        tree.write(Path::new("etc/file"), b"1", attributes(0o644)).unwrap();
        tree.write(Path::new("etc/sub/file"), b"2", attributes(0o644)).unwrap();
        assert_eq!(etc.metadata().unwrap().mtime(), 0);
        assert_eq!(fs::metadata(dir.path().join("etc/sub")).unwrap().mtime(), 0);
    }
}
