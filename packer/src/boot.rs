//! Kernel and initrd of a revision: made, taken, or neither.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proto::manifest::{Artefact, ArtefactKind};
use store::{Draft, StoreError};

use crate::error::PackError;
use crate::event::{Observer, Stage};
use crate::initrd::{InitrdOptions, InitrdTool};
use crate::initrd_error::InitrdError;
use crate::kernel::{self, Kernel};
use crate::options::{Boot, Options};
use crate::steps::Steps;
use crate::{digest, initrd};

/// What is known of a revision's kernel and initrd.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The kernel's, if there is one.
    pub(crate) release: Option<String>,
    /// What made the initrd, if we did.
    pub(crate) tool: Option<InitrdTool>,
}

/// Makes or takes kernel and initrd.
///
/// # Errors
/// Those of [`kernel`] and [`initrd`], [`PackError::Read`], [`PackError::Write`].
pub(crate) fn make(
    options: &Options,
    root: &Path,
    draft: &Draft,
    steps: &Steps<'_>,
    artefacts: &mut BTreeMap<ArtefactKind, Artefact>,
) -> Result<Found, PackError> {
    let mut tool = None;
    let (release, kernel, initrd) = match &options.boot {
        Boot::ImageOnly => return Ok(Found::default()),
        Boot::Given { kernel: Some(kernel), release, initrd } => {
            let inside = kernel::release_of(kernel)?;
            if let (Some(pin), Some(inside)) = (release, &inside)
                && pin != inside
            {
                let (pin, kernel, release) = (pin.clone(), kernel.clone(), inside.clone());
                return Err(PackError::KernelPin { pin, kernel, release });
            }
            let release = release.clone().or(inside);
            if let Some(release) = &release {
                kernel::check_modules(root, release)?;
            }
            (release, kernel.clone(), initrd.clone())
        }
        Boot::Given { kernel: None, release, initrd } => {
            let found = kernel::find(root, release.as_deref(), None)?;
            check_kernel(options, root, &found)?;
            (Some(found.release), found.image, initrd.clone())
        }
        Boot::Made { kernel, release, initrd: wanted } => {
            let found = kernel::find(root, release.as_deref(), kernel.as_deref())?;
            check_kernel(options, root, &found)?;
            let parts = initrd::find(wanted, steps.observe)?;
            tool = Some(parts.tool);
            let work = absolute(&draft.work())?;
            let made = steps.run(Stage::Initrd, |place| {
                initrd::make(root, &found, &parts, wanted, &work, *place, steps.observe)
            })?;
            (Some(found.release), found.image, made)
        }
    };
    for (kind, from) in [(ArtefactKind::Kernel, kernel), (ArtefactKind::Initrd, initrd)] {
        let to = draft.dir().join(kind.file_name());
        // opened apart, so that an error names the right file
        fs::File::open(&from).map_err(|source| PackError::Read { path: from.clone(), source })?;
        fs::copy(&from, &to).map_err(|e| steps.place(Stage::Initrd).write_error(to.clone(), e))?;
        artefacts.insert(kind, digest::of_part(&to)?);
    }
    Ok(Found { release, tool })
}

/// Refuses an image that its own kernel cannot mount.
fn check_kernel(options: &Options, root: &Path, kernel: &Kernel) -> Result<(), PackError> {
    let lacks = |option: &str| kernel::lacks_option(root, &kernel.release, option);
    if options.verity && lacks("CONFIG_DM_VERITY") {
        let release = kernel.release.clone();
        return Err(PackError::Initrd(InitrdError::NoVerity { release }));
    }
    match options.image.kernel_options().iter().find(|option| lacks(option)) {
        Some(option) => Err(PackError::KernelLacks {
            release: kernel.release.clone(),
            image: options.image.to_string(),
            option,
        }),
        None => Ok(()),
    }
}

/// Makes only the initrd for a root that is a directory, at `output`; returns its kernel.
///
/// # Errors
/// [`PackError`]; `output` is then as it was before.
pub fn make_initrd(
    root: &Path,
    release: Option<&str>,
    wanted: &InitrdOptions,
    output: &Path,
    observe: Observer<'_>,
) -> Result<Kernel, PackError> {
    let found = kernel::find(root, release, None)?;
    let parts = initrd::find(wanted, observe)?;
    let mut work = output.as_os_str().to_owned();
    work.push(format!(".work-{}", std::process::id()));
    let work = Scratch(PathBuf::from(work));
    let write = |path: &Path, source| PackError::Write { path: path.to_owned(), source };
    fs::create_dir_all(&work.0).map_err(|e| write(&work.0, e))?;
    let dir = absolute(&work.0)?;
    let steps = Steps { observe, store: &work.0 };
    let made = steps.run(Stage::Initrd, |place| {
        initrd::make(root, &found, &parts, wanted, &dir, *place, observe)
    })?;
    fs::rename(&made, output).map_err(|e| write(output, e))?;
    Ok(found)
}

fn absolute(path: &Path) -> Result<PathBuf, PackError> {
    fs::canonicalize(path)
        .map_err(|source| PackError::Store(StoreError::Read { path: path.to_owned(), source }))
}

/// A directory that goes with this.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // what cannot be removed is only in the way
        let _ = fs::remove_dir_all(&self.0);
    }
}
