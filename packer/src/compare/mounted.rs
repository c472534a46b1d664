//! Two images, mounted side by side where nobody else sees them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use sys::loop_device::{self, AttachOptions};
use sys::mount::{self, TmpfsOptions};

use super::CompareError;

/// Bytes for what is copied out of the images: package databases.
const SCRATCH: u64 = 512 << 20;

/// The mounts; they end with the process.
#[derive(Debug)]
pub(super) struct Pair {
    base: PathBuf,
    roots: [PathBuf; 2],
}

impl Pair {
    pub(super) fn mount(images: [PathBuf; 2]) -> Result<Self, CompareError> {
        let namespace = |source: nix::Error| CompareError::Namespace { source: source.into() };
        unshare(CloneFlags::CLONE_NEWNS).map_err(namespace)?;
        let none: Option<&str> = None;
        nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(namespace)?;
        let options = AttachOptions { autoclear: true, ..AttachOptions::default() };
        // before the tmpfs hides the folder in which they may lie
        let mut devices = Vec::new();
        for image in &images {
            devices.push(loop_device::attach(image, &options).map_err(CompareError::Loop)?);
        }
        let base = std::env::temp_dir();
        let base = fs::canonicalize(&base)
            .map_err(|source| CompareError::Read { path: base.clone(), source })?;
        let tmpfs = TmpfsOptions {
            size: Some(SCRATCH),
            mode: 0o700,
            interleave: false,
            huge: false,
            data_only: true,
        };
        mount::tmpfs(&base, &tmpfs).map_err(CompareError::Mount)?;
        let roots = [base.join("older"), base.join("newer")];
        for (device, root) in devices.iter().zip(&roots) {
            let made: io::Result<()> = fs::create_dir(root);
            made.map_err(|source| CompareError::Read { path: root.clone(), source })?;
            mount::image(device.path(), root).map_err(CompareError::Mount)?;
        }
        Ok(Self { base, roots })
    }

    /// Of the older and the newer image.
    pub(super) fn roots(&self) -> [&Path; 2] {
        [&self.roots[0], &self.roots[1]]
    }

    /// A folder in memory, empty but for the roots.
    pub(super) fn scratch(&self) -> &Path {
        &self.base
    }
}
