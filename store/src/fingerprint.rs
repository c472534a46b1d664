//! Has anything been published, rolled back, pruned or assigned? Answered without opening a manifest.

use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::StoreError;
use crate::layout;
use crate::root::Store;

/// A digest of every published link, channel pointer and assignment. Two equal ones mean: nothing changed.
///
/// It costs one readdir(3) per image and channel and one readlink(2) per link: a daemon can ask
/// twice a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Store {
    /// The state of publication at this moment.
    ///
    /// # Errors
    /// [`StoreError::List`], [`StoreError::Read`], and [`StoreError::NotAStore`] when the whole
    /// store is gone (say, unmounted): a daemon then keeps what it has.
    pub fn fingerprint(&self) -> Result<Fingerprint, StoreError> {
        let mut digest = Sha256::new();
        for r in self.published()? {
            digest.update(format!("{r}\n"));
        }
        for (channel, name) in self.channels()? {
            let path = layout::channel(self.root(), &channel, &name);
            let target = read_link(&path)?;
            digest.update(format!("{channel} {name} {target:?}\n"));
        }
        let path = self.root().join(layout::ASSIGNMENTS);
        match fs::read(&path) {
            Ok(bytes) => digest.update(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::Read { path, source }),
        }
        Ok(Fingerprint(digest.finalize().into()))
    }

    /// The new fingerprint when it differs from `last`, otherwise `None`.
    ///
    /// # Errors
    /// As [`Store::fingerprint`].
    pub fn changed_since(&self, last: &Fingerprint) -> Result<Option<Fingerprint>, StoreError> {
        let now = self.fingerprint()?;
        Ok((now != *last).then_some(now))
    }
}

/// Where the link leads; `None` when it has just been removed.
fn read_link(path: &Path) -> Result<Option<std::path::PathBuf>, StoreError> {
    match fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}
