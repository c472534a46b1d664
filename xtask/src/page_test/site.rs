//! What a tracker has around it: a store with a past, an inventory.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use proto::hash::InfoHash;
use proto::manifest::{
    ARGUMENTS_FACT, ARGUMENTS_KNOWN, Artefact, ArtefactKind, MANIFEST_VERSION, Manifest,
};
use store::{Channel, RevisionRef, Store};
use tempfile::TempDir;

use super::fleet;

/// Info-hash of what the nodes boot.
pub(crate) const INFO_HASH: InfoHash = InfoHash([29; 20]);

/// A folder with everything, gone with this.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    /// What the nodes boot.
    pub(crate) revision: RevisionRef,
    /// A newer one of the same name.
    pub(crate) next: RevisionRef,
}

/// Makes it.
pub(crate) fn make(nodes: u16) -> anyhow::Result<Site> {
    let dir = tempfile::tempdir().context("no folder for the tracker")?;
    fleet::inventory(&dir.path().join("nodes.csv"), nodes, fleet::rack(nodes))?;
    let (revision, next) = fill(&dir.path().join("store"))?;
    Ok(Site { dir, revision, next })
}

fn fill(root: &Path) -> anyhow::Result<(RevisionRef, RevisionRef)> {
    let store = Store::init(root)?;
    let (stable, testing) = (Channel::default(), Channel::new("testing")?);
    let first = revision(&store, "debian", 1)?;
    let second = revision(&store, "debian", 2)?;
    let gpu = revision(&store, "gpu", 3)?;
    for (revision, channel) in
        [(&first, &stable), (&second, &testing), (&second, &stable), (&gpu, &testing)]
    {
        store.publish(revision, channel)?;
    }
    store.rollback(&first.name, &stable)?;
    Ok((first, second))
}

/// A small revision; nothing of it is ever booted.
fn revision(store: &Store, name: &str, number: u8) -> anyhow::Result<RevisionRef> {
    let draft = store.begin()?;
    let mut artefacts = BTreeMap::new();
    for kind in ArtefactKind::ALL {
        let content = vec![number; 4096];
        std::fs::write(draft.dir().join(kind.file_name()), &content)?;
        artefacts.insert(kind, Artefact::of(kind, &content));
    }
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: name.to_owned(),
        artefacts,
        info_hash: InfoHash([number.wrapping_mul(29); 20]),
        v2: None,
        verity: None,
        kernel_release: Some("6.12.41+deb13-amd64".to_owned()),
        build: [(ARGUMENTS_FACT, ARGUMENTS_KNOWN)]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .into(),
    };
    Ok(store.commit(draft, &manifest)?.revision.reference().clone())
}
