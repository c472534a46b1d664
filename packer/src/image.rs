//! The image: a file system in a file, that loop devices take.

use std::fs::{self, OpenOptions};
use std::path::Path;

use crate::census;
use crate::error::PackError;
use crate::event::{Observer, Stage};
use crate::format::{Filesystem, ImageFormat};
use crate::meter::Meter;
use crate::tool::Place;
use crate::{erofs, squashfs};

/// A loop device drops a tail that is not a whole sector; file systems and pages like 4 KiB.
pub(crate) const ALIGNMENT: u64 = 4096;

/// Directories that are mounted over on a running system: they stay, empty.
pub(crate) const EMPTIED: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

/// Makes `image` of the tree at `root`. `sort_file` is for mksquashfs alone.
///
/// # Errors
/// [`PackError::ToolFailed`], [`PackError::ToolMissing`], [`PackError::DiskFull`].
pub(crate) fn make(
    root: &Path,
    image: &Path,
    format: ImageFormat,
    sort_file: Option<&Path>,
    place: &Place<'_>,
    observe: Observer<'_>,
) -> Result<(), PackError> {
    let census = census::count(root, &EMPTIED);
    let mut meter = Meter::new(observe, Stage::Image, census.bytes);
    match format.filesystem() {
        Filesystem::Squashfs => {
            let job = squashfs::Job { root, image, format, emptied: &EMPTIED, sort_file };
            squashfs::make(&job, place, observe, &mut meter)?;
        }
        Filesystem::Erofs => {
            erofs::make(root, image, format, &EMPTIED, place, census.entries, &mut meter)?;
        }
    }
    pad(image, place)
}

/// Both tools pad to 4 KiB; should a version not do it, this does.
fn pad(image: &Path, place: &Place<'_>) -> Result<(), PackError> {
    let error = |e| place.write_error(image.to_owned(), e);
    let length = fs::metadata(image).map_err(error)?.len();
    let padded = length.next_multiple_of(ALIGNMENT);
    if padded == length {
        return Ok(());
    }
    OpenOptions::new().write(true).open(image).and_then(|f| f.set_len(padded)).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_odd_length_is_padded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let place = Place { store: dir.path(), step: "padding" };
        for (before, after) in [(1, 4096), (4096, 4096), (5000, 8192)] {
            fs::write(&path, vec![7; before]).unwrap();
            pad(&path, &place).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), after);
        }
    }
}
