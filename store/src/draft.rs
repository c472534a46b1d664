//! A revision that is being written: under `tmp/`, locked, and gone when its packer dies.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use proto::manifest::{MANIFEST_FILE, Manifest};
use proto::signature::SIGNATURE_FILE;

use crate::crash;
use crate::durable::{self, Prepared};
use crate::error::StoreError;
use crate::layout::{self, LOCK, REVISIONS, TMP};
use crate::name::{RevisionId, RevisionName, RevisionRef};
use crate::revision::RevisionDir;
use crate::root::Store;

/// A place to write a revision. Dropping it removes it.
#[derive(Debug)]
pub struct Draft {
    /// `tmp/ID`.
    path: PathBuf,
    /// `tmp/ID.lock`: held as long as this process lives.
    lock_path: PathBuf,
    _lock: Flock<File>,
}

impl Draft {
    /// Becomes the revision: put the artefacts here, a signature if there is one, and nothing else.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.path.join("revision")
    }

    /// For unpacked trees and logs, on the store's file system; goes with the draft.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !crash::dead() {
            // what cannot be removed now is removed by the next packer
            let _ = fs::remove_dir_all(&self.path);
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// Outcome of [`Store::commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The revision.
    pub revision: RevisionDir,
    /// False when the same revision was there already.
    pub new: bool,
}

impl Store {
    /// Begins a revision, after removing what killed packers left behind.
    ///
    /// # Errors
    /// The errors of writing.
    pub fn begin(&self) -> Result<Draft, StoreError> {
        let tmp = self.root().join(TMP);
        durable::create_dir(&tmp)?;
        let _lock = self.lock()?;
        self.sweep(&tmp)?;
        let mut number = 0u32;
        loop {
            let name = format!("{}-{number}", std::process::id());
            let path = tmp.join(&name);
            let lock_path = tmp.join(format!("{name}.lock"));
            number += 1;
            if lock_path.exists() {
                continue;
            }
            if let Some(lock) = durable::try_lock(&lock_path)? {
                let draft = Draft { path, lock_path, _lock: lock };
                durable::create_dir(&draft.path)?;
                // an unpacked root has setuid programs, perhaps with known holes
                durable::make_private(&draft.path)?;
                durable::create_dir(&draft.dir())?;
                durable::create_dir(&draft.work())?;
                return Ok(draft);
            }
        }
    }

    /// Makes the draft a revision: checks it against the manifest, brings every file to disk, and
    /// renames it into place. When the same revision is there already, that one is returned, with
    /// the draft's signature if the draft has one.
    ///
    /// # Errors
    /// [`StoreError::Artefact`] when the draft is not what the manifest says (only lengths are
    /// compared), [`StoreError::ManifestName`], [`StoreError::Altered`], the errors of writing.
    /// The store is as before then.
    pub fn commit(&self, draft: Draft, manifest: &Manifest) -> Result<Committed, StoreError> {
        let bytes = manifest.to_bytes().map_err(|source| StoreError::Encode { source })?;
        let name = RevisionName::new(manifest.name.clone())
            .map_err(|source| StoreError::ManifestName { source })?;
        let reference = RevisionRef { name, id: RevisionId::of_manifest(&bytes) };
        let dir = draft.dir();
        check(&dir, manifest)?;
        durable::create_file(&dir.join(MANIFEST_FILE), &bytes)?;
        for kind in manifest.artefacts.keys() {
            durable::settle_file(&dir.join(kind.file_name()))?;
        }
        let signature = dir.join(SIGNATURE_FILE);
        let is_signed = signature.is_file();
        if is_signed {
            durable::settle_file(&signature)?;
        }
        durable::settle_dir(&dir)?;

        let _lock = self.lock()?;
        let path = layout::revision(self.root(), &reference);
        durable::create_dir(&self.root().join(REVISIONS).join(reference.name.as_str()))?;
        let new = match durable::rename(&dir, &path) {
            Ok(()) => true,
            Err(StoreError::Rename { source, .. }) if is_there(&source) => false,
            Err(e) => return Err(e),
        };
        let revision = RevisionDir::new(reference, path);
        if !new {
            revision.manifest()?;
            if is_signed {
                durable::rename(&signature, &revision.signature_path())?;
            }
        }
        Ok(Committed { revision, new })
    }

    /// Adds a signature to a revision, or replaces the one it has: whole, or not at all.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`], [`StoreError::Altered`], the errors of writing.
    pub fn put_signature(&self, reference: &RevisionRef, bytes: &[u8]) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let revision = self.revision(reference)?;
        revision.manifest()?;
        let scratch = self.root().join(TMP).join(SIGNATURE_FILE);
        Prepared::new(bytes, scratch, revision.signature_path())?.adopt()
    }

    /// Removes everything under `tmp/` that no living packer holds. The caller holds the lock, so
    /// no draft is between its lock and its directory.
    fn sweep(&self, tmp: &Path) -> Result<(), StoreError> {
        let names = self.names(tmp)?;
        let mut held = vec![LOCK.to_owned()];
        let mut free = Vec::new();
        for name in &names {
            if let Some(draft) = name.strip_suffix(".lock").filter(|d| !d.is_empty()) {
                match durable::try_lock(&tmp.join(name))? {
                    // kept until the draft is gone
                    Some(lock) => free.push(lock),
                    None => held.extend([draft.to_owned(), name.clone()]),
                }
            }
        }
        for name in names.iter().filter(|name| !held.contains(name)) {
            durable::remove_tree(&tmp.join(name))?;
        }
        drop(free);
        Ok(())
    }
}

/// The target of the rename is a directory with contents.
fn is_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

/// Exactly the files that the manifest names, each of the length it says, and perhaps a signature.
fn check(dir: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    for (kind, artefact) in &manifest.artefacts {
        let path = dir.join(kind.file_name());
        let reason = match fs::symlink_metadata(&path) {
            Ok(meta) if !meta.is_file() => "it is not a regular file".to_owned(),
            Ok(meta) if meta.len() != artefact.length => {
                format!("it has {} bytes, not {}", meta.len(), artefact.length)
            }
            Ok(_) => continue,
            Err(e) => e.to_string(),
        };
        return Err(StoreError::Artefact { path, reason });
    }
    let entries = fs::read_dir(dir)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|source| StoreError::List { path: dir.to_owned(), source })?;
    for entry in entries {
        let is_named =
            manifest.artefacts.keys().any(|kind| *kind.file_name() == *entry.file_name());
        let is_signature = *entry.file_name() == *SIGNATURE_FILE && entry.path().is_file();
        if !is_named && !is_signature {
            let reason = "the manifest does not name it".to_owned();
            return Err(StoreError::Artefact { path: entry.path(), reason });
        }
    }
    Ok(())
}
