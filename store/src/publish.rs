//! Publishing: links appear and are replaced by rename(2); no revision is ever touched.

use std::time::{Duration, SystemTime};

use crate::durable;
use crate::error::StoreError;
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
        let link = layout::published(self.root(), reference);
        self.link(reference, &link, self.next_time(&reference.name)?)?;
        self.point(reference, channel)
    }

    /// Points `channel` to the revision that was published before the one it points to.
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
        let older = listed
            .into_iter()
            .filter(|l| l.published && l.reference.name == *name)
            .map(|l| l.reference)
            .skip_while(|r| r != current.reference())
            .nth(1)
            .ok_or_else(|| StoreError::NothingOlder {
                name: name.clone(),
                channel: channel.clone(),
            })?;
        self.point(&older, channel)
    }

    /// Stops seeding and serving a revision; its files stay.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a channel points to it.
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
        durable::remove_file(&layout::published(self.root(), reference))
    }

    /// Replaces a channel's pointer.
    fn point(&self, reference: &RevisionRef, channel: &Channel) -> Result<Published, StoreError> {
        let previous = self
            .current(channel, &reference.name)
            // a pointer to nowhere is what this repairs
            .unwrap_or_default()
            .map(|dir| dir.reference().clone());
        let link = layout::channel(self.root(), channel, &reference.name);
        self.link(reference, &link, SystemTime::now())?;
        Ok(Published { current: reference.clone(), previous })
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
