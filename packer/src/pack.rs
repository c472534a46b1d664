//! The whole way from a source to a revision in the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use proto::manifest::{
    ARGUMENTS_FACT, ARGUMENTS_KNOWN, Artefact, ArtefactKind, HybridHashes, MANIFEST_VERSION,
    Manifest,
};
use proto::metainfo::Metainfo;
use proto::signature::{KeyIds, SIGNATURE_FILE};
use proto::unix_time::UnixTime;
use proto::verity::Verity;
use store::{Draft, RevisionDir, RevisionId, RevisionName, Store, StoreError};

pub use crate::contents::ContentOptions;
use crate::contents::Plan;
pub use crate::drivers::DriverOptions;
use crate::error::PackError;
use crate::event::{Event, Observer, Stage};
use crate::format::{Filesystem, FormatError, ImageFormat};
pub use crate::initrd::{InitrdOptions, InitrdTool};
use crate::initrd_error::InitrdError;
use crate::kernel::{self, Kernel};
use crate::meter::Meter;
pub use crate::oci::{Format, Platform};
pub use crate::order::Order;
use crate::signing::SigningKey;
pub use crate::source::Source;
use crate::tool::Place;
pub use crate::torrent::TorrentFormat;
use crate::{digest, image, initrd, initrd_files, piece_length, source, torrent, verity};

/// Key in the manifest's build facts: ids of the keys, one of which must have signed what nodes with this
/// revision's initrd boot.
pub const TRUSTED_KEYS: &str = "trusted-keys";

/// What to pack, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the root comes from.
    pub source: Source,
    /// Kind of machine, for images that are for several.
    pub platform: Platform,
    /// Name of the image.
    pub name: String,
    /// The store; made when absent.
    pub store: PathBuf,
    /// Announce URLs, tried in this order.
    pub trackers: Vec<String>,
    /// Web seed URLs (BEP 19); `{info_hash}` is replaced.
    pub web_seeds: Vec<String>,
    /// Only the trackers may name peers (BEP 27).
    pub private: bool,
    /// Which hashes the torrent has.
    pub torrent: TorrentFormat,
    /// How many nodes are expected to fetch at once.
    pub nodes: u32,
    /// What kind of image.
    pub image: ImageFormat,
    /// With a dm-verity tree behind the image.
    pub verity: bool,
    /// Which files lie first in it.
    pub order: Option<Order>,
    /// What to change of the source, and what it may hold.
    pub contents: ContentOptions,
    /// Kernel and initrd.
    pub boot: Boot,
    /// Signs the manifest, if at all.
    pub sign: Option<Signing>,
}

/// Who signs, and when that is said to be.
#[derive(Debug, Clone)]
pub struct Signing {
    /// The open key.
    pub key: Arc<SigningKey>,
    /// Goes into the trusted comment.
    pub time: UnixTime,
}

/// How nodes boot the image.
#[derive(Debug, Clone)]
pub enum Boot {
    /// An initrd is made for the root's kernel.
    Made {
        /// Kernel image, otherwise the root's.
        kernel: Option<PathBuf>,
        /// Kernel release, otherwise the newest.
        release: Option<String>,
        /// What goes into the initrd.
        initrd: InitrdOptions,
    },
    /// A finished initrd.
    Given {
        /// Kernel image, otherwise the root's.
        kernel: Option<PathBuf>,
        /// Kernel release, otherwise the newest.
        release: Option<String>,
        /// The initrd.
        initrd: PathBuf,
    },
    /// Neither: for images that something else boots.
    ImageOnly,
}

/// A revision that is in the store.
#[derive(Debug)]
pub struct Packed {
    /// Where it is.
    pub revision: RevisionDir,
    /// What it is.
    pub manifest: Manifest,
    /// Length of a piece, in bytes.
    pub piece_length: u32,
    /// False when the same revision was there already.
    pub new: bool,
}

/// Packs `options.source` and stores it as a revision; does not publish it.
///
/// # Errors
/// [`PackError`]; the store is then as it was before.
pub fn pack(options: &Options, observe: Observer<'_>) -> Result<Packed, PackError> {
    RevisionName::new(&*options.name).map_err(|source| PackError::Name { source })?;
    let mut trackers = Vec::new();
    for url in &options.trackers {
        trackers.push(torrent::announce_url(url)?);
    }
    for url in &options.web_seeds {
        torrent::web_url(url, "web seed")?;
    }
    if options.order.is_some() && options.image.filesystem() == Filesystem::Erofs {
        return Err(PackError::Format { source: FormatError::NoOrder });
    }
    let plan = Plan::new(&options.contents, observe)?;
    // before the store is made: a wrong path must not leave one behind
    let wanted = source::examine(&options.source, &options.platform)?;
    let store = Store::init(&options.store).map_err(PackError::Store)?;
    let draft = store.begin().map_err(PackError::Store)?;
    let steps = Steps { observe, store: &options.store };

    let stage = wanted.stage();
    let prepare = |place: &Place<'_>| wanted.prepare(&draft.work(), place, observe);
    let root = match stage {
        None => prepare(&steps.place(Stage::Unpack)),
        Some(stage) => steps.run(stage, prepare),
    }?;
    let mut contents =
        steps.run(Stage::Contents, |place| plan.open(&root.path, &draft.work(), *place))?;
    if matches!(options.boot, Boot::Made { .. }) {
        steps.run(Stage::Secrets, |_| contents.look_ahead())?;
    }
    let mut artefacts = BTreeMap::new();
    let release = boot(options, contents.root(), &draft, &steps, &mut artefacts)?;
    let place = steps.place(Stage::Contents);
    let said = contents.close(&options.name, release.as_deref(), options.source.path(), place)?;
    steps.run(Stage::Secrets, |place| {
        let made = matches!(options.boot, Boot::Made { .. });
        let initrd = artefacts.contains_key(&ArtefactKind::Initrd);
        let path = draft.dir().join(ArtefactKind::Initrd.file_name());
        let work = draft.work();
        let initrd = match initrd {
            true => initrd_files::unpack(&path, made, &work, place, observe)?,
            false => None,
        };
        contents.gate(initrd.as_deref())
    })?;
    let (metainfo, verity) =
        image_and_torrent(options, contents.root(), &draft, &steps, &trackers, &mut artefacts)?;
    contents.unchanged()?;
    let mut facts = options.image.facts();
    facts.extend(options.order.as_ref().map(|order| ("order", order.digest().to_string())));
    if let Boot::Made { initrd: InitrdOptions { trust: Some(policy), .. }, .. } = &options.boot {
        facts.push((TRUSTED_KEYS, KeyIds::of(&policy.keys).to_string()));
    }
    facts.push(("packer", concat!("bee-packer ", env!("CARGO_PKG_VERSION")).to_owned()));
    if matches!(options.boot, Boot::Made { .. }) {
        facts.push((ARGUMENTS_FACT, ARGUMENTS_KNOWN.to_owned()));
    }
    let facts = facts.into_iter().chain(root.facts);
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: options.name.clone(),
        artefacts,
        info_hash: metainfo.info_hash,
        v2: HybridHashes::of(&metainfo),
        verity,
        kernel_release: release,
        build: facts.map(|(key, value)| (key.to_owned(), value)).chain(said).collect(),
    };
    if let Some(signing) = &options.sign {
        sign(signing, &manifest, &draft, &steps)?;
    }
    let committed =
        steps.run(Stage::Store, |_| store.commit(draft, &manifest).map_err(PackError::Store))?;
    let piece_length = metainfo.info.geometry.piece_length();
    Ok(Packed { revision: committed.revision, manifest, piece_length, new: committed.new })
}

/// Puts the signature into the draft: the revision appears with it, or not at all.
fn sign(
    signing: &Signing,
    manifest: &Manifest,
    draft: &Draft,
    steps: &Steps<'_>,
) -> Result<(), PackError> {
    let encode = |source| PackError::Store(StoreError::Encode { source });
    let bytes = manifest.to_bytes().map_err(encode)?;
    let id = RevisionId::of_manifest(&bytes);
    let signature = signing.key.sign(&bytes, &manifest.name, id.as_str(), signing.time);
    let path = draft.dir().join(SIGNATURE_FILE);
    fs::write(&path, signature.map_err(PackError::Sign)?)
        .map_err(|e| steps.place(Stage::Store).write_error(path.clone(), e))
}

type Artefacts = BTreeMap<ArtefactKind, Artefact>;

/// Image, with its dm-verity tree if it is to have one, and torrent.
fn image_and_torrent(
    options: &Options,
    root: &Path,
    draft: &Draft,
    steps: &Steps<'_>,
    trackers: &[String],
    artefacts: &mut Artefacts,
) -> Result<(Metainfo, Option<Verity>), PackError> {
    let path = draft.dir().join(ArtefactKind::Image.file_name());
    steps.run(Stage::Image, |place| {
        let format = options.image;
        let sort = options.order.as_ref().map(|order| {
            let file = draft.work().join("sort");
            let size = format.block_size();
            order.write_sort_file(root, &image::EMPTIED, size, &file, place, steps.observe)?;
            Ok(file)
        });
        let sort = sort.transpose()?;
        image::make(root, &path, format, sort.as_deref(), place, steps.observe)
    })?;
    let verity = match options.verity {
        true => Some(steps.run(Stage::Verity, |place| add_tree(&path, place, steps.observe))?),
        false => None,
    };
    let read_error = |source| PackError::Read { path: path.clone(), source };
    let length = fs::metadata(&path).map_err(read_error)?.len();
    let piece_length = piece_length::choose(length, options.nodes);
    let hashes = steps.run(Stage::Hash, |_| {
        let mut meter = Meter::new(steps.observe, Stage::Hash, length);
        torrent::hash(&path, piece_length, |done| meter.bytes(done)).map_err(read_error)
    })?;
    artefacts.insert(ArtefactKind::Image, hashes.whole);
    let info = torrent::info(hashes, piece_length, options.private, options.torrent)?;
    let metainfo = torrent::metainfo(info, trackers, &options.web_seeds)?;
    let bytes = metainfo.to_bytes().map_err(|e| PackError::Torrent { reason: e.to_string() })?;
    let file = draft.dir().join(ArtefactKind::Torrent.file_name());
    fs::write(&file, &bytes).map_err(|e| steps.place(Stage::Hash).write_error(file.clone(), e))?;
    artefacts.insert(ArtefactKind::Torrent, add(&file)?);
    Ok((metainfo, verity))
}

/// Appends the dm-verity tree to the image.
fn add_tree(path: &Path, place: &Place<'_>, observe: Observer<'_>) -> Result<Verity, PackError> {
    let error = |e| place.write_error(path.to_owned(), e);
    let mut meter = Meter::new(observe, Stage::Verity, fs::metadata(path).map_err(error)?.len());
    verity::append(path, |done| meter.bytes(done)).map_err(error)
}

/// Kernel and initrd; returns the kernel's release.
fn boot(
    options: &Options,
    root: &Path,
    draft: &Draft,
    steps: &Steps<'_>,
    artefacts: &mut Artefacts,
) -> Result<Option<String>, PackError> {
    let (release, kernel, initrd) = match &options.boot {
        Boot::ImageOnly => return Ok(None),
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
        artefacts.insert(kind, add(&to)?);
    }
    Ok(release)
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

fn add(path: &Path) -> Result<Artefact, PackError> {
    digest::artefact(path).map_err(|source| PackError::Read { path: path.to_owned(), source })
}

fn absolute(path: &Path) -> Result<PathBuf, PackError> {
    fs::canonicalize(path)
        .map_err(|source| PackError::Store(StoreError::Read { path: path.to_owned(), source }))
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

/// A directory that goes with this.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // what cannot be removed is only in the way
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reports the steps.
struct Steps<'a> {
    observe: Observer<'a>,
    store: &'a Path,
}

impl Steps<'_> {
    fn place(&self, stage: Stage) -> Place<'_> {
        Place { store: self.store, step: stage.describe() }
    }

    /// Runs a step between its events.
    fn run<T>(
        &self,
        stage: Stage,
        step: impl FnOnce(&Place<'_>) -> Result<T, PackError>,
    ) -> Result<T, PackError> {
        (self.observe)(Event::Stage { stage });
        let start = Instant::now();
        let result = step(&self.place(stage))?;
        let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        (self.observe)(Event::Done { stage, elapsed_ms });
        Ok(result)
    }
}
