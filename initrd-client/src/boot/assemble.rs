//! The last four states: a loop device, what guards it, a root, a record.
//!
//! ```text
//!  RUN/image/rootimg.sfs ─▶ /dev/loopN [─▶ /dev/dm-N] ─▶ RUN/lower (the image, read-only) ┐
//!                                                        RUN/overlay (tmpfs: upper, work) ┴▶ ROOT (overlay)
//! ```
//!
//! `lower` and `overlay` are unmounted again once the root stands on them: an overlay holds its
//! layers by itself, and the running node's list of mounts stays short. The image's tmpfs stays: the
//! loop device reads from it.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proto::boot_record::{BOOT_RECORD_VERSION, BootRecord};
use proto::event::VerityUse;
use swarm::Completed;
use sys::loop_device::{self, AttachOptions, LoopDevice};
use sys::mount::{self, TmpfsOptions};

use super::verity::Guard;
use super::{BootError, Context, Verified};
use crate::discover;
use crate::fetch;
use crate::trust::Trusted;

/// The verified image is a block device.
#[derive(Debug)]
pub(super) struct Attached {
    verified: Verified,
    device: LoopDevice,
}

/// It is known through which device the image is read.
#[derive(Debug)]
pub(super) struct Guarded {
    attached: Attached,
    guard: Guard,
}

/// The root is mounted.
#[derive(Debug)]
pub(super) struct Mounted {
    context: Context,
    trusted: Trusted,
    completed: Completed,
    device: LoopDevice,
    guard: Guard,
}

impl Verified {
    pub(super) fn attach(self) -> Result<Attached, BootError> {
        let image = self.context.options.image();
        let device =
            loop_device::attach(&image, &AttachOptions::default()).map_err(BootError::Loop)?;
        Ok(Attached { verified: self, device })
    }
}

impl Attached {
    pub(super) fn device(&self) -> String {
        self.device.path().display().to_string()
    }

    /// Sets up dm-verity, if image, kernel and `beeswarm.verity=` have it so.
    pub(super) fn guard(self) -> Result<Guarded, BootError> {
        let Verified { context, trusted, .. } = &self.verified;
        let (mode, mapper) = (context.args.verity, &context.options.mapper);
        match Guard::set_up(mode, trusted.verity.as_ref(), self.device.number(), mapper) {
            Ok(guard) => Ok(Guarded { attached: self, guard }),
            Err(reason) => {
                // the first error is the one to tell
                let _ = self.device.detach();
                Err(BootError::Unchecked { reason })
            }
        }
    }
}

impl Guarded {
    /// Mounts image and overlay. After an error nothing of it is left, so that the next attempt
    /// starts from the image.
    pub(super) fn mount(self) -> Result<Mounted, BootError> {
        let Self { attached: Attached { verified, device }, guard } = self;
        let Verified { context, trusted, completed } = verified;
        let run = &context.options.run;
        let layers = Layers { lower: run.join("lower"), overlay: run.join("overlay") };
        let size = context.args.overlay.size.map(|size| size.0);
        let source = guard.device().unwrap_or(device.path());
        let result = layers.mount(source, size, &context.options.root);
        layers.clean_up();
        match result {
            Ok(()) => Ok(Mounted { context, trusted, completed, device, guard }),
            Err(error) => {
                // the first error is the one to tell
                let error = guard.explain(error);
                guard.remove();
                let _ = device.detach();
                Err(error)
            }
        }
    }
}

impl Mounted {
    pub(super) fn root(&self) -> String {
        self.context.options.root.display().to_string()
    }

    pub(super) fn verity(&self) -> Option<VerityUse> {
        self.guard.report()
    }

    /// Writes what the running node's seeder needs to go on.
    pub(super) fn hand_over(self) -> Result<(), BootError> {
        let Context { options, args } = &self.context;
        let number = self.device.number();
        let trackers =
            fetch::tiers(&args.trackers).unwrap_or_else(|| self.trusted.metainfo.trackers.clone());
        let first = trackers.iter().flatten().find_map(|url| super::origin(url));
        let report = args.report.as_deref().or(first);
        let record = BootRecord {
            version: BOOT_RECORD_VERSION,
            device: self.device.path().display().to_string(),
            device_number: (number.major, number.minor),
            length: self.completed.bytes,
            info_hash: self.trusted.metainfo.info_hash,
            torrent: options.torrent().display().to_string(),
            report: report.map(str::to_owned),
            node: self.context.node(),
            token: args.token.clone(),
            manifest_sha256: self.trusted.manifest_sha256,
            signed_by: self.trusted.signed.as_ref().map(|signed| signed.by.key.to_string()),
            verity: self.guard.record(self.trusted.verity.as_ref()),
            source: discover::name(&args.source).to_owned(),
            upload_limit: args.upload_limit,
            no_lsd: !args.local_discovery,
            sources: self.completed.sources,
            trackers,
        };
        let bytes = record.to_bytes().map_err(|error| BootError::Record(error.to_string()))?;
        sys::fs::write_atomically(&options.record(), &bytes).map_err(BootError::Write)
    }
}

/// Mount points that exist for a moment.
struct Layers {
    lower: PathBuf,
    overlay: PathBuf,
}

impl Layers {
    fn mount(&self, device: &Path, size: Option<u64>, root: &Path) -> Result<(), BootError> {
        for dir in [self.lower.as_path(), self.overlay.as_path(), root] {
            make_dir(dir)?;
        }
        mount::image(device, &self.lower).map_err(BootError::Mount)?;
        // an absolute link to `init` points into the image, so it is not followed here
        if !["sbin/init", "usr/sbin/init", "init", "etc/init", "lib/systemd/systemd"]
            .iter()
            .any(|init| self.lower.join(init).symlink_metadata().is_ok())
        {
            return Err(BootError::NoInit("/sbin/init"));
        }
        let tmpfs =
            TmpfsOptions { size, mode: 0o755, interleave: true, huge: false, data_only: false };
        mount::tmpfs(&self.overlay, &tmpfs).map_err(BootError::Mount)?;
        let (upper, work) = (self.overlay.join("upper"), self.overlay.join("work"));
        make_dir(&upper)?;
        make_dir(&work)?;
        copy_owner(&self.lower, &upper)?;
        mount::overlay(root, &[&self.lower], &upper, &work).map_err(BootError::Mount)
    }

    /// Takes the layers out of the tree; a root that stands on them keeps them.
    fn clean_up(&self) {
        for dir in [&self.overlay, &self.lower] {
            // not mounted, after an early error: nothing to clean up
            let _ = mount::unmount(dir, true);
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// The top folder of an overlay shows the attributes of its upper layer: they must be the image's.
fn copy_owner(from: &Path, to: &Path) -> Result<(), BootError> {
    let failed = |source| BootError::File { path: to.into(), source };
    let meta = std::fs::metadata(from).map_err(failed)?;
    std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid())).map_err(failed)?;
    std::fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o7777)).map_err(failed)
}

fn make_dir(path: &Path) -> Result<(), BootError> {
    std::fs::create_dir_all(path).map_err(|source| BootError::File { path: path.into(), source })
}
