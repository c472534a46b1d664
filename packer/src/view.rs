//! A root that may be changed, while the one that was given stays as it is.
//!
//! What was unpacked for this packing is changed in place. A directory of the admin's gets an
//! overlayfs mount over it, in a mount namespace of this process: nobody else sees it, and it is
//! gone when the process ends, killed or not. Hard links, extended attributes and capabilities are
//! those of the directory. Where that cannot be (no privilege, layers or mounts in the
//! directory), it is copied.

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::overlay;
use crate::snapshot::Obstacle;
use crate::squashfs::EMPTIED;
use crate::tool::Place;

/// The root that is packed.
#[derive(Debug)]
pub(crate) struct View {
    path: PathBuf,
    mounted: bool,
}

impl View {
    /// The root itself, not to be changed, or to be changed in place.
    pub(crate) fn of(root: &Path) -> Self {
        Self { path: root.to_owned(), mounted: false }
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
        let path = work.join("root");
        let (upper, scratch) = (work.join("upper"), work.join("scratch"));
        for dir in [&path, &upper, &scratch] {
            fs::create_dir(dir).map_err(|e| place.write_error(dir.clone(), e))?;
        }
        let reason = match obstacle {
            Some(Obstacle::Layers(path)) => format!("/{} is part of an overlay", path.display()),
            Some(Obstacle::Mount(path)) => format!("/{} is another file system", path.display()),
            None => match mount(root, &path, &upper, &scratch) {
                Ok(()) => return Ok(Self { path, mounted: true }),
                Err(reason) => reason,
            },
        };
        let text = format!("the source is copied, which takes time and room: {reason}");
        observe(Event::Warning { text });
        let emptied = |path: &Path| {
            path.parent().is_some_and(|parent| EMPTIED.iter().any(|dir| parent == Path::new(dir)))
        };
        overlay::copy(root, &path, &emptied, place)?;
        Ok(Self { path, mounted: false })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.mounted {
            // what fails here goes with the namespace
            let _ = sys::mount::unmount(&self.path, true);
        }
    }
}

/// Mounts an overlay of `root` at `path`; an error in words.
fn mount(root: &Path, path: &Path, upper: &Path, scratch: &Path) -> Result<(), String> {
    let words = |error: sys::mount::MountError| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    // the upper directory is what is seen of the root directory
    let meta = fs::metadata(root).map_err(|e| e.to_string())?;
    overlay::attributes(root, upper, &meta, overlay::Owner::Kept).map_err(|e| e.to_string())?;
    sys::mount::own_namespace().map_err(words)?;
    sys::mount::overlay(path, &[root], upper, scratch).map_err(words)
}
