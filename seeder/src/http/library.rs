//! From a target to an open file of a published revision.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use proto::manifest::{ArtefactKind, MANIFEST_FILE, Manifest};
use proto::signature::SIGNATURE_FILE;
use store::{RevisionDir, RevisionRef, Store};

use super::counters::file_index;
use super::target::Target;

/// How long a file of a revision stays what it is.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// Which files are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All files of published revisions.
    Everything,
    /// All but the image: nodes take it from each other, this host serves what they boot with.
    WithoutImage,
}

/// A file that is ready to be sent.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) len: u64,
    /// Strong: a revision never changes, and a signature has its time in it.
    pub(super) etag: String,
    pub(super) content_type: &'static str,
    pub(super) cache_control: &'static str,
    /// Which counter it has.
    pub(super) counter: usize,
}

/// Why there is no file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 404.
    NotFound,
    /// 403: it exists and is not served here.
    NotHere,
    /// 500: the store is damaged or unreadable; the text is for the log.
    Broken(String),
}

/// Kernel and initrd of one revision, open: what a running node hands on.
#[derive(Debug)]
pub struct Netboot {
    reference: RevisionRef,
    files: Vec<(ArtefactKind, (File, u64))>,
}

impl Netboot {
    /// Each file with its length in bytes; they are not checked again.
    pub fn new(reference: RevisionRef, files: Vec<(ArtefactKind, (File, u64))>) -> Self {
        Self { reference, files }
    }

    fn open(&self, target: &Target) -> Result<Opened, Refusal> {
        let Target::Revision { reference, file: name } = target else {
            return Err(Refusal::NotFound);
        };
        let is_it = |kind: &ArtefactKind| kind.file_name() == name;
        let found = self.files.iter().find(|(kind, _)| is_it(kind) && *reference == self.reference);
        let (_, (file, len)) = found.ok_or(Refusal::NotFound)?;
        Ok(Opened {
            // sendfile(2) is told the offset, so transfers share the file
            file: file.try_clone().map_err(broken)?,
            len: *len,
            etag: format!("\"{}-{name}\"", reference.id),
            content_type: content_type(name),
            cache_control: FOREVER,
            counter: file_index(name).ok_or(Refusal::NotFound)?,
        })
    }
}

/// What this server shows.
#[derive(Debug)]
pub(super) enum Library {
    /// Published revisions of a store.
    Store(Shelves),
    /// What a node boots with.
    Netboot(Netboot),
}

/// A store, and which part of it is shown.
#[derive(Debug)]
pub(super) struct Shelves {
    store: Store,
    scope: Scope,
}

impl Library {
    pub(super) fn new(store: Store, scope: Scope) -> Self {
        Self::Store(Shelves { store, scope })
    }

    /// Opens what `target` names. May block on a disk.
    pub(super) fn open(&self, target: &Target) -> Result<Opened, Refusal> {
        match self {
            Self::Store(shelves) => shelves.open(target),
            Self::Netboot(files) => files.open(target),
        }
    }
}

impl Shelves {
    /// Opens what `target` names. Blocks on the disk.
    ///
    /// The store is asked at every request, so a revision is there from the moment it is published.
    /// A transfer that has begun keeps its file when the revision is pruned.
    fn open(&self, target: &Target) -> Result<Opened, Refusal> {
        let (dir, name, cache_control) = match target {
            Target::Revision { reference, file } => {
                let dir = self.store.revision(reference).map_err(|_| Refusal::NotFound)?;
                (dir, file, FOREVER)
            }
            Target::Channel { channel, name, file } => {
                let dir = self.store.current(channel, name).map_err(broken)?;
                (dir.ok_or(Refusal::NotFound)?, file, "no-cache")
            }
            Target::Health | Target::Metrics => return Err(Refusal::NotFound),
        };
        let counter = file_index(name).ok_or(Refusal::NotFound)?;
        let path = dir.file(name).ok_or(Refusal::NotFound)?;
        if !self.store.published().map_err(broken)?.contains(dir.reference()) {
            return Err(Refusal::NotFound);
        }
        if self.scope == Scope::WithoutImage && *name == ArtefactKind::Image.file_name() {
            return Err(Refusal::NotHere);
        }
        let file = File::open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Refusal::NotFound,
            _ => Refusal::Broken(format!("cannot open {}: {e}", path.display())),
        })?;
        let meta = file.metadata().map_err(broken)?;
        let len = meta.len();
        check_length(&dir, name, len)?;
        let mut etag = format!("\"{}-{name}\"", dir.reference().id);
        let mut cache_control = cache_control;
        if *name == SIGNATURE_FILE {
            // the one file that may be replaced: signed again, or by another key
            etag = format!("\"{}-{}-{}-{name}\"", meta.ino(), meta.mtime(), meta.mtime_nsec());
            cache_control = "no-cache";
        }
        Ok(Opened { file, len, etag, content_type: content_type(name), cache_control, counter })
    }
}

/// A file that was cut off or replaced is not handed out: a node could not tell a damaged kernel.
fn check_length(dir: &RevisionDir, name: &str, len: u64) -> Result<(), Refusal> {
    let manifest: Manifest = dir.manifest().map_err(broken)?;
    if [MANIFEST_FILE, SIGNATURE_FILE].contains(&name) {
        return Ok(());
    }
    let stated = ArtefactKind::ALL
        .into_iter()
        .find(|kind| kind.file_name() == name)
        .and_then(|kind| manifest.artefact(kind));
    match stated {
        None => Err(Refusal::NotFound),
        Some(stated) if stated.length == len => Ok(()),
        Some(stated) => Err(Refusal::Broken(format!(
            "{name} of {} has {len} bytes, its manifest says {}: restore or re-publish it",
            dir.reference(),
            stated.length
        ))),
    }
}

fn broken(error: impl std::error::Error) -> Refusal {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Refusal::Broken(format!("{error}{cause}"))
}

fn content_type(name: &str) -> &'static str {
    match name {
        MANIFEST_FILE => "application/json",
        SIGNATURE_FILE => "text/plain",
        "rootimg.torrent" => "application/x-bittorrent",
        _ => "application/octet-stream",
    }
}
