//! Publishing: links appear and are replaced by rename(2); no revision is ever touched.

use std::time::{Duration, SystemTime};

use crate::durable::{self, Prepared};
use crate::error::StoreError;
use crate::history::{Action, HistoryEntry};
use crate::layout::{self, TMP};
use crate::name::{Channel, RevisionName, RevisionRef};
use crate::root::Store;

/// What [`Store::publish`] and [`Store::rollback`] changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What the channel boots now.
    pub current: RevisionRef,
    /// What it booted before.
    pub previous: Option<RevisionRef>,
}

/// A pointer that is about to be replaced.
struct Change {
    published: Published,
    /// The history that says so; none when it does already.
    history: Option<Prepared>,
}

impl Store {
    /// Publishes a revision, then points `channel` to it.
    ///
    /// The revision that the channel pointed to stays published until it is pruned.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`], [`StoreError::Manifest`] when the revision is damaged, and
    /// the errors of writing.
    pub fn publish(
        &self,
        reference: &RevisionRef,
        channel: &Channel,
    ) -> Result<Published, StoreError> {
        let _lock = self.lock()?;
        self.revision(reference)?.manifest()?;
        let change = self.prepare(Action::Publish, reference, channel)?;
        self.seed(reference)?;
        self.point(change, channel)
    }

    /// Makes the link that lets a revision be seeded, served and tracked, or makes it the newest. The
    /// caller holds the lock.
    pub(crate) fn seed(&self, reference: &RevisionRef) -> Result<(), StoreError> {
        let link = layout::published(self.root(), reference);
        self.link(reference, &link, self.next_time(&reference.name)?)
    }

    /// Points `channel` to the newest published revision that is older than the one it points to and
    /// that the channel pointed to before: what was only tried on single nodes or in another channel is
    /// passed over. Without a history any older one does.
    ///
    /// # Errors
    /// [`StoreError::NoImage`] when the channel has no such image, [`StoreError::NothingOlder`].
    pub fn rollback(
        &self,
        name: &RevisionName,
        channel: &Channel,
    ) -> Result<Published, StoreError> {
        let _lock = self.lock()?;
        let current = self
            .current(channel, name)?
            .ok_or_else(|| StoreError::NoImage { name: name.clone() })?;
        let listed = self.list()?;
        let history = self.history()?;
        let of_channel = |entry: &&HistoryEntry| {
            entry.channel.as_ref() == Some(channel) && entry.name.as_ref() == Some(name)
        };
        let booted: Vec<_> = history
            .iter()
            .filter(of_channel)
            .flat_map(|entry| [&entry.revision, &entry.previous])
            .flatten()
            .collect();
        let older = listed
            .into_iter()
            .filter(|l| l.published && l.reference.name == *name)
            .map(|l| l.reference)
            .skip_while(|r| r != current.reference())
            .skip(1)
            .find(|r| booted.is_empty() || booted.contains(&&r.id))
            .ok_or_else(|| StoreError::NothingOlder {
                name: name.clone(),
                channel: channel.clone(),
            })?;
        self.point(self.prepare(Action::Rollback, &older, channel)?, channel)
    }

    /// Stops seeding and serving a revision; its files stay.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a channel points to it, [`StoreError::Assigned`] while a node is to
    /// boot it.
    pub fn unpublish(&self, reference: &RevisionRef) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        self.revision(reference)?;
        for (channel, name) in self.channels()? {
            if name == reference.name
                && self.current(&channel, &name)?.is_some_and(|d| d.reference() == reference)
            {
                return Err(StoreError::InUse { reference: reference.clone(), channel });
            }
        }
        if let Some(node) = self.assignments()?.holder(reference) {
            return Err(StoreError::Assigned { reference: reference.clone(), node });
        }
        let history =
            self.prepare_record(&[HistoryEntry::now(Action::Unpublish, Some(reference))])?;
        durable::remove_file(&layout::published(self.root(), reference))?;
        history.adopt()
    }

    /// Looks at a channel's pointer, and writes down that it is replaced.
    fn prepare(
        &self,
        action: Action,
        reference: &RevisionRef,
        channel: &Channel,
    ) -> Result<Change, StoreError> {
        let previous = self
            .current(channel, &reference.name)
            // a pointer to nowhere is what this repairs
            .unwrap_or_default()
            .map(|dir| dir.reference().clone());
        let history = self.prepare_pointer(action, channel, reference, previous.as_ref())?;
        Ok(Change { published: Published { current: reference.clone(), previous }, history })
    }

    /// Replaces a channel's pointer.
    fn point(&self, change: Change, channel: &Channel) -> Result<Published, StoreError> {
        let Change { published, history } = change;
        let link = layout::channel(self.root(), channel, &published.current.name);
        self.link(&published.current, &link, SystemTime::now())?;
        history.map_or(Ok(()), Prepared::adopt)?;
        Ok(published)
    }

    /// Makes or replaces one link. The caller holds the lock.
    fn link(
        &self,
        reference: &RevisionRef,
        link: &std::path::Path,
        time: SystemTime,
    ) -> Result<(), StoreError> {
        if let Some(parent) = link.parent() {
            durable::create_dir(parent)?;
        }
        let scratch = self.root().join(TMP).join("link");
        // of a packer that was killed here
        durable::remove_tree(&scratch)?;
        durable::replace_link(&layout::link_target(reference), link, &scratch, time)
    }

    /// A time after that of every published revision of `name`: rollback and prune go by it, and
    /// clocks have ticks (and are set back).
    fn next_time(&self, name: &RevisionName) -> Result<SystemTime, StoreError> {
        let newest = self
            .list()?
            .into_iter()
            .filter(|l| l.published && l.reference.name == *name)
            .map(|l| l.since + Duration::from_nanos(1))
            .max();
        Ok(newest.map_or_else(SystemTime::now, |t| t.max(SystemTime::now())))
    }
}
