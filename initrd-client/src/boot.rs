//! `boot`: from kernel arguments to a root file system, once, in the initrd.
//!
//! ```text
//!  Discover ──▶ Fetch ──▶ Verify ──▶ Attach ──▶ Guard ────▶ Mount ──▶ Handover ──▶ (switch_root)
//!   torrent      tmpfs     every      loop       dm-verity,   image      boot.json
//!   + pin        + swarm   piece      device     if the image + overlay
//!   + memory                                     has a tree   on NEWROOT
//! ```
//!
//! Each state is a type, and each step takes the state and gives the next: a root is never mounted
//! from an image that was not verified, because there is no function that does it.
//!
//! *Verify* reads nothing a second time when a pin is all that the node has. The info-hash that it
//! names covers the SHA-1 of every piece, the engine compares a piece before it writes it, and the
//! file is on a tmpfs that nobody else has open. With a signature demanded the image is read once
//! more: its signed digest is of SHA-256, which is stronger than that of the pieces ([`crate::image`]).
//!
//! Only the network is waited for, without end and with the reason on the console. Everything else
//! that fails ends the program with a message and an exit code ([`crate::exit`]).

mod assemble;
mod error;
mod verity;

use std::path::PathBuf;
use std::sync::Arc;

use proto::event::{EventBatch, EventKind, Stall, StallCause};
use proto::kernel_args::KernelArgs;
use proto::node_id::NodeId;
use proto::trust_policy::TRUST_POLICY_PATH;
use swarm::storage::FileStorage;
use swarm::{Completed, InitialHave};
use sys::device_mapper;
use sys::memory::{MachineMemory, ProcessMemory};
use sys::mount::{self, TmpfsOptions};

pub use error::BootError;

use crate::cmdline;
use crate::discover::{self, Surroundings};
use crate::download::{Download, DownloadError, Plan};
use crate::fetch;
use crate::image;
use crate::narrator::Narrator;
use crate::network;
use crate::policy::{self, PolicyError};
use crate::preflight;
use crate::retry::Pauses;
use crate::trust::{Demands, Trusted};

/// Where everything is. Tests put it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOptions {
    /// Files with kernel arguments; `None` is dracut's order.
    pub cmdline: Option<PathBuf>,
    /// Where the new root is mounted.
    pub root: PathBuf,
    /// Folder below `/run` for image, torrent and `boot.json`.
    pub run: PathBuf,
    /// Instead of `/proc/meminfo`.
    pub meminfo: Option<PathBuf>,
    /// Which signatures are demanded; without this file none.
    pub trust: PathBuf,
    /// Where device-mapper listens.
    pub mapper: PathBuf,
}

impl Default for BootOptions {
    fn default() -> Self {
        Self {
            cmdline: None,
            root: "/sysroot".into(),
            run: "/run/beeswarm".into(),
            meminfo: None,
            trust: TRUST_POLICY_PATH.into(),
            mapper: device_mapper::CONTROL.into(),
        }
    }
}

impl BootOptions {
    /// The image, on a tmpfs of its own.
    fn image(&self) -> PathBuf {
        self.run.join("image/rootimg.sfs")
    }

    /// The torrent, for the re-seeder of the running node.
    fn torrent(&self) -> PathBuf {
        self.run.join("rootimg.torrent")
    }

    /// What the re-seeder reads first.
    pub(crate) fn record(&self) -> PathBuf {
        self.run.join("boot.json")
    }
}

/// What all states know.
#[derive(Debug)]
struct Context {
    options: BootOptions,
    args: KernelArgs,
}

/// The torrent is known and fits the pin.
#[derive(Debug)]
struct Found {
    context: Context,
    trusted: Trusted,
}

/// A tmpfs of the right size holds the (empty, or partly fetched) image file.
#[derive(Debug)]
struct Reserved {
    context: Context,
    trusted: Trusted,
    storage: FileStorage,
    have: InitialHave,
}

/// Every piece was compared with the torrent; the swarm has been left.
#[derive(Debug)]
struct Verified {
    context: Context,
    trusted: Trusted,
    completed: Completed,
}

/// Runs the whole boot.
///
/// # Errors
/// [`BootError`]: never because of the network.
pub async fn run(options: BootOptions, narrator: &mut Narrator) -> Result<(), BootError> {
    let context = Context::new(options)?;
    if context.is_mounted()? {
        narrator.note(&format!("{} is mounted already", context.options.root.display()));
        return Ok(());
    }
    narrator.watch_cards(&Context::surroundings().net);
    context.report_early(narrator);
    let found = context.discover(narrator).await?;
    found.report(narrator);
    // after it is known where to report to: too little memory is news for the status page
    found.check_memory()?;
    let reserved = found.reserve()?;
    let verified = reserved.fetch(narrator).await?;
    let attached = verified.attach()?;
    narrator.tell(EventKind::Attach { device: attached.device() });
    let mounted = attached.guard()?.mount()?;
    narrator.tell(EventKind::Mount { root: mounted.root(), verity: mounted.verity() });
    mounted.hand_over()?;
    let peak_memory = ProcessMemory::read().map_or(0, |memory| memory.peak);
    narrator.tell(EventKind::Handover { peak_memory });
    Ok(())
}

impl Context {
    fn new(options: BootOptions) -> Result<Self, BootError> {
        let files = match &options.cmdline {
            Some(file) => vec![file.clone()],
            None => cmdline::dracut_files("/".as_ref()),
        };
        let line = cmdline::read(&files).map_err(BootError::Cmdline)?;
        let args = KernelArgs::parse(&line).map_err(BootError::Arguments)?;
        Ok(Self { options, args })
    }

    /// A unit that is started again after it succeeded has nothing to do.
    fn is_mounted(&self) -> Result<bool, BootError> {
        // a path that does not exist yet has nothing mounted on it
        let Ok(root) = self.options.root.canonicalize() else { return Ok(false) };
        let mounted = mount::is_mounted(&root).map_err(BootError::Mount)?;
        if mounted && !self.options.record().exists() {
            return Err(BootError::Occupied { root });
        }
        Ok(mounted)
    }

    fn surroundings() -> Surroundings {
        Surroundings { net: "/sys/class/net".into(), resolver: None }
    }

    /// Reports from the first moment on when the kernel arguments say where to.
    fn report_early(&self, narrator: &mut Narrator) {
        let first = self.args.trackers.iter().find_map(|url| origin(url));
        self.report_to(self.args.report.as_deref().or(first), narrator);
    }

    fn report_to(&self, base_url: Option<&str>, narrator: &mut Narrator) {
        if let (Some(base_url), Some(node)) = (base_url, self.node()) {
            let text = |path| std::fs::read_to_string(path).ok();
            let boot_id = text("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            let mut about = EventBatch::new(boot_id.trim().to_owned());
            about.token.clone_from(&self.args.token);
            about.macs = network::addresses(&network::cards(&Self::surroundings().net));
            about.uuid = text("/sys/class/dmi/id/product_uuid");
            narrator.report_to(base_url, node, about);
        }
    }

    /// `beeswarm.node=`, `BOOTIF=`, or the card with a link.
    fn node(&self) -> Option<NodeId> {
        let net = Self::surroundings().net;
        self.args.node.or_else(|| network::node_id(&network::cards(&net)))
    }

    fn demands(&self) -> Result<Demands, PolicyError> {
        let baked = policy::baked(&self.options.trust)?;
        policy::demands(baked, &self.args.keys, self.args.pin)
    }

    async fn discover(self, narrator: &mut Narrator) -> Result<Found, BootError> {
        let mut surroundings = Self::surroundings();
        if self.options.cmdline.is_none() {
            let state = PathBuf::from("/run/systemd/netif/state");
            surroundings.resolver = Some(("/etc/resolv.conf".into(), state));
        }
        let demands = self.demands().map_err(BootError::Policy)?;
        narrator.note(&policy::describe(&demands));
        let trusted = discover::discover(&self.args.source, &demands, &surroundings, narrator)
            .await
            .map_err(BootError::Discover)?;
        if let Some(signer) = policy::describe_signer(&trusted) {
            narrator.note(&signer);
        }
        let length = trusted.metainfo.info.geometry.total();
        if length % sys::loop_device::SECTOR != 0 {
            return Err(BootError::Unaligned { length });
        }
        Ok(Found { context: self, trusted })
    }
}

impl Found {
    fn length(&self) -> u64 {
        self.trusted.metainfo.info.geometry.total()
    }

    /// Before the first byte: a node that runs out of memory half-way says nothing useful.
    fn check_memory(&self) -> Result<(), BootError> {
        let memory = match &self.context.options.meminfo {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|source| BootError::File { path: file.clone(), source })
                .and_then(|text| MachineMemory::parse(&text).map_err(BootError::Meminfo))?,
            None => MachineMemory::read().map_err(BootError::Meminfo)?,
        };
        // what an interrupted run has left is allocated already
        let present = std::fs::metadata(self.context.options.image()).map_or(0, |meta| meta.len());
        preflight::check(self.length(), present, memory).map_err(BootError::Memory)
    }

    /// Without `beeswarm.report=` and `beeswarm.tracker=` events go to the torrent's first HTTP tracker.
    fn report(&self, narrator: &mut Narrator) {
        let first = self.trusted.metainfo.trackers.iter().flatten().find_map(|url| origin(url));
        self.context.report_to(first, narrator);
    }

    /// Mounts the image's tmpfs, keeps the torrent for the re-seeder, allocates the file.
    fn reserve(self) -> Result<Reserved, BootError> {
        let length = self.length();
        let Self { context, trusted } = self;
        let options = &context.options;
        let image = options.image();
        let dir = image.parent().expect("image() has a parent").to_path_buf();
        let file = |path: PathBuf| move |source| BootError::File { path, source };
        std::fs::create_dir_all(&dir).map_err(file(dir.clone()))?;
        let dir = dir.canonicalize().map_err(file(dir.clone()))?;
        if !mount::is_mounted(&dir).map_err(BootError::Mount)? {
            let tmpfs = TmpfsOptions {
                size: Some(preflight::tmpfs_size(length)),
                mode: 0o755,
                interleave: true,
                huge: true,
                data_only: true,
            };
            mount::tmpfs(&dir, &tmpfs).map_err(BootError::Mount)?;
        }
        let torrent = options.torrent();
        sys::fs::write_atomically(&torrent, &trusted.torrent).map_err(BootError::Write)?;
        let have = fetch::initial_have(&image);
        let storage = FileStorage::create(&image, length).map_err(BootError::Storage)?;
        Ok(Reserved { context, trusted, storage, have })
    }
}

impl Reserved {
    async fn fetch(self, narrator: &mut Narrator) -> Result<Verified, BootError> {
        let Self { context, trusted, storage, have } = self;
        let plan = Plan {
            metainfo: Arc::new(trusted.metainfo.clone()),
            signed: trusted.signed.clone(),
            trackers: fetch::tiers(&context.args.trackers),
            listen: context.args.listen,
            upload_limit: context.args.upload_limit,
            download_limit: context.args.download_limit,
            local_discovery: context.args.local_discovery,
        };
        let mut download = join(plan, Arc::new(storage), have, narrator).await?;
        let result = download.complete(narrator).await;
        download.stop().await;
        if matches!(&result, Err(DownloadError::Image(_))) {
            image::discard(&context.options.image());
        }
        let completed = result.map_err(BootError::Download)?;
        Ok(Verified { context, trusted, completed })
    }
}

/// Joins the swarm; an address in `beeswarm.listen=` that the network has not given us yet is
/// waited for.
async fn join(
    plan: Plan,
    storage: Arc<FileStorage>,
    have: InitialHave,
    narrator: &mut Narrator,
) -> Result<Download, BootError> {
    let mut pauses = Pauses::new(u64::from(std::process::id()));
    loop {
        match Download::start(plan.clone(), storage.clone(), have).await {
            Ok(download) => return Ok(download),
            Err(DownloadError::Session(error @ swarm::SessionError::Listen { .. })) => {
                let detail = discover::chain(&error);
                narrator.stall(Stall { cause: StallCause::NoAddress, detail });
            }
            Err(error) => return Err(BootError::Download(error)),
        }
        tokio::time::sleep(pauses.after(StallCause::NoAddress)).await;
    }
}

/// `http://HOST:PORT` of a URL.
fn origin(url: &str) -> Option<&str> {
    let host = url.strip_prefix("http://")?;
    let end = host.find('/').unwrap_or(host.len());
    url.get(.."http://".len() + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for (url, expected) in [
            ("http://10.0.0.1:6969/announce?x=1", Some("http://10.0.0.1:6969")),
            ("http://[fd00::1]", Some("http://[fd00::1]")),
            ("udp://h/announce", None),
        ] {
            assert_eq!(origin(url), expected);
        }
    }
}
