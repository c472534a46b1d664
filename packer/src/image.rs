//! The image: a file system in a file, that loop devices take.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::census;
use crate::error::PackError;
use crate::event::{Event, Observer, Stage};
use crate::follow::{Expected, Followed, Follower, Order};
use crate::format::{Filesystem, ImageFormat};
use crate::meter::Meter;
use crate::tool::Place;
use crate::watched::Watched;
use crate::{erofs, squashfs};

/// A loop device drops a tail that is not a whole sector; file systems and pages like 4 KiB.
pub(crate) const ALIGNMENT: u64 = 4096;

/// Directories that are mounted over on a running system: they stay, empty.
pub(crate) const EMPTIED: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

/// Room beside the contents of files: an inode and a name, or a block, and what a file system has anyway.
const PER_ENTRY: u64 = 4096;
const ANYWAY: u64 = 1 << 20;

/// Tells a program by which path it can write the image.
pub(crate) type Named<'a> = dyn Fn(&mut Command) -> Result<PathBuf, PackError> + 'a;

/// Where the program writes.
#[derive(Debug)]
enum Output {
    /// To the file.
    Plain(PathBuf),
    /// Past us.
    Watched(Watched),
}

impl Output {
    /// The path to name to the program that `command` starts.
    fn path(&self, command: &mut Command) -> io::Result<PathBuf> {
        match self {
            Self::Plain(path) => Ok(path.clone()),
            Self::Watched(watched) => watched.give(command),
        }
    }
}

/// Makes `image` of the tree at `root`, for `nodes` nodes. `None` when it could not be followed while it
/// was written, which was said then.
///
/// # Errors
/// [`PackError::ToolFailed`], [`PackError::ToolMissing`], [`PackError::DiskFull`].
pub(crate) fn make(
    root: &Path,
    image: &Path,
    format: ImageFormat,
    nodes: u32,
    work: &Path,
    place: &Place<'_>,
    observe: Observer<'_>,
) -> Result<Option<Followed>, PackError> {
    let census = census::count(root, &EMPTIED);
    let order = match format.filesystem() {
        Filesystem::Squashfs => Order::Forward,
        Filesystem::Erofs => Order::Back,
    };
    let most = census.bytes + census.entries * PER_ENTRY + ANYWAY;
    let error = |e| place.write_error(image.to_owned(), e);
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).mode(0o644).open(image);
    let file = file.map_err(error)?;
    let follower = Follower::start(Expected { order, most, nodes });
    let output = match follower.and_then(|follower| Watched::start(file, follower, work)) {
        Ok(watched) => Output::Watched(watched),
        Err(reason) => {
            let text = format!(
                "the image is read a second time, to hash it: FUSE is not usable: {reason}"
            );
            observe(Event::Warning { text });
            Output::Plain(image.to_owned())
        }
    };
    let name = |command: &mut Command| output.path(command).map_err(error);
    let mut meter = Meter::new(observe, Stage::Image, census.bytes);
    match format.filesystem() {
        Filesystem::Squashfs => {
            squashfs::make(root, &name, format, &EMPTIED, place, observe, &mut meter)?;
        }
        Filesystem::Erofs => {
            erofs::make(root, &name, format, &EMPTIED, place, census.entries, &mut meter)?;
        }
    }
    match output {
        Output::Plain(path) => {
            let open = || OpenOptions::new().write(true).open(&path);
            pad(&path, |length| open()?.set_len(length)).map_err(error)?;
            Ok(None)
        }
        Output::Watched(watched) => {
            pad(image, |length| watched.set_length(length)).map_err(error)?;
            let read = |source| PackError::Read { path: image.to_owned(), source };
            watched.finish().map(Some).map_err(read)
        }
    }
}

/// Both tools pad to 4 KiB; should a version not do it, `set_length` does.
fn pad(image: &Path, set_length: impl FnOnce(u64) -> io::Result<()>) -> io::Result<()> {
    let length = fs::metadata(image)?.len();
    let padded = length.next_multiple_of(ALIGNMENT);
    if padded == length { Ok(()) } else { set_length(padded) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_odd_length_is_padded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        for (before, after) in [(1, 4096), (4096, 4096), (5000, 8192)] {
            fs::write(&path, vec![7; before]).unwrap();
            let set_length = |length| File::options().write(true).open(&path)?.set_len(length);
            pad(&path, set_length).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), after);
        }
    }
}
