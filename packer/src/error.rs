//! What can go wrong while packing, each with its cause and remedy.

use std::io;
use std::path::PathBuf;

use proto::trust_policy::TrustPolicyError;
use store::{NameError, StoreError};

pub use crate::archive::ArchiveError;
pub use crate::category::Category;
use crate::format::FormatError;
use crate::initrd_error::InitrdError;
pub use crate::oci::OciError;
pub use crate::order::{LineError, OrderError};
pub use crate::recipe::RecipeError;
use crate::secrets::{self, Finding};
use crate::signing::SignError;
use crate::tool::Place;

/// A revision could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// `--source` is not there or cannot be read.
    #[error(
        "cannot read the source {path}: give a directory or a tar file that this user can read"
    )]
    Source {
        /// What was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `--source` is a file, but no tar.
    #[error(
        "{path} is neither a directory nor a tar (plain, gzip, zstd, xz or bzip2): it begins with \
         {begins}"
    )]
    NotATar {
        /// What was given.
        path: PathBuf,
        /// Its first bytes.
        begins: String,
    },
    /// An archive cannot be unpacked.
    #[error("cannot unpack {what}")]
    Archive {
        /// The file, or the layer of an image.
        what: String,
        /// Why.
        source: ArchiveError,
    },
    /// A container image cannot be used.
    #[error("cannot use the image {path}")]
    Oci {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: OciError,
    },
    /// A recipe cannot be followed.
    #[error("cannot use the recipe {path}")]
    Recipe {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RecipeError,
    },
    /// The source is a directory, but not the root of a system.
    #[error(
        "{path} does not look like the root of a system: it has neither usr/ nor etc/ and bin/. {}",
        match inside {
            Some(inside) => format!("The directory {} in it does: give that", inside.display()),
            None => "Give the directory that becomes / on the nodes".to_owned(),
        }
    )]
    NotARoot {
        /// The directory.
        path: PathBuf,
        /// The name of a directory in it that does.
        inside: Option<PathBuf>,
    },
    /// The store lies inside the tree that is to be packed.
    #[error("the store {store} lies inside the source {path}: put it elsewhere")]
    StoreInSource {
        /// The store.
        store: PathBuf,
        /// The source.
        path: PathBuf,
    },
    /// A link in the root leads out of it.
    #[error("{path} leads out of the root ({target}): make it a relative link inside the root")]
    Escapes {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A program is missing.
    #[error("cannot run {program}, which {purpose}: install {package} on this host")]
    ToolMissing {
        /// The program.
        program: String,
        /// What for.
        purpose: &'static str,
        /// Debian and Fedora package.
        package: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}){}:\n{tail}\n{remedy}", at(log))]
    ToolFailed {
        /// The program.
        program: String,
        /// Exit status in words.
        status: String,
        /// Its last meaningful lines.
        tail: String,
        /// What to do.
        remedy: String,
        /// Where its whole output lies.
        log: Option<PathBuf>,
    },
    /// The disk of the store is full.
    #[error(
        "no space left on the disk of the store {store} while {step}; nothing was stored. Free \
         some space (`bee-packer prune`) or use a larger disk"
    )]
    DiskFull {
        /// The store.
        store: PathBuf,
        /// What was being done.
        step: String,
    },
    /// No kernel modules in the root.
    #[error(
        "{root} has no kernel modules (looked in usr/lib/modules and lib/modules): install a \
         kernel package in it (Debian: linux-image-amd64, Fedora: kernel-core), or give a finished \
         initrd with --keep-initrd and its kernel with --kernel"
    )]
    NoModules {
        /// The root.
        root: PathBuf,
    },
    /// The pinned kernel version has no modules.
    #[error(
        "the root has no kernel modules for {wanted}; it has them for {found}. Pin one of those \
         with --kver, or install the kernel package of {wanted} in the root"
    )]
    KernelVersion {
        /// `--kver`, or the version of `--kernel`.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// `--kver` and `--kernel` disagree.
    #[error(
        "--kver says {pin}, but {kernel} is a kernel {release}: give the kernel of that version"
    )]
    KernelPin {
        /// `--kver`.
        pin: String,
        /// `--kernel`.
        kernel: PathBuf,
        /// The version inside that file.
        release: String,
    },
    /// Modules, but no kernel.
    #[error(
        "the root has kernel modules for {release}, but no kernel (looked for {looked}): install \
         the kernel package in it, or give --kernel FILE"
    )]
    NoKernel {
        /// Kernel release.
        release: String,
        /// Paths tried.
        looked: String,
    },
    /// The module directory lacks what depmod(8) makes.
    #[error("{path} is missing: run `depmod -b {root} {release}`")]
    NoModulesDep {
        /// `modules.dep`.
        path: PathBuf,
        /// The root.
        root: PathBuf,
        /// Kernel release.
        release: String,
    },
    /// `--level`, `--block-size`.
    #[error("no such image")]
    Format {
        /// Why.
        source: FormatError,
    },
    /// `--order` names no usable list.
    #[error(transparent)]
    Order(OrderError),
    /// The kernel cannot mount such an image.
    #[error(
        "kernel {release} cannot read {image} images ({option} is not set in its \
         configuration): use another --compression or --format; most kernels have xz squashfs"
    )]
    KernelLacks {
        /// Kernel release.
        release: String,
        /// `--compression` and `--format`.
        image: String,
        /// Kernel configuration option.
        option: &'static str,
    },
    /// The client for the initrd was not found.
    #[error(
        "cannot find bee-initrd-client, which goes into the initrd (looked in {looked}): give \
         --client FILE"
    )]
    NoClient {
        /// Paths tried.
        looked: String,
    },
    /// The dracut module was not found.
    #[error("cannot find our dracut module (looked in {looked}): give --dracut-module DIR")]
    NoDracutModule {
        /// Paths tried.
        looked: String,
    },
    /// dracut says it succeeded, but the client is not in the initrd.
    #[error(
        "the initrd was made without {missing}{}; the last lines of the tool that made it:\n{tail}\nGive \
         the right --dracut-module or --initramfs-tools (of this version) and --client",
        at(log)
    )]
    InitrdIncomplete {
        /// What is missing.
        missing: &'static str,
        /// Last lines of dracut.
        tail: String,
        /// Where its whole output lies.
        log: Option<PathBuf>,
    },
    /// A pattern of `--exclude` or `--allow-secret` cannot be used.
    #[error("{flag} {text:?} is not usable: {reason}")]
    Pattern {
        /// The flag.
        flag: &'static str,
        /// What was given.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// An overlay has a file where the root has a directory.
    #[error(
        "the overlay has the file {path} where the source has a directory (/{target}): remove one \
         of them"
    )]
    OverlayClash {
        /// In the overlay.
        path: PathBuf,
        /// In the root.
        target: PathBuf,
    },
    /// `--authorized-key` names no public key.
    #[error("--authorized-key {path}: {reason}")]
    NoPublicKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Only root may keep owners.
    #[error(
        "overlays, --exclude, --authorized-key and /etc/bee-release need root, to keep owners: run \
         it with sudo, or pack the source as it is, with --no-build-facts"
    )]
    NeedsRoot,
    /// What was left out is needed.
    #[error(
        "--exclude leaves out the modules of kernel {release}, which the image is to boot with: \
         exclude less, or give another kernel with --kver"
    )]
    ExcludedModules {
        /// Kernel release.
        release: String,
    },
    /// The image would hold secrets.
    #[error(
        "{} found in what is to be packed; every node, and whoever reaches one, could read {}:\n{}\n\
         Remove what is listed from the source or leave it out with --exclude; the flag below a path \
         packs it all the same",
        if findings.len() == 1 { "1 secret was".into() } else { format!("{} secrets were", findings.len()) },
        if findings.len() == 1 { "it" } else { "them" },
        secrets::list(findings)
    )]
    Secrets {
        /// Each of them.
        findings: Vec<Finding>,
    },
    /// The source or an overlay did not stay as it was.
    #[error(
        "the {what} {path} was changed while it was packed, {count} files of it:\n{list}\nNothing \
         was stored. Stop what writes to it, or pack a snapshot or copy{or}"
    )]
    Changed {
        /// "source" or "overlay".
        what: &'static str,
        /// What else helps.
        or: &'static str,
        /// Where it is.
        path: PathBuf,
        /// How many files.
        count: usize,
        /// Some of them, one per line.
        list: String,
    },
    /// A file that is the source did not stay as it was.
    #[error(
        "the source {path} was changed while it was unpacked; nothing was stored. Wait until what writes \
         it (a copy, a download, a build) is done, then pack it again"
    )]
    ChangedFile {
        /// The file.
        path: PathBuf,
    },
    /// A tracker or web seed is no URL.
    #[error("{url:?} is no {what}: write http://HOST:PORT/…")]
    Url {
        /// "tracker" or "web seed".
        what: &'static str,
        /// What was given.
        url: String,
    },
    /// The name cannot be used.
    #[error("--name is not usable")]
    Name {
        /// Why.
        source: NameError,
    },
    /// A file that was given by flag cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in the draft cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The torrent cannot be made (the image has no usable size).
    #[error("cannot make the torrent: {reason}")]
    Torrent {
        /// Why.
        reason: String,
    },
    /// The revision cannot be signed.
    #[error(transparent)]
    Sign(SignError),
    /// The drivers of the initrd, or the tool that makes it.
    #[error(transparent)]
    Initrd(InitrdError),
    /// The rules for nodes cannot be written down.
    #[error("cannot make the trust policy of the initrd")]
    Trust {
        /// Why.
        source: TrustPolicyError,
    },
    /// The store refused.
    #[error(transparent)]
    Store(StoreError),
}

impl PackError {
    /// The error for an archive that cannot be unpacked, or for the disk that it does not fit on.
    pub(crate) fn archive(what: String, source: ArchiveError, place: &Place<'_>) -> Self {
        if source.is_disk_full() { place.disk_full() } else { Self::Archive { what, source } }
    }
}

fn at(log: &Option<PathBuf>) -> String {
    log.as_ref().map_or_else(String::new, |path| format!(", whole output in {}", path.display()))
}
