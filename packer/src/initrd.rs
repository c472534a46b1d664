//! The initrd: made by dracut, or given.

use std::fs;
use std::path::{Path, PathBuf};

use proto::trust_policy::TrustPolicy;

use crate::drivers::{self, DriverOptions};
use crate::elf::{self, Linkage};
use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::initrd_compression::Compression;
use crate::kernel::Kernel;
use crate::kernel_files::{self, KernelFiles};
use crate::tool::Place;
use crate::{dracut, initramfs_tools, initrd_weight, locate, microcode};

/// What makes the initrd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitrdTool {
    /// dracut of this host, with its systemd.
    Dracut,
    /// dracut of this host, with its busybox.
    DracutBusybox,
    /// initramfs-tools of the root (Debian, Ubuntu).
    InitramfsTools,
}

impl InitrdTool {
    /// As `--initrd-tool` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dracut => "dracut",
            Self::DracutBusybox => "dracut-busybox",
            Self::InitramfsTools => "initramfs-tools",
        }
    }

    /// What is taken when nothing is said: every node loads the initrd from the admin host, so the small
    /// one where this host can make it. Arguments for dracut are about modules that it does without.
    fn preferred(dracut_args: &[String]) -> Self {
        match dracut_args.is_empty() && dracut::has_busybox() {
            true => Self::DracutBusybox,
            false => Self::Dracut,
        }
    }
}

/// What to put into the initrd; `None` is looked for in the usual places.
#[derive(Debug, Clone, Default)]
pub struct InitrdOptions {
    /// The static `bee-initrd-client`.
    pub client: Option<PathBuf>,
    /// Directory with our `module-setup.sh`.
    pub dracut_module: Option<PathBuf>,
    /// Further arguments for dracut.
    pub dracut_args: Vec<String>,
    /// What makes the initrd.
    pub tool: Option<InitrdTool>,
    /// Directory with our hook for initramfs-tools.
    pub initramfs_tools: Option<PathBuf>,
    /// Which network cards it can drive.
    pub drivers: DriverOptions,
    /// Leave the root's CPU microcode out.
    pub no_microcode: bool,
    /// Which signatures nodes demand; `None`: none.
    pub trust: Option<TrustPolicy>,
    /// With the modules of dm-verity.
    pub verity: bool,
}

/// What goes into the initrd, found before the long work begins.
#[derive(Debug)]
pub(crate) struct Parts {
    /// What makes it.
    pub(crate) tool: InitrdTool,
    client: PathBuf,
    /// Directory of our dracut module, or of our hook for initramfs-tools.
    module: PathBuf,
}

/// Finds the parts.
///
/// # Errors
/// [`PackError::NoClient`], [`PackError::NoDracutModule`], [`PackError::Read`].
pub(crate) fn find(options: &InitrdOptions, observe: Observer<'_>) -> Result<Parts, PackError> {
    let client = locate::client(options.client.as_deref())?;
    let tool = options.tool.unwrap_or_else(|| InitrdTool::preferred(&options.dracut_args));
    let module = match tool {
        InitrdTool::Dracut | InitrdTool::DracutBusybox => {
            locate::dracut_module(options.dracut_module.as_deref())?
        }
        InitrdTool::InitramfsTools => locate::initramfs_hook(options.initramfs_tools.as_deref())?,
    };
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
    Ok(Parts { tool, client, module })
}

/// Makes the initrd in `work` and returns its path.
///
/// # Errors
/// Those of finding the drivers, and of the tool.
pub(crate) fn make(
    root: &Path,
    kernel: &Kernel,
    parts: &Parts,
    options: &InitrdOptions,
    work: &Path,
    place: Place<'_>,
    observe: Observer<'_>,
) -> Result<PathBuf, PackError> {
    let mut trust = None;
    if let Some(policy) = &options.trust {
        let bytes = policy.to_bytes().map_err(|source| PackError::Trust { source })?;
        let path = work.join("trust.json");
        fs::write(&path, bytes).map_err(|e| place.write_error(path.clone(), e))?;
        trust = Some(path);
    }
    let drivers = drivers::find(kernel, &options.drivers, options.verity)?;
    let files = kernel_files::lay_out(root, kernel, &drivers, &work.join("kernel"), &place)?;
    warn(kernel, &drivers.lacking, &files, observe);
    let (module, client, trust) = (&*parts.module, &*parts.client, trust.as_deref());
    let files = &files;
    let compression = Compression::of_kernel(root, &kernel.release);
    let initrd = match parts.tool {
        InitrdTool::Dracut | InitrdTool::DracutBusybox => {
            let busybox = parts.tool == InitrdTool::DracutBusybox;
            let extra = &options.dracut_args;
            dracut::run(&dracut::Job {
                kernel,
                files,
                busybox,
                compression,
                module,
                client,
                trust,
                extra,
                work,
                place,
            })?
        }
        InitrdTool::InitramfsTools => {
            let hook = module;
            let job = initramfs_tools::Job {
                root,
                kernel,
                files,
                compression,
                hook,
                client,
                trust,
                work,
                place,
            };
            initramfs_tools::run(&job)?
        }
    };
    if !options.no_microcode {
        microcode::prepend(root, &initrd, work, &place)?;
    }
    let has_list = options.drivers.hardware.is_some();
    if let Some(text) = initrd_weight::remark(&kernel.image, &initrd, parts.tool, has_list) {
        observe(Event::Warning { text });
    }
    Ok(initrd)
}

/// What an admin should know about the drivers.
fn warn(kernel: &Kernel, lacking: &[&str], files: &KernelFiles, observe: Observer<'_>) {
    let release = &kernel.release;
    // EROFS is for images that are made so
    let lacking: Vec<&str> = lacking.iter().copied().filter(|name| *name != "erofs").collect();
    if !lacking.is_empty() {
        let text = format!(
            "kernel {release} has no {}, neither as a module nor built in: nodes may not be able \
             to mount the image",
            lacking.join(", ")
        );
        observe(Event::Warning { text });
    }
    if !files.without_firmware.is_empty() {
        let wanted: Vec<String> =
            files.without_firmware.iter().map(|(name, file)| format!("{name} ({file})")).collect();
        let text = format!(
            "the root has no firmware for {}: some of these cards need it. Debian: \
             firmware-misc-nonfree, firmware-realtek, firmware-bnx2",
            wanted.join(", ")
        );
        observe(Event::Warning { text });
    }
}
