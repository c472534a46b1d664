//! Removing old revisions.

use crate::durable;
use crate::error::StoreError;
use crate::layout::{self, TMP};
use crate::name::{RevisionName, RevisionRef};
use crate::root::Store;

impl Store {
    /// Removes all but the newest `keep` revisions of an image; returns what was removed.
    ///
    /// A revision that a channel points to is never removed, however old it is. Newest is what
    /// was published last; a revision that never was counts from when it was packed.
    ///
    /// # Errors
    /// [`StoreError::NoImage`]; [`StoreError::BadLink`] when a channel's pointer cannot be read
    /// (nothing is removed then); the errors of writing.
    pub fn prune(&self, name: &RevisionName, keep: usize) -> Result<Vec<RevisionRef>, StoreError> {
        let _lock = self.lock()?;
        // also an error for a pointer that leads nowhere: it could mean any of them
        for (channel, pointed) in self.channels()? {
            if pointed == *name {
                self.current(&channel, &pointed)?;
            }
        }
        let mut listed = self.list()?;
        listed.retain(|l| l.reference.name == *name);
        if listed.is_empty() {
            return Err(StoreError::NoImage { name: name.clone() });
        }
        let doomed: Vec<_> = listed
            .into_iter()
            .skip(keep)
            .filter(|l| l.channels.is_empty())
            .map(|l| l.reference)
            .collect();
        for reference in &doomed {
            self.remove(reference)?;
        }
        Ok(doomed)
    }

    /// First nobody is told of it any more, then it is gone at once. The caller holds the lock.
    fn remove(&self, reference: &RevisionRef) -> Result<(), StoreError> {
        durable::remove_file(&layout::published(self.root(), reference))?;
        let grave = self.root().join(TMP).join(format!("pruned-{}", reference.id));
        durable::remove_tree(&grave)?;
        let path = layout::revision(self.root(), reference);
        durable::rename(&path, &grave)?;
        if let Some(parent) = path.parent() {
            durable::sync(parent)?;
        }
        durable::remove_tree(&grave)
    }
}
