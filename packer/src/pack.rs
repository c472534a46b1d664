//! The whole way from a source to a revision in the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proto::manifest::{
    ARGUMENTS_FACT, ARGUMENTS_KNOWN, Artefact, ArtefactKind, HybridHashes, MANIFEST_VERSION,
    Manifest,
};
use proto::metainfo::Metainfo;
use proto::signature::{KeyIds, SIGNATURE_FILE};
use proto::verity::Verity;
use store::{Draft, RevisionDir, RevisionId, RevisionName, Store, StoreError};

pub use crate::boot::make_initrd;
pub use crate::contents::ContentOptions;
use crate::contents::Plan;
pub use crate::drivers::DriverOptions;
use crate::error::PackError;
use crate::event::{Observer, Stage};
use crate::follow::Followed;
use crate::format::{Filesystem, FormatError};
pub use crate::initrd::{InitrdOptions, InitrdTool};
pub use crate::oci::{Format, Platform};
pub use crate::options::{Boot, Options, Signing};
pub use crate::order::Order;
pub use crate::source::Source;
use crate::steps::Steps;
use crate::tool::Place;
pub use crate::torrent::TorrentFormat;
use crate::{boot, digest, fuse_mount, image, initrd_files, source, torrent};

/// Key in the manifest's build facts: ids of the keys, one of which must have signed what nodes with this
/// revision's initrd boot.
pub const TRUSTED_KEYS: &str = "trusted-keys";

/// Key in the manifest's build facts: what made the initrd, as `--initrd-tool` has it.
pub const INITRD_TOOL: &str = "initrd-tool";

/// A revision that is in the store.
#[derive(Debug)]
pub struct Packed {
    /// Where it is.
    pub revision: RevisionDir,
    /// What it is.
    pub manifest: Manifest,
    /// Length of a piece, in bytes.
    pub piece_length: u32,
    /// Bytes of the image that were read to hash them, beside those hashed while they were written.
    pub read_back: u64,
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
    let plan = Plan::new(&options.contents, options.image.filesystem(), observe)?;
    // before the store is made: a wrong path must not leave one behind
    let wanted = source::examine(&options.source, &options.platform)?;
    let store = Store::init(&options.store).map_err(PackError::Store)?;
    fuse_mount::clear(&store.root().join("tmp"));
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
    let boot::Found { release, tool } =
        boot::make(options, contents.root(), &draft, &steps, &mut artefacts)?;
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
    let Made { metainfo, verity, read_back } =
        image_and_torrent(options, contents.root(), &draft, &steps, &trackers, &mut artefacts)?;
    contents.unchanged()?;
    let mut facts = options.image.facts();
    facts.extend(options.order.as_ref().map(|order| ("order", order.digest().to_string())));
    if let Boot::Made { initrd: InitrdOptions { trust: Some(policy), .. }, .. } = &options.boot {
        facts.push((TRUSTED_KEYS, KeyIds::of(&policy.keys).to_string()));
    }
    facts.extend(tool.map(|tool| (INITRD_TOOL, tool.as_str().to_owned())));
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
    let new = committed.new;
    Ok(Packed { revision: committed.revision, manifest, piece_length, read_back, new })
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

/// What is known of an image that is complete.
struct Made {
    metainfo: Metainfo,
    verity: Option<Verity>,
    /// Bytes of the image that were read after they were written.
    read_back: u64,
}

/// Image, with its dm-verity tree if it is to have one, and torrent.
fn image_and_torrent(
    options: &Options,
    root: &Path,
    draft: &Draft,
    steps: &Steps<'_>,
    trackers: &[String],
    artefacts: &mut Artefacts,
) -> Result<Made, PackError> {
    let path = draft.dir().join(ArtefactKind::Image.file_name());
    let work = draft.work();
    let written = steps.run(Stage::Image, |place| {
        let format = options.image;
        let sort = options.order.as_ref().map(|order| {
            let file = work.join("sort");
            let size = format.block_size();
            order.write_sort_file(root, &image::EMPTIED, size, &file, place, steps.observe)?;
            Ok(file)
        });
        let sort_file = sort.transpose()?;
        let sort_file = sort_file.as_deref();
        let (nodes, verity) = (options.nodes, options.verity);
        let job = image::Job { root, image: &path, format, sort_file, nodes, verity, work: &work };
        image::make(&job, place, steps.observe)
    })?;
    let Followed { hashes, verity, read_back } =
        steps.run(Stage::Hash, |place| written.finish(place, steps.observe))?;
    artefacts.insert(ArtefactKind::Image, hashes.artefact());
    let info = torrent::info(hashes, options.private, options.torrent)?;
    let metainfo = torrent::metainfo(info, trackers, &options.web_seeds)?;
    let bytes = metainfo.to_bytes().map_err(|e| PackError::Torrent { reason: e.to_string() })?;
    let file = draft.dir().join(ArtefactKind::Torrent.file_name());
    fs::write(&file, &bytes).map_err(|e| steps.place(Stage::Hash).write_error(file.clone(), e))?;
    artefacts.insert(ArtefactKind::Torrent, digest::of_part(&file)?);
    Ok(Made { metainfo, verity, read_back })
}
