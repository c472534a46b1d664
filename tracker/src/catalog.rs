//! What the store offers at this moment: which torrents are tracked and what a channel boots.
//!
//! The store is the truth; this is a copy, made anew whenever the store's fingerprint changes.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use proto::hash::{InfoHash, InfoHashV2, Sha256Digest};
use proto::manifest::ArtefactKind;
use proto::signature::KeyId;
use proto::unix_time::UnixTime;
use store::{Assignments, Channel, Fingerprint, RevisionName, RevisionRef, Store, StoreError};

use crate::boot::script::Offer;

/// One published revision.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name and id.
    pub revision: RevisionRef,
    /// Its torrent.
    pub info_hash: InfoHash,
    /// The same of BEP 52, when the torrent is hybrid.
    pub info_hash_v2: Option<InfoHashV2>,
    /// Bytes of the root image.
    pub length: u64,
    /// Kernel release, when the packer recorded one.
    pub kernel_release: Option<String>,
    /// Channels that boot it.
    pub channels: Vec<Channel>,
    /// SHA-256 of its manifest.
    pub manifest: Sha256Digest,
    /// Who signed it.
    pub signed: Signed,
    /// Whether it has kernel and initrd.
    pub bootable: bool,
    /// Whether the client in its initrd knows `beeswarm.token=`: older ones refuse what they do not know.
    pub takes_token: bool,
}

/// Who signed a revision, as its signature's file says: nothing is checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// Nobody.
    No,
    /// This key.
    By {
        /// Its id.
        key: KeyId,
        /// When, as the trusted comment says.
        time: Option<UnixTime>,
    },
    /// There is a file, and it is no signature.
    Unreadable,
}

impl Signed {
    fn of(signature: Option<&[u8]>) -> Self {
        match signature.map(proto::signature::claimed) {
            None => Self::No,
            Some(Ok(signed)) => Self::By { key: signed.key, time: signed.comment.time },
            Some(Err(_)) => Self::Unreadable,
        }
    }
}

/// A snapshot of the store.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Published revisions by name and id.
    pub images: Vec<Image>,
    /// What the store's file says of nodes that boot another revision than their channel's.
    pub assignments: Assignments,
    /// What could not be read, for people.
    pub problems: Vec<String>,
}

impl Catalog {
    /// Reads the store. What is broken is left out and named in [`Catalog::problems`].
    ///
    /// # Errors
    /// When the store as a whole cannot be read.
    pub fn read(store: &Store) -> Result<Self, StoreError> {
        // without it a node would silently boot the wrong image
        let assignments = store.assignments()?;
        let mut catalog = Self { assignments, ..Self::default() };
        let mut pointers: HashMap<RevisionRef, Vec<Channel>> = HashMap::new();
        for (channel, name) in store.channels()? {
            match store.current(&channel, &name) {
                Ok(Some(dir)) => pointers.entry(dir.reference().clone()).or_default().push(channel),
                Ok(None) => {}
                Err(error) => catalog.problems.push(describe(&error)),
            }
        }
        for revision in store.published()? {
            let channels = pointers.remove(&revision).unwrap_or_default();
            match Self::image(store, &revision, channels) {
                Ok(image) => catalog.images.push(image),
                Err(error) => catalog.problems.push(describe(&error)),
            }
        }
        Ok(catalog)
    }

    fn image(
        store: &Store,
        revision: &RevisionRef,
        channels: Vec<Channel>,
    ) -> Result<Image, StoreError> {
        let dir = store.revision(revision)?;
        let manifest = dir.manifest()?;
        let path = dir.manifest_path();
        let bytes = fs::read(&path).map_err(|source| StoreError::Read { path, source })?;
        let has = |kind| manifest.artefact(kind).is_some();
        Ok(Image {
            revision: revision.clone(),
            info_hash: manifest.info_hash,
            info_hash_v2: manifest.v2.map(|v2| v2.info_hash),
            signed: Signed::of(dir.signature()?.as_deref()),
            length: manifest.artefact(ArtefactKind::Image).map_or(0, |a| a.length),
            bootable: has(ArtefactKind::Kernel) && has(ArtefactKind::Initrd),
            takes_token: manifest.takes_argument("token"),
            kernel_release: manifest.kernel_release,
            channels,
            manifest: Sha256Digest::of(&bytes),
        })
    }

    /// The torrents that are tracked.
    #[must_use]
    pub fn allowed(&self) -> HashSet<InfoHash> {
        self.images.iter().map(|image| image.info_hash).collect()
    }

    /// The image with this torrent.
    #[must_use]
    pub fn by_info_hash(&self, info_hash: &InfoHash) -> Option<&Image> {
        self.images.iter().find(|image| image.info_hash == *info_hash)
    }

    /// What a node boots that was told to boot `told`.
    ///
    /// # Errors
    /// The reason, for the node's screen, why that cannot be.
    pub fn offer_told(&self, told: &RevisionRef) -> Result<Offer, String> {
        let image = self.images.iter().find(|image| image.revision == *told).ok_or_else(|| {
            format!("this node was told to boot {told}, which is not published: publish it")
        })?;
        bootable(image)
    }

    /// What a node of `channel` boots.
    ///
    /// # Errors
    /// The reason, for the node's screen, why there is nothing.
    pub fn offer(&self, channel: &Channel, name: Option<&RevisionName>) -> Result<Offer, String> {
        let in_channel: Vec<_> =
            self.images.iter().filter(|image| image.channels.contains(channel)).collect();
        let fits = |image: &&&Image| name.is_none_or(|name| image.revision.name == *name);
        let candidates: Vec<_> = in_channel.iter().filter(fits).collect();
        let image = match (candidates.as_slice(), name) {
            ([image], _) => image,
            ([], None) => return Err(format!("nothing is published in channel {channel}")),
            ([], Some(name)) => {
                return Err(format!("no image {name} is published in channel {channel}"));
            }
            (several, _) => {
                let names: Vec<_> = several.iter().map(|i| i.revision.name.as_str()).collect();
                return Err(format!(
                    "channel {channel} has several images ({}): choose one with bee-tracker --image",
                    names.join(", ")
                ));
            }
        };
        bootable(image)
    }
}

fn bootable(image: &Image) -> Result<Offer, String> {
    if !image.bootable {
        return Err(format!(
            "image {} has no kernel or no initrd: pack it again with --kernel",
            image.revision
        ));
    }
    let takes_token = image.takes_token;
    Ok(Offer { revision: image.revision.clone(), pin: image.manifest, takes_token })
}

/// Follows a store on disk.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    last: Option<Fingerprint>,
}

impl Follower {
    /// Checks that there is a store, or an empty directory in which one will be made.
    ///
    /// # Errors
    /// [`StoreError`] when it is neither.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        match Store::open(path) {
            Err(StoreError::NotAStore { .. }) if is_empty_dir(path) => {}
            other => drop(other?),
        }
        Ok(Self { path: path.to_owned(), last: None })
    }

    /// The new catalog when the store has changed since the last call, or can be read again.
    ///
    /// # Errors
    /// When the store cannot be read at the moment; the former catalog then stays good.
    pub fn poll(&mut self) -> Result<Option<Catalog>, StoreError> {
        let last = self.last.take();
        let store = match Store::open(&self.path) {
            Err(StoreError::NotAStore { .. }) if last.is_none() && is_empty_dir(&self.path) => {
                return Ok(None);
            }
            other => other?,
        };
        let now = store.fingerprint()?;
        if last == Some(now) {
            self.last = last;
            return Ok(None);
        }
        let catalog = Catalog::read(&store)?;
        // what could not be read is tried again
        self.last = catalog.problems.is_empty().then_some(now);
        Ok(Some(catalog))
    }
}

fn is_empty_dir(path: &Path) -> bool {
    let entries: io::Result<_> = fs::read_dir(path);
    entries.is_ok_and(|mut entries| entries.next().is_none())
}

/// An error with its causes on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
