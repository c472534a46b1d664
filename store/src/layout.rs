//! Where everything lies, relative to the root of the store. Pure path arithmetic.

use std::path::{Component, Path, PathBuf};

use crate::name::{Channel, RevisionId, RevisionName, RevisionRef};

pub(crate) const STORE_JSON: &str = "store.json";
pub(crate) const TMP: &str = "tmp";
pub(crate) const LOCK: &str = ".lock";
pub(crate) const REVISIONS: &str = "revisions";
pub(crate) const PUBLISHED: &str = "published";
pub(crate) const CHANNELS: &str = "channels";
pub(crate) const HISTORY: &str = "history.jsonl";
pub(crate) const ASSIGNMENTS: &str = "assignments.json";

/// `revisions/NAME/REV`.
pub(crate) fn revision(root: &Path, r: &RevisionRef) -> PathBuf {
    root.join(REVISIONS).join(r.name.as_str()).join(r.id.as_str())
}

/// `published/NAME/REV`.
pub(crate) fn published(root: &Path, r: &RevisionRef) -> PathBuf {
    root.join(PUBLISHED).join(r.name.as_str()).join(r.id.as_str())
}

/// `channels/CHANNEL/NAME`.
pub(crate) fn channel(root: &Path, channel: &Channel, name: &RevisionName) -> PathBuf {
    root.join(CHANNELS).join(channel.as_str()).join(name.as_str())
}

/// What a published or channel link contains: both lie two directories below the root.
pub(crate) fn link_target(r: &RevisionRef) -> PathBuf {
    Path::new("../..").join(REVISIONS).join(r.name.as_str()).join(r.id.as_str())
}

/// The revision that a link's contents name; `None` when they are not what [`link_target`] writes.
pub(crate) fn parse_link(target: &Path) -> Option<RevisionRef> {
    let mut parts = target.components();
    for expected in
        [Component::ParentDir, Component::ParentDir, Component::Normal(REVISIONS.as_ref())]
    {
        if parts.next()? != expected {
            return None;
        }
    }
    let mut text = || match parts.next()? {
        Component::Normal(part) => part.to_str(),
        _ => None,
    };
    let name = RevisionName::new(text()?).ok()?;
    let id = RevisionId::new(text()?).ok()?;
    parts.next().is_none().then_some(RevisionRef { name, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_back_as_written() {
        let r: RevisionRef = "debian@0123456789ab".parse().unwrap();
        assert_eq!(link_target(&r), Path::new("../../revisions/debian/0123456789ab"));
        assert_eq!(parse_link(&link_target(&r)), Some(r));
    }

    #[test]
    fn links_that_lead_elsewhere_are_refused() {
        for bad in [
            "/etc/passwd",
            "../../../etc/shadow",
            "../../revisions/debian",
            "../../revisions/debian/0123456789ab/manifest.json",
            "../../revisions/../0123456789ab",
            "../revisions/debian/0123456789ab",
            "../../tmp/debian/0123456789ab",
            "",
        ] {
            assert_eq!(parse_link(Path::new(bad)), None, "{bad}");
        }
    }
}
