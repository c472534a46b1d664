//! A FUSE file system that consists of a file, which is hardly ever seen.
//!
//! This process, which answers for the file system, never opens the file: closing it asks the file system,
//! and a process that is killed closes its files when nobody answers for it any more. It would wait for
//! itself, beyond the reach of any signal, and whoever lists processes would wait as well. It holds the
//! place of the file (`O_PATH`), and programs open that.
//!
//! Who may mount makes a mount that is attached nowhere (Linux 5.2). Others ask `fusermount3`, which attaches
//! it to an empty file, from which it is taken again once the file is open. Either ends with its last open
//! file. A packer that is killed in that moment leaves a mount behind that answers nothing; the next one
//! removes it ([`clear`]).

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// The kernel's end.
const DEVICE: &str = "/dev/fuse";

/// Mounts for who may not.
const HELPER: &str = "fusermount3";

/// What the file system is called where mounts are listed.
const NAME: &str = "beeswarm-image";

/// A file system whose file nobody can reach yet.
#[derive(Debug)]
pub(crate) struct Mount {
    device: OwnedFd,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Attached nowhere.
    Nowhere(OwnedFd),
    At(Point),
}

/// A file that is mounted over, as long as this lives.
#[derive(Debug)]
struct Point(PathBuf);

impl Drop for Point {
    fn drop(&mut self) {
        detach(&self.0);
        // it lies in a draft, which goes as a whole
        let _ = fs::remove_file(&self.0);
    }
}

/// Mounts; `work` may have a file more for a moment.
///
/// # Errors
/// What the kernel and `fusermount3` say: no right to mount, no FUSE in the kernel or in the container.
pub(crate) fn begin(work: &Path) -> io::Result<Mount> {
    let device = File::options().read(true).write(true).open(DEVICE);
    let device = device.map_err(|e| io::Error::new(e.kind(), format!("{DEVICE}: {e}")))?;
    match detached(&device) {
        Ok(root) => Ok(Mount { device: device.into(), place: Place::Nowhere(root) }),
        Err(first) => attached(work).map_err(|second| {
            io::Error::new(second.kind(), format!("mount: {first}; {HELPER}: {second}"))
        }),
    }
}

impl Mount {
    /// Where requests come from.
    ///
    /// # Errors
    /// None left of descriptors.
    pub(crate) fn device(&self) -> io::Result<OwnedFd> {
        self.device.try_clone()
    }

    /// The place of the file, for programs to open. The mount goes with its last descriptor.
    ///
    /// # Errors
    /// Those of opening.
    pub(crate) fn place(self) -> io::Result<OwnedFd> {
        match self.place {
            Place::Nowhere(root) => Ok(root),
            Place::At(point) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Ok(rustix::fs::open(&point.0, flags, Mode::empty())?)
            }
        }
    }
}

/// A mount that is attached nowhere.
fn detached(device: &File) -> io::Result<OwnedFd> {
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: &str| fsconfig_set_string(&context, key, value);
    set("source", NAME)?;
    // a regular file in place of the topmost directory
    set("rootmode", "100000")?;
    set("fd", &device.as_raw_fd().to_string())?;
    set("user_id", &nix::unistd::geteuid().to_string())?;
    set("group_id", &nix::unistd::getegid().to_string())?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A mount over a file in `work`.
fn attached(work: &Path) -> io::Result<Mount> {
    let path = work.canonicalize()?.join("image");
    File::create_new(&path)?;
    let point = Point(path);
    let (ours, theirs) = UnixStream::pair()?;
    let mut helper = Command::new(HELPER);
    helper.args(["-o", &format!("nosuid,nodev,noexec,fsname={NAME}"), "--"]).arg(&point.0);
    // where it sends the device to
    helper.env("_FUSE_COMMFD", "0").stdin(OwnedFd::from(theirs));
    let output = helper.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    drop(helper);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{}: {}", output.status, said.trim())));
    }
    Ok(Mount { device: receive(&ours)?, place: Place::At(point) })
}

/// The descriptor that was sent. No program that is started gets it: it would hold the file system up
/// when this process is gone.
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    descriptors.flatten().next().ok_or_else(|| io::Error::other("it sent no descriptor"))
}

/// Takes a mount away from its place. What cannot be is removed by the next packer, or says so then.
fn detach(point: &Path) {
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    if umount2(point, flags) == Err(Errno::EPERM) {
        let mut helper = Command::new(HELPER);
        helper.args(["-u", "-z", "-q", "--"]).arg(point);
        let _ = helper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Removes the mounts below `dir` that killed packers left behind: those of ours that answer nothing.
pub(crate) fn clear(dir: &Path) {
    let Ok(dir) = dir.canonicalize() else { return };
    // where it cannot be read, nothing can be mounted like that either
    let Ok(mounts) = fs::read("/proc/self/mountinfo") else { return };
    for point in mounts.split(|byte| *byte == b'\n').filter_map(ours) {
        let is_dead = || {
            let error = fs::symlink_metadata(&point).err();
            error.and_then(|e| e.raw_os_error()) == Some(Errno::ENOTCONN as i32)
        };
        if point.starts_with(&dir) && is_dead() {
            detach(&point);
        }
    }
}

/// Where the mount of a line of mountinfo is, if it is one of ours: `… MOUNT-POINT … - fuse NAME …`.
fn ours(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = fields.nth(4)?;
    let mut after = fields.skip_while(|field| *field != b"-").skip(1);
    let is_fuse = after.next()?.starts_with(b"fuse");
    (is_fuse && after.next()? == NAME.as_bytes()).then(|| unescape(point))
}

/// Spaces and the like are `\` and three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &others[3..] } else { others };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use store::Store;

    use super::*;

    #[test]
    fn what_a_killed_packer_left_mounted_is_removed() {
        assert!(sys::privileges::is_root(), "this test mounts: run as root");
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let store = Store::init(dir.path().join("a store")).unwrap();
        let tmp = store.root().join("tmp");
        let work = tmp.join("1-0/work");
        fs::create_dir_all(&work).unwrap();
        let Mount { device, place } =
            attached(&work).expect("fusermount3 must be installed for this test");
        // as if this process had been killed here
        drop(device);
        std::mem::forget(place);
        assert!(store.begin().is_err(), "it does not stand in the way");
        clear(&tmp);
        drop(store.begin().unwrap());
        assert!(!tmp.join("1-0").exists());
    }

    /// A packer that had the file open could not be killed: it waited for its own answer for ever.
    #[test]
    fn what_this_process_holds_of_the_file_is_not_open() {
        assert!(sys::privileges::is_root(), "this test mounts: run as root");
        let dir = tempfile::tempdir().unwrap();
        let detached = begin(dir.path()).unwrap();
        assert!(matches!(detached.place, Place::Nowhere(_)), "{detached:?}");
        let attached = attached(dir.path()).expect("fusermount3 must be installed for this test");
        for mount in [detached, attached] {
            let place = mount.place().unwrap();
            assert!(rustix::fs::fcntl_getfl(&place).unwrap().contains(OFlags::PATH));
        }
    }

    #[test]
    fn lines_of_mountinfo() {
        let line = b"90 28 0:50 / /a\\040b/c rw,nosuid - fuse beeswarm-image rw,user_id=0";
        assert_eq!(ours(line), Some(PathBuf::from("/a b/c")));
        let line = b"90 28 0:50 / /a rw shared:3 - fuse.x beeswarm-image rw";
        assert_eq!(ours(line), Some(PathBuf::from("/a")));
        for other in [
            &b"90 28 0:50 / /a rw - fuse other rw"[..],
            b"90 28 0:50 / /a rw - tmpfs beeswarm-image rw",
            b"90 28 0:50 / /a rw",
            b"",
        ] {
            assert_eq!(ours(other), None);
        }
        assert_eq!(unescape(b"a\\134\\9\\"), PathBuf::from("a\\\\9\\"));
    }
}
