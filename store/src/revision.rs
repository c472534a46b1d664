//! One complete revision on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proto::manifest::{ArtefactKind, MANIFEST_FILE, Manifest};
use proto::signature::SIGNATURE_FILE;

use crate::error::StoreError;
use crate::name::RevisionRef;

/// The directory of one revision: complete, and never changed; only a signature of its manifest may
/// be added or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionDir {
    reference: RevisionRef,
    path: PathBuf,
}

impl RevisionDir {
    pub(crate) fn new(reference: RevisionRef, path: PathBuf) -> Self {
        Self { reference, path }
    }

    /// Which revision this is.
    #[must_use]
    pub fn reference(&self) -> &RevisionRef {
        &self.reference
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a part lies; a revision without a kernel of its own lacks two of them.
    #[must_use]
    pub fn artefact(&self, kind: ArtefactKind) -> PathBuf {
        self.path.join(kind.file_name())
    }

    /// The root image.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.artefact(ArtefactKind::Image)
    }

    /// Its torrent.
    #[must_use]
    pub fn torrent(&self) -> PathBuf {
        self.artefact(ArtefactKind::Torrent)
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.artefact(ArtefactKind::Kernel)
    }

    /// The initrd.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.artefact(ArtefactKind::Initrd)
    }

    /// `manifest.json`.
    #[must_use]
    pub fn manifest_path(&self) -> PathBuf {
        self.path.join(MANIFEST_FILE)
    }

    /// `manifest.json.minisig`, which may be absent.
    #[must_use]
    pub fn signature_path(&self) -> PathBuf {
        self.path.join(SIGNATURE_FILE)
    }

    /// The signature of the manifest, unchecked; `None` when nobody signed it.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn signature(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.signature_path();
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    /// The path of a file by its name as it appears in a URL; `None` for anything that a revision
    /// does not have, so for every traversal too. The file may still be absent.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        let known = [MANIFEST_FILE, SIGNATURE_FILE].contains(&name)
            || ArtefactKind::ALL.iter().any(|k| k.file_name() == name);
        known.then(|| self.path.join(name))
    }

    /// The manifest, after checking that its bytes are the ones the revision id names.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Altered`], [`StoreError::Manifest`].
    pub fn manifest(&self) -> Result<Manifest, StoreError> {
        let bytes = self.manifest_bytes()?;
        let path = self.manifest_path();
        Manifest::parse(&bytes).map_err(|source| StoreError::Manifest { path, source })
    }

    /// The bytes of `manifest.json`: what is signed. Checked as [`RevisionDir::manifest`] does.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Altered`].
    pub fn manifest_bytes(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.manifest_path();
        let bytes = fs::read(&path).map_err(|source| StoreError::Read { path, source })?;
        if crate::RevisionId::of_manifest(&bytes) != self.reference.id {
            let id = self.reference.id.clone();
            return Err(StoreError::Altered { path: self.path.clone(), id });
        }
        Ok(bytes)
    }
}
