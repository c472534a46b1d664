//! What a request names: pure, and the only way from a URL to a file.
//!
//! A path is cut at its slashes first and decoded afterwards, and every part must be a valid name
//! of the store: nothing that could leave the store survives that.

use store::{Channel, RevisionId, RevisionName, RevisionRef};

/// A thing that can be requested.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/revisions/NAME/REV/FILE`
    Revision {
        /// Which revision.
        reference: RevisionRef,
        /// Which file of it; not checked yet.
        file: String,
    },
    /// `/channels/CHANNEL/NAME/FILE`
    Channel {
        /// Which channel.
        channel: Channel,
        /// Which image.
        name: RevisionName,
        /// Which file of it; not checked yet.
        file: String,
    },
    /// `/healthz`
    Health,
    /// `/metrics`
    Metrics,
}

/// The target of a request line, in origin form or absolute form (RFC 9112, section 3.2). `None`:
/// there is no such thing.
pub(super) fn parse(target: &str) -> Option<Target> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/')?..],
        None => target,
    };
    let path = path.split(['?', '#']).next()?.strip_prefix('/')?;
    let parts: Vec<String> = path.split('/').map(decode).collect::<Option<_>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["healthz"] => Some(Target::Health),
        ["metrics"] => Some(Target::Metrics),
        ["revisions", name, id, file] => {
            let reference = RevisionRef {
                name: RevisionName::new(*name).ok()?,
                id: RevisionId::new(*id).ok()?,
            };
            Some(Target::Revision { reference, file: (*file).to_owned() })
        }
        ["channels", channel, name, file] => Some(Target::Channel {
            channel: Channel::new(*channel).ok()?,
            name: RevisionName::new(*name).ok()?,
            file: (*file).to_owned(),
        }),
        _ => None,
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1). `None`: not well-formed, or not UTF-8.
fn decode(part: &str) -> Option<String> {
    String::from_utf8(proto::query::decode(part)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(file: &str) -> Option<Target> {
        let reference = "debian@0123456789ab".parse().unwrap();
        Some(Target::Revision { reference, file: file.to_owned() })
    }

    #[test]
    fn what_the_store_has_is_found() {
        for path in [
            "/revisions/debian/0123456789ab/vmlinuz",
            "/revisions/debian/0123456789ab/vmlinuz?x=../y",
            "http://admin:8080/revisions/debian/0123456789ab/vmlinuz",
            "/%72evisions/debian/0123456789ab/%76mlinuz",
        ] {
            assert_eq!(parse(path), revision("vmlinuz"), "{path}");
        }
        assert!(matches!(
            parse("/channels/stable/debian/initrd.img"),
            Some(Target::Channel { .. })
        ));
        assert_eq!(parse("/healthz"), Some(Target::Health));
        assert_eq!(parse("/metrics?"), Some(Target::Metrics));
    }

    #[test]
    fn no_way_leads_out_of_the_store() {
        for path in [
            "",
            "/",
            "*",
            "vmlinuz",
            "http://admin",
            "/../../etc/passwd",
            "/revisions/../0123456789ab/vmlinuz",
            "/revisions/%2e%2e/0123456789ab/vmlinuz",
            "/revisions/debian/../vmlinuz",
            "/revisions/debian/0123456789ab",
            "/revisions/debian/0123456789ab/a/b",
            "/revisions//debian/0123456789ab/vmlinuz",
            "/revisions/debian%2f0123456789ab/vmlinuz/x",
            "/revisions/debian%00/0123456789ab/vmlinuz",
            "/revisions/debian/0123456789ab/%ff",
            "/revisions/debian/0123456789ab/%4",
            "/revisions/debian/0123456789ab/%zz",
            "/channels/../debian/vmlinuz",
            "/published/debian/0123456789ab/vmlinuz",
            "/store.json",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
        // The file is a plain text here; the store only knows six of them.
        assert_eq!(parse("/revisions/debian/0123456789ab/.."), revision(".."));
        assert_eq!(parse("/revisions/debian/0123456789ab/%2e%2e%2fx"), revision("../x"));
    }
}
