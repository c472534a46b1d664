//! The initrd: made by dracut, or given.

use std::fs;
use std::path::{Path, PathBuf};

use proto::trust_policy::TrustPolicy;

use crate::dracut;
use crate::elf::{self, Linkage};
use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::kernel::Kernel;
use crate::locate;
use crate::tool::Place;

/// What to put into the initrd; `None` is looked for in the usual places.
#[derive(Debug, Clone, Default)]
pub struct InitrdOptions {
    /// The static `bee-initrd-client`.
    pub client: Option<PathBuf>,
    /// Directory with our `module-setup.sh`.
    pub dracut_module: Option<PathBuf>,
    /// Further arguments for dracut.
    pub dracut_args: Vec<String>,
    /// Which signatures nodes demand; `None`: none.
    pub trust: Option<TrustPolicy>,
}

/// What goes into the initrd, found before the long work begins.
#[derive(Debug)]
pub(crate) struct Parts {
    client: PathBuf,
    module: PathBuf,
}

/// Finds the parts.
///
/// # Errors
/// [`PackError::NoClient`], [`PackError::NoDracutModule`], [`PackError::Read`].
pub(crate) fn find(options: &InitrdOptions, observe: Observer<'_>) -> Result<Parts, PackError> {
    let client = locate::client(options.client.as_deref())?;
    let module = locate::dracut_module(options.dracut_module.as_deref())?;
    let linkage =
        elf::linkage(&client).map_err(|source| PackError::Read { path: client.clone(), source })?;
    if linkage != Linkage::Static {
        let path = client.display();
        let text = format!(
            "{path} is no statically linked program: the initrd may lack its libraries; build it \
             with `cargo xtask dist`"
        );
        observe(Event::Warning { text });
    }
    Ok(Parts { client, module })
}

/// Makes the initrd in `work` and returns its path.
///
/// # Errors
/// Those of dracut.
pub(crate) fn make(
    root: &Path,
    kernel: &Kernel,
    parts: &Parts,
    options: &InitrdOptions,
    work: &Path,
    place: Place<'_>,
) -> Result<PathBuf, PackError> {
    let mut trust = None;
    if let Some(policy) = &options.trust {
        let bytes = policy.to_bytes().map_err(|source| PackError::Trust { source })?;
        let path = work.join("trust.json");
        fs::write(&path, bytes).map_err(|e| place.write_error(path.clone(), e))?;
        trust = Some(path);
    }
    dracut::run(&dracut::Job {
        root,
        kernel,
        module: &parts.module,
        client: &parts.client,
        trust: trust.as_deref(),
        extra: &options.dracut_args,
        work,
        place,
    })
}
