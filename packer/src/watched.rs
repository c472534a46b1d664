//! A file that tells every write and every cut: what a program writes to it goes into a real file, and past
//! a [`Follower`].
//!
//! It is a FUSE file system of one file and no directory. Nobody sees it mounted (`fuse_mount`); the program
//! gets it as its standard input and opens `/proc/self/fd/0`. When this process dies, the kernel answers
//! all that the program does with an error.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyOpen, ReplyWrite,
    Request, Session, SessionACL, TimeOrNow, WriteFlags,
};

use crate::follow::{Followed, Follower};
use crate::fuse_mount;

/// Where a program finds its standard input.
const STDIN: &str = "/proc/self/fd/0";

/// Every question is asked anew: answers change with every write.
const TTL: Duration = Duration::ZERO;

/// The real file, and who is told.
#[derive(Debug)]
struct Shared {
    file: File,
    /// `None` once it is complete.
    follower: Mutex<Option<Follower>>,
}

impl Shared {
    /// Changes the file and tells it, with nothing in between.
    fn change<T>(
        &self,
        change: impl FnOnce(&File) -> io::Result<T>,
        tell: impl FnOnce(&mut Follower, &T),
    ) -> io::Result<T> {
        let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        let follower = follower.as_mut().ok_or(io::ErrorKind::PermissionDenied)?;
        let done = change(&self.file)?;
        tell(follower, &done);
        Ok(done)
    }
}

/// A file that is being written by a program.
#[derive(Debug)]
pub(crate) struct Watched {
    shared: Arc<Shared>,
    /// Where programs find the same file by way of the kernel; never opened here, see [`fuse_mount`].
    front: OwnedFd,
    session: BackgroundSession,
}

impl Watched {
    /// Puts itself in front of `file`, which is empty. `work` is a directory for a moment.
    ///
    /// # Errors
    /// Those of mounting: no FUSE, no permission.
    pub(crate) fn start(file: File, follower: Follower, work: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared { file, follower: Mutex::new(Some(follower)) });
        let mount = fuse_mount::begin(work)?;
        let front = OneFile(Arc::clone(&shared));
        let device = mount.device()?;
        let session = Session::from_fd(front, device, SessionACL::Owner, fuser::Config::default())?;
        let session = session.spawn()?;
        let front = mount.place()?;
        Ok(Self { shared, front, session })
    }

    /// Gives the file to a program, as its standard input; returns the path that the program knows it by.
    ///
    /// # Errors
    /// None left of descriptors.
    pub(crate) fn give(&self, command: &mut Command) -> io::Result<PathBuf> {
        command.stdin(self.front.try_clone()?);
        Ok(PathBuf::from(STDIN))
    }

    /// The file has this length now.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn set_length(&self, length: u64) -> io::Result<()> {
        self.shared.change(|file| file.set_len(length), |follower, ()| follower.set_length(length))
    }

    /// The hashes of what was written, see [`Follower::finish`]. All programs that had the file have ended.
    ///
    /// # Errors
    /// Those of [`Follower::finish`].
    pub(crate) fn finish(self, progress: impl FnMut(u64)) -> io::Result<Followed> {
        drop(self.front);
        // the last descriptor is closed, so the kernel ends the session, which says now and then that it
        // was broken off (fuse(4)); whatever was written was answered before that
        match self.session.join() {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            ended => ended?,
        }
        let mut follower = self.shared.follower.lock().unwrap_or_else(PoisonError::into_inner);
        let follower = follower.take().ok_or(io::ErrorKind::NotFound)?;
        follower.finish(&self.shared.file, progress)
    }
}

/// What the kernel is told.
struct OneFile(Arc<Shared>);

impl OneFile {
    fn reply(&self, reply: ReplyAttr) {
        match self.0.file.metadata() {
            Ok(meta) => reply.attr(&TTL, &attributes(&meta)),
            Err(error) => reply.error(error.into()),
        }
    }
}

fn attributes(meta: &Metadata) -> FileAttr {
    let time = |time: io::Result<SystemTime>| time.unwrap_or(SystemTime::UNIX_EPOCH);
    FileAttr {
        ino: INodeNo::ROOT,
        size: meta.len(),
        blocks: meta.blocks(),
        atime: time(meta.accessed()),
        mtime: time(meta.modified()),
        ctime: time(meta.modified()),
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: u16::try_from(meta.mode() & 0o777).unwrap_or(0o600),
        nlink: 1,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

// what is not here is answered by "not implemented": programs write zeros where they cannot punch holes
impl Filesystem for OneFile {
    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.reply(reply);
    }

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(size) = size {
            let cut = |file: &File| file.set_len(size);
            let told = self.0.change(cut, |follower, ()| follower.set_length(size));
            if let Err(error) = told {
                return reply.error(error.into());
            }
        }
        self.reply(reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // past the page cache: each write comes here, as it is, and no second copy stays in memory
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; size as usize];
        match self.0.file.read_at(&mut bytes, offset) {
            Ok(count) => reply.data(&bytes[..count]),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.0.change(
            |file| file.write_at(data, offset),
            |follower, count| follower.write(offset, &data[..*count]),
        );
        match written.map(u32::try_from) {
            Ok(Ok(count)) => reply.written(count),
            Ok(Err(_)) => reply.error(Errno::EIO),
            Err(error) => reply.error(error.into()),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // the revision is brought to disk as a whole, later
        reply.ok();
    }
}
