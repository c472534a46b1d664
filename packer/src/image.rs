//! The image: a file system in a file, that loop devices take.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::census;
use crate::error::PackError;
use crate::event::{Event, Observer, Stage};
use crate::follow::{Expected, Followed, Follower, Order, Room};
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

/// An image that is complete, but for a dm-verity tree.
#[derive(Debug)]
pub(crate) struct Written {
    path: PathBuf,
    expected: Expected,
    /// `None`: it was not followed.
    watched: Option<Watched>,
}

impl Written {
    /// Opens the file, and puts us in front of it where that can be; a warning says where not.
    fn begin(
        path: &Path,
        expected: Expected,
        work: &Path,
        place: &Place<'_>,
        observe: Observer<'_>,
    ) -> Result<Self, PackError> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o644).open(path);
        let file = file.map_err(|e| place.write_error(path.to_owned(), e))?;
        let follower = Follower::start(expected);
        let watched = follower.and_then(|follower| Watched::start(file, follower, work));
        if let Err(reason) = &watched {
            let text = format!(
                "the image is read a second time, to hash it: FUSE is not usable: {reason}"
            );
            observe(Event::Warning { text });
        }
        Ok(Self { path: path.to_owned(), expected, watched: watched.ok() })
    }

    /// The path to name to the program that `command` starts.
    fn name(&self, command: &mut Command) -> io::Result<PathBuf> {
        match &self.watched {
            None => Ok(self.path.clone()),
            Some(watched) => watched.give(command),
        }
    }

    /// Both tools pad to 4 KiB; should a version not do it, this does.
    fn pad(&self) -> io::Result<()> {
        let length = fs::metadata(&self.path)?.len();
        let padded = length.next_multiple_of(ALIGNMENT);
        match &self.watched {
            _ if padded == length => Ok(()),
            None => File::options().write(true).open(&self.path)?.set_len(padded),
            Some(watched) => watched.set_length(padded),
        }
    }

    /// Its hashes, and its dm-verity tree if it is to have one, which is then behind it.
    ///
    /// # Errors
    /// [`PackError::Read`] for what has to be read of it, [`PackError::DiskFull`].
    pub(crate) fn finish(
        self,
        place: &Place<'_>,
        observe: Observer<'_>,
    ) -> Result<Followed, PackError> {
        let Self { path, expected, watched } = self;
        let finish = || {
            let length = fs::metadata(&path)?.len();
            let mut meter = Meter::new(observe, Stage::Hash, length);
            // of what came in order nearly all was hashed before: a rate of that would be none
            let is_left = watched.is_none() || expected.order == Order::Back;
            let progress = |done| {
                if is_left {
                    meter.bytes(done);
                }
            };
            match watched {
                Some(watched) => watched.finish(progress),
                None => {
                    let file = File::options().read(true).write(true).open(&path)?;
                    Follower::too_late(expected, length)?.finish(&file, progress)
                }
            }
        };
        finish().map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull => place.disk_full(),
            _ => PackError::Read { path: path.clone(), source },
        })
    }
}

/// What to make.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) root: &'a Path,
    pub(crate) image: &'a Path,
    pub(crate) format: ImageFormat,
    /// Which data comes first, for mksquashfs alone.
    pub(crate) sort_file: Option<&'a Path>,
    /// How many fetch it: the length of a piece depends on that.
    pub(crate) nodes: u32,
    /// It gets a dm-verity tree behind it.
    pub(crate) verity: bool,
    /// A directory for what is needed meanwhile.
    pub(crate) work: &'a Path,
}

/// Makes an image.
///
/// # Errors
/// [`PackError::ToolFailed`], [`PackError::ToolMissing`], [`PackError::DiskFull`].
pub(crate) fn make(
    job: &Job<'_>,
    place: &Place<'_>,
    observe: Observer<'_>,
) -> Result<Written, PackError> {
    let &Job { root, image, format, .. } = job;
    let census = census::count(root, &EMPTIED);
    let order = match format.filesystem() {
        Filesystem::Squashfs => Order::Forward,
        Filesystem::Erofs => Order::Back,
    };
    let most = census.bytes + census.entries * PER_ENTRY + ANYWAY;
    let (nodes, verity) = (job.nodes, job.verity);
    let expected = Expected { order, room: Room::choose(order), most, nodes, verity };
    let written = Written::begin(image, expected, job.work, place, observe)?;
    let error = |e| place.write_error(image.to_owned(), e);
    let name = |command: &mut Command| written.name(command).map_err(error);
    let length = || fs::metadata(image).map_or(0, |meta| meta.len());
    let mut meter = Meter::new(observe, Stage::Image, census.bytes);
    match format.filesystem() {
        Filesystem::Squashfs => {
            let job = squashfs::Job {
                root,
                image: &name,
                is_watched: written.watched.is_some(),
                written: &length,
                format,
                emptied: &EMPTIED,
                sort_file: job.sort_file,
            };
            squashfs::make(&job, place, observe, &mut meter)?;
        }
        Filesystem::Erofs => {
            let (entries, emptied) = (census.entries, &EMPTIED);
            let job = erofs::Job { root, image: &name, written: &length, format, emptied, entries };
            erofs::make(&job, place, &mut meter)?;
        }
    }
    written.pad().map_err(error)?;
    Ok(written)
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
            let (order, room) = (Order::Forward, Room::choose(Order::Forward));
            let expected = Expected { order, room, most: 8192, nodes: 1, verity: false };
            let written = Written { path: path.clone(), expected, watched: None };
            written.pad().unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), after);
        }
    }
}
