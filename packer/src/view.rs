//! A root that may be changed, while the one that was given stays as it is.
//!
//! What was unpacked for this packing is changed in place. A directory of the admin's gets an
//! overlayfs mount over it, in a mount namespace of this process: nobody else sees it, and it is
//! gone when the process ends, killed or not. Hard links, extended attributes and capabilities are
//! those of the directory. Where that cannot be (no privilege, layers or mounts in the
//! directory), it is copied.

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::stat::{Mode, SFlag, mknod};
use sys::mount::MountError;

use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::exclude;
use crate::image::EMPTIED;
use crate::overlay;
use crate::snapshot::Obstacle;
use crate::tool::Place;
use crate::tree::Dir;

/// The root that is packed.
#[derive(Debug)]
pub(crate) struct View {
    path: PathBuf,
    /// `None`: nothing is mounted.
    layers: Option<Layers>,
}

/// What an overlay mount is made of.
#[derive(Debug)]
struct Layers {
    lower: PathBuf,
    upper: PathBuf,
    scratch: PathBuf,
}

impl View {
    /// The root itself, not to be changed, or to be changed in place.
    pub(crate) fn of(root: &Path) -> Self {
        Self { path: root.to_owned(), layers: None }
    }

    /// A view of `root` of which only the topmost directory's time is to be changed: not worth a copy, nor an
    /// error.
    ///
    /// # Errors
    /// [`PackError::Write`], [`PackError::DiskFull`].
    pub(crate) fn of_time(
        root: &Path,
        obstacle: Option<&Obstacle>,
        work: &Path,
        place: Place<'_>,
    ) -> Result<Self, PackError> {
        if !sys::privileges::is_root() {
            return Ok(Self::of(root));
        }
        Ok(Self::mounted(root, obstacle, work, place)?.unwrap_or_else(|_| Self::of(root)))
    }

    /// An overlayfs mount over `root`, made in `work`, or why there can be none.
    fn mounted(
        root: &Path,
        obstacle: Option<&Obstacle>,
        work: &Path,
        place: Place<'_>,
    ) -> Result<Result<Self, String>, PackError> {
        let path = work.join("root");
        let layers = Layers {
            lower: root.to_owned(),
            upper: work.join("upper"),
            scratch: work.join("scratch"),
        };
        for dir in [&path, &layers.upper, &layers.scratch] {
            fs::create_dir(dir).map_err(|e| place.write_error(dir.clone(), e))?;
        }
        Ok(match obstacle {
            Some(Obstacle::Layers(path)) => {
                Err(format!("/{} is part of an overlay", path.display()))
            }
            Some(Obstacle::Mount(path)) => {
                Err(format!("/{} is another file system", path.display()))
            }
            None => layers.begin(&path).map(|()| Self { path, layers: Some(layers) }),
        })
    }

    /// A changeable view of `root`, made in `work`.
    ///
    /// # Errors
    /// [`PackError::NeedsRoot`], and those of copying where that is needed.
    pub(crate) fn over(
        root: &Path,
        obstacle: Option<&Obstacle>,
        work: &Path,
        place: Place<'_>,
        observe: Observer<'_>,
    ) -> Result<Self, PackError> {
        if !sys::privileges::is_root() {
            return Err(PackError::NeedsRoot);
        }
        let reason = match Self::mounted(root, obstacle, work, place)? {
            Ok(view) => return Ok(view),
            Err(reason) => reason,
        };
        let path = work.join("root");
        let text = format!("the source is copied, which takes time and room: {reason}");
        observe(Event::Warning { text });
        let emptied = |path: &Path| {
            path.parent().is_some_and(|parent| EMPTIED.iter().any(|dir| parent == Path::new(dir)))
        };
        overlay::copy(root, &path, &emptied, place)?;
        Ok(Self { path, layers: None })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the topmost directory the time that it has in every image: when it was made, and what was laid
    /// beside it, is no part of the content.
    ///
    /// # Errors
    /// Those of utimensat(2).
    pub(crate) fn settle_time(&self) -> io::Result<()> {
        Dir::open(&self.path)?.set_modified(SystemTime::UNIX_EPOCH)
    }

    /// Takes paths out, a directory with all that is in it.
    ///
    /// # Errors
    /// [`PackError::Write`], [`PackError::DiskFull`].
    pub(crate) fn remove(&self, gone: &[PathBuf], place: Place<'_>) -> Result<(), PackError> {
        let Some(layers) = &self.layers else {
            for path in gone {
                exclude::remove(&self.path, path)
                    .map_err(|e| place.write_error(self.path.join(path), e))?;
            }
            return Ok(());
        };
        if gone.is_empty() {
            return Ok(());
        }
        // a whiteout per path, where removing through the mount would make one per file below; the
        // upper directory may only be changed while it is not mounted
        let write = |e: io::Error| place.write_error(self.path.clone(), e);
        sys::mount::unmount(&self.path, false).map_err(|e| write(io::Error::other(e)))?;
        for path in gone {
            layers.white_out(path).map_err(|e| place.write_error(layers.upper.join(path), e))?;
        }
        layers.mount(&self.path).map_err(|e| write(io::Error::other(e)))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.layers.is_some() {
            // what fails here goes with the namespace
            let _ = sys::mount::unmount(&self.path, true);
        }
    }
}

impl Layers {
    /// Mounts at `path`, for this process and its children; an error in words.
    fn begin(&self, path: &Path) -> Result<(), String> {
        let words = |error: MountError| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        // the upper directory is what is seen of the root directory
        self.same_attributes(Path::new("")).map_err(|e| e.to_string())?;
        sys::mount::own_namespace().map_err(words)?;
        self.mount(path).map_err(words)
    }

    fn mount(&self, path: &Path) -> Result<(), MountError> {
        sys::mount::overlay(path, &[&self.lower], &self.upper, &self.scratch)
    }

    fn same_attributes(&self, relative: &Path) -> io::Result<()> {
        let (lower, upper) = (self.lower.join(relative), self.upper.join(relative));
        let meta = fs::metadata(&lower)?;
        overlay::attributes(&lower, &upper, &meta, overlay::Owner::Kept)
    }

    /// Hides `relative`: gone from the upper directory, and a character device 0:0 in its place where
    /// the lower one has it (Documentation/filesystems/overlayfs.rst).
    fn white_out(&self, relative: &Path) -> io::Result<()> {
        exclude::remove(&self.upper, relative)?;
        if fs::symlink_metadata(self.lower.join(relative)).is_err() {
            return Ok(());
        }
        let parent = relative.parent().unwrap_or(Path::new(""));
        let mut made = Vec::new();
        for dir in parent.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if let Err(e) = fs::symlink_metadata(self.upper.join(dir)) {
                if e.kind() != io::ErrorKind::NotFound {
                    return Err(e);
                }
                let above = Dir::open(&self.upper.join(dir.parent().unwrap_or(Path::new(""))))?;
                above.keeping_time(|_| fs::create_dir(self.upper.join(dir)))?;
                made.push(dir);
            }
        }
        Dir::open(&self.upper.join(parent))?.keeping_time(|_| {
            mknod(&self.upper.join(relative), SFlag::S_IFCHR, Mode::empty(), 0)
                .map_err(io::Error::from)
        })?;
        made.into_iter().rev().try_for_each(|dir| self.same_attributes(dir))
    }
}
