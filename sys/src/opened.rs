//! Which files of a file system are opened, by whomever, in which order (fanotify(7)).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

/// Sees the openings of regular files from when it is made on. Directories are left out.
#[derive(Debug)]
pub struct Openings {
    group: Fanotify,
}

/// A file was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Its path, as whoever opened it sees it.
    pub path: PathBuf,
    /// Process that opened it.
    pub process: u32,
}

/// What was seen at one time.
#[derive(Debug, Default)]
pub struct Seen {
    /// In the order in which it happened.
    pub openings: Vec<Opening>,
    /// Some openings were lost: too many at once, or files that cannot be opened by us.
    pub lost: bool,
}

impl Openings {
    /// Watches the file system that `path` lies on: all of its mounts, in every mount namespace.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, before Linux 4.20, and on kernels without fanotify.
    pub fn watch(path: &Path) -> io::Result<Self> {
        let flags = InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_CLASS_NOTIF
            // a boot opens more at once than the 16,384 that would be kept
            | InitFlags::FAN_UNLIMITED_QUEUE;
        let files = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC;
        let group = Fanotify::init(flags, files)?;
        // a mark on the mount would miss services that have a mount namespace of their own
        let mark = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        group.mark(mark, MaskFlags::FAN_OPEN, AT_FDCWD, Some(path))?;
        Ok(Self { group })
    }

    /// What has been opened since the last call; waits up to `limit` when that is nothing.
    ///
    /// # Errors
    /// Those of poll(2) and read(2).
    pub fn next(&self, limit: Duration) -> io::Result<Seen> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(self.group.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Seen::default()),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut seen = Seen::default();
        loop {
            let events = match self.group.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Ok(seen),
                Err(Errno::EINTR) => continue,
                // one file that cannot be opened is no reason to miss the others
                Err(
                    Errno::EACCES | Errno::EPERM | Errno::ENOENT | Errno::ENXIO | Errno::ENODEV,
                ) => {
                    seen.lost = true;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            for event in events {
                let Some(fd) = event.fd() else {
                    seen.lost = true;
                    continue;
                };
                let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
                let regular = fd
                    .try_clone_to_owned()
                    .and_then(|fd| File::from(fd).metadata())
                    .is_ok_and(|meta| meta.is_file());
                if let (Ok(path), true, Ok(process)) = (path, regular, u32::try_from(event.pid())) {
                    seen.openings.push(Opening { path, process });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn files_are_seen_in_the_order_in_which_they_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["b", "a", "two words"];
        for name in names {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let folder = std::fs::canonicalize(dir.path()).unwrap();
        let openings = Openings::watch(&folder).expect("needs root");
        let mut cat = Command::new("cat");
        cat.args(names).current_dir(dir.path());
        let child = cat.stdout(std::process::Stdio::null()).spawn().unwrap();
        let process = child.id();
        assert!(child.wait_with_output().unwrap().status.success());
        let mut seen = Vec::new();
        while seen.len() < names.len() {
            let next = openings.next(Duration::from_secs(20)).unwrap();
            assert!(!next.openings.is_empty(), "only {seen:?}");
            let inside =
                |opening: &Opening| opening.process == process && opening.path.starts_with(&folder);
            seen.extend(next.openings.into_iter().filter(inside).map(|opening| opening.path));
        }
        assert_eq!(seen, names.map(|name| folder.join(name)));
        assert!(openings.next(Duration::ZERO).is_ok());
    }
}
