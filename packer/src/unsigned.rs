//! A revision that nobody signed, where nodes may demand a signature: said before they find out.

use packer::event::Event;
use store::{RevisionRef, Store};

use crate::output::Progress;

/// Warns when `reference` is not signed, but its own initrd demands a signature, or another revision of
/// that name is signed. Publishing goes on: a revision may be signed later.
///
/// # Errors
/// Those of reading the store.
pub(crate) fn warn(store: &Store, reference: &RevisionRef, json: bool) -> anyhow::Result<()> {
    let revision = store.revision(reference)?;
    if revision.signature()?.is_some() {
        return Ok(());
    }
    let demanded = revision.manifest()?.build.get(packer::pack::TRUSTED_KEYS).cloned();
    let reason = match demanded {
        Some(keys) => format!("its initrd demands a signature by {keys}"),
        None => match signed(store, reference)? {
            Some(other) => format!("{other} is, and nodes with its initrd may demand it"),
            None => return Ok(()),
        },
    };
    let text = format!(
        "{reference} is not signed, but {reason}: such nodes refuse it and do not boot (exit code 7, \
         `unsigned`). Sign it: bee-packer sign {reference} --sign-key FILE --store {}",
        store.root().display()
    );
    Progress::new(json).event(&Event::Warning { text });
    Ok(())
}

/// The newest signed revision of the same name.
fn signed(store: &Store, reference: &RevisionRef) -> anyhow::Result<Option<RevisionRef>> {
    for listed in store.list()? {
        let other = listed.reference;
        if other.name == reference.name
            && other != *reference
            && store.revision(&other)?.signature()?.is_some()
        {
            return Ok(Some(other));
        }
    }
    Ok(None)
}
