//! A store that is open: what it holds, and the lock that writers share.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::Flock;
use proto::manifest::MANIFEST_FILE;
use serde::{Deserialize, Serialize};

use crate::durable::{self, Prepared};
use crate::error::StoreError;
use crate::layout::{self, CHANNELS, LOCK, PUBLISHED, REVISIONS, STORE_JSON, TMP};
use crate::name::{Channel, RevisionId, RevisionName, RevisionRef};
use crate::revision::RevisionDir;

/// Layout that this version reads and writes.
const FORMAT: u32 = 1;

/// Contents of `store.json`.
#[derive(Serialize, Deserialize)]
struct StoreJson {
    format: u32,
}

/// A store on disk. Cheap to clone: it is a path that was checked.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One line of [`Store::list`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Which revision.
    pub reference: RevisionRef,
    /// Whether it is seeded, served and allowed by the tracker.
    pub published: bool,
    /// Channels that boot it.
    pub channels: Vec<Channel>,
    /// When it was last published, or else when it was packed.
    #[serde(skip)]
    pub since: SystemTime,
}

impl Store {
    /// Opens the store at `root`; creates and changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] without a `store.json`, [`StoreError::Format`] when it is of
    /// another version, [`StoreError::Read`] when it cannot be read.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let path = root.join(STORE_JSON);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                return Err(StoreError::NotAStore { path: root });
            }
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        let reason = match serde_json::from_slice::<StoreJson>(&bytes) {
            Ok(StoreJson { format: FORMAT }) => return Ok(Self { root }),
            Ok(StoreJson { format }) => format!("it says format {format}"),
            Err(e) => e.to_string(),
        };
        Err(StoreError::Format { path, reason })
    }

    /// Opens the store at `root`, after making an empty one when there is none.
    ///
    /// # Errors
    /// As [`Store::open`], and when something cannot be written. A directory that holds other
    /// things is taken: only missing entries are added.
    pub fn init(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        match Self::open(&root) {
            Err(StoreError::NotAStore { .. }) => {}
            other => return other,
        }
        for dir in [TMP, REVISIONS, PUBLISHED, CHANNELS] {
            durable::create_dir(&root.join(dir))?;
        }
        let store = Self { root };
        let _lock = store.lock()?;
        let path = store.root.join(STORE_JSON);
        if !path.exists() {
            let scratch = store.root.join(TMP).join(STORE_JSON);
            let line = format!("{{\"format\":{FORMAT}}}\n");
            Prepared::new(line.as_bytes(), scratch, path)?.adopt()?;
        }
        Self::open(store.root.clone())
    }

    /// The directory given to [`Store::open`].
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every complete revision, by name and id.
    ///
    /// # Errors
    /// [`StoreError::List`].
    pub fn revisions(&self) -> Result<Vec<RevisionRef>, StoreError> {
        self.tree(&self.root.join(REVISIONS))
    }

    /// Every published revision: what is seeded, served over HTTP and allowed by the tracker.
    ///
    /// A link whose revision is gone is left out.
    ///
    /// # Errors
    /// [`StoreError::List`].
    pub fn published(&self) -> Result<Vec<RevisionRef>, StoreError> {
        let mut found = self.tree(&self.root.join(PUBLISHED))?;
        found.retain(|r| layout::revision(&self.root, r).is_dir());
        Ok(found)
    }

    /// What nodes of `channel` boot for image `name`; `None` when nothing is published there.
    ///
    /// # Errors
    /// [`StoreError::BadLink`] when the pointer leads elsewhere than to a revision of `name`,
    /// [`StoreError::Read`].
    pub fn current(
        &self,
        channel: &Channel,
        name: &RevisionName,
    ) -> Result<Option<RevisionDir>, StoreError> {
        let path = layout::channel(&self.root, channel, name);
        let target = match fs::read_link(&path) {
            Ok(target) => target,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        match layout::parse_link(&target) {
            Some(r) if r.name == *name => match self.revision(&r) {
                Ok(dir) => Ok(Some(dir)),
                Err(StoreError::NoRevision { .. }) => Err(StoreError::BadLink { path, target }),
                Err(e) => Err(e),
            },
            _ => Err(StoreError::BadLink { path, target }),
        }
    }

    /// The directory of one revision.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`].
    pub fn revision(&self, reference: &RevisionRef) -> Result<RevisionDir, StoreError> {
        let path = layout::revision(&self.root, reference);
        if path.is_dir() {
            Ok(RevisionDir::new(reference.clone(), path))
        } else {
            Err(StoreError::NoRevision { reference: reference.clone() })
        }
    }

    /// Every channel and the images it has a pointer for, in order.
    ///
    /// # Errors
    /// [`StoreError::List`].
    pub fn channels(&self) -> Result<Vec<(Channel, RevisionName)>, StoreError> {
        let root = self.root.join(CHANNELS);
        let mut found = Vec::new();
        for channel in self.names(&root)? {
            let Ok(channel) = Channel::new(channel) else { continue };
            let names = self.names(&root.join(channel.as_str()))?;
            let names = names.into_iter().filter_map(|n| RevisionName::new(n).ok());
            found.extend(names.map(|name| (channel.clone(), name)));
        }
        found.sort();
        Ok(found)
    }

    /// Every revision with its state; by name, the newest first.
    ///
    /// # Errors
    /// [`StoreError::List`], [`StoreError::Read`].
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let mut pointers = Vec::new();
        for (channel, name) in self.channels()? {
            let target = fs::read_link(layout::channel(&self.root, &channel, &name));
            if let Some(r) = target.ok().as_deref().and_then(layout::parse_link) {
                pointers.push((channel, r));
            }
        }
        let mut listed = Vec::new();
        for reference in self.revisions()? {
            let link = fs::symlink_metadata(layout::published(&self.root, &reference));
            let published = link.is_ok();
            let path = layout::revision(&self.root, &reference);
            let since = link
                // not of the directory: a signature that comes later changes that one
                .or_else(|_| fs::metadata(path.join(MANIFEST_FILE)))
                .or_else(|_| fs::metadata(&path))
                .and_then(|m| m.modified())
                .map_err(|source| StoreError::Read { path, source })?;
            let channels =
                pointers.iter().filter(|(_, r)| *r == reference).map(|(c, _)| c.clone()).collect();
            listed.push(Listed { reference, published, channels, since });
        }
        listed.sort_by(|a, b| {
            let key = |l: &Listed| (l.reference.name.clone(), std::cmp::Reverse(l.since));
            key(a).cmp(&key(b)).then_with(|| a.reference.id.cmp(&b.reference.id))
        });
        Ok(listed)
    }

    /// The lock that every change of the store takes, for a few system calls.
    pub(crate) fn lock(&self) -> Result<Flock<File>, StoreError> {
        durable::lock(&self.root.join(TMP).join(LOCK))
    }

    /// Names of the entries of a directory; none when it does not exist.
    pub(crate) fn names(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        let error = |source| StoreError::List { path: dir.to_owned(), source };
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            // a stray file between the directories
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // an unmounted disk must not look like a store that was emptied
                Self::open(&self.root)?;
                return Ok(Vec::new());
            }
            Err(e) => return Err(error(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            // a name that is not text is not ours
            names.extend(entry.map_err(error)?.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// The `NAME/REV` entries below `dir`, in order.
    fn tree(&self, dir: &Path) -> Result<Vec<RevisionRef>, StoreError> {
        let mut found = Vec::new();
        for name in self.names(dir)? {
            let Ok(name) = RevisionName::new(name) else { continue };
            let ids = self.names(&dir.join(name.as_str()))?;
            let ids = ids.into_iter().filter_map(|id| RevisionId::new(id).ok());
            found.extend(ids.map(|id| RevisionRef { name: name.clone(), id }));
        }
        found.sort();
        Ok(found)
    }
}
