//! Revisions beside the published one, for single machines: some are wrong in one thing and signed all
//! the same, as a careless or dishonest packer would publish them.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lab::contained;
use proto::manifest::Manifest;
use proto::node_id::NodeId;
use store::{RevisionName, Store};

use super::build::Programs;
use super::image::{Image, signing_key};

/// What all names of variants begin with.
pub(crate) const PREFIX: &str = "demo-for-";

/// Adds `manifest`, changed by `spoil`, with the files of `image`, signs it, and lets `node` boot it.
/// No channel changes.
pub(crate) fn assign(
    image: &Image,
    programs: &Programs,
    name: &str,
    node: NodeId,
    spoil: impl FnOnce(&mut Manifest),
) -> Result<()> {
    let store = Store::open(&image.store)?;
    let mut manifest = image.manifest.clone();
    manifest.name = format!("{PREFIX}{name}");
    spoil(&mut manifest);
    let draft = store.begin()?;
    for kind in manifest.artefacts.keys() {
        let (from, to) =
            (image.revision.join(kind.file_name()), draft.dir().join(kind.file_name()));
        fs::hard_link(&from, &to).with_context(|| format!("cannot link {}", from.display()))?;
    }
    let reference = store.commit(draft, &manifest)?.revision.reference().clone();
    let mut command = contained(&programs.packer)?;
    command.arg("sign").arg(reference.to_string()).arg("--store").arg(&image.store);
    command.arg("--sign-key").arg(signing_key(programs)?).arg("--empty-password");
    let output = command.stdin(Stdio::null()).output().context("cannot run bee-packer")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bee-packer sign failed: {}", words.trim());
    Ok(store.assign(&reference, &[node])?)
}

/// Takes all of them away again, those of a run that was killed as well: its machines' addresses are
/// those of the next run.
pub(crate) fn remove_all(store: &Store) -> Result<()> {
    let is_variant = |name: &RevisionName| name.as_str().starts_with(PREFIX);
    let assignments = store.assignments()?;
    let nodes = assignments.iter().filter(|(_, reference)| is_variant(&reference.name));
    let nodes: Vec<NodeId> = nodes.map(|(node, _)| node).collect();
    if !nodes.is_empty() {
        store.unassign(Some(&nodes))?;
    }
    let mut names: Vec<_> =
        store.revisions()?.into_iter().map(|reference| reference.name).collect();
    names.retain(is_variant);
    names.dedup();
    for name in names {
        store.prune(&name, 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::hash::InfoHash;
    use proto::manifest::{Artefact, ArtefactKind, MANIFEST_VERSION};

    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::init(folder.path()).unwrap();
        let add = |name: &str| {
            let draft = store.begin().unwrap();
            for kind in ArtefactKind::ALL {
                fs::write(draft.dir().join(kind.file_name()), "x").unwrap();
            }
            let manifest = Manifest {
                version: MANIFEST_VERSION,
                name: name.to_owned(),
                artefacts: ArtefactKind::ALL.map(|kind| (kind, Artefact::of(kind, b"x"))).into(),
                info_hash: InfoHash([7; 20]),
                v2: None,
                verity: None,
                kernel_release: None,
                build: [].into(),
            };
            store.commit(draft, &manifest).unwrap().revision.reference().clone()
        };
        let (good, wrong) = (add("demo"), add("demo-for-tree"));
        let nodes: Vec<NodeId> =
            ["52:54:00:00:00:01", "52:54:00:00:00:02"].map(|mac| mac.parse().unwrap()).to_vec();
        store.assign(&good, &nodes[..1]).unwrap();
        store.assign(&wrong, &nodes[1..]).unwrap();
        remove_all(&store).unwrap();
        remove_all(&store).unwrap();
        assert_eq!(store.revisions().unwrap(), std::slice::from_ref(&good));
        assert_eq!(store.published().unwrap(), std::slice::from_ref(&good));
        assert_eq!(
            store.assignments().unwrap().iter().map(|(node, _)| node).collect::<Vec<_>>(),
            nodes[..1]
        );
    }
}
