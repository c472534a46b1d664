//! The torrent of an image.

use proto::geometry::Geometry;
use proto::manifest::ArtefactKind;
use proto::metainfo::{Info, Metainfo, MetainfoError};

use crate::error::PackError;
use crate::hashes::Hashes;

/// Which hashes a torrent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TorrentFormat {
    /// SHA-1 of the pieces (BEP 3).
    V1,
    /// The same, and a SHA-256 tree of blocks (BEP 52).
    #[default]
    Hybrid,
}

/// The `info` of a Beeswarm image, with the name that every revision has. `private` (BEP 27) is
/// part of the info-hash: peers then come from the tracker alone.
///
/// # Errors
/// [`PackError::Torrent`] when the sizes are not usable.
pub(crate) fn info(
    hashes: Hashes,
    private: bool,
    format: TorrentFormat,
) -> Result<Info, PackError> {
    let geometry = Geometry::new(hashes.length, u64::from(hashes.piece_length))
        .map_err(|e| PackError::Torrent { reason: e.to_string() })?;
    let info = Info::new(ArtefactKind::Image.file_name(), geometry, private, hashes.pieces);
    match format {
        TorrentFormat::V1 => info,
        TorrentFormat::Hybrid => info.and_then(|info| info.with_tree(hashes.layer)),
    }
    .map_err(error)
}

/// The torrent file. A `{info_hash}` in a web seed's URL is replaced: the revision's own URL cannot
/// be in it, because the revision id depends on the torrent.
///
/// # Errors
/// [`PackError::Torrent`].
pub(crate) fn metainfo(
    info: Info,
    trackers: &[String],
    web_seeds: &[String],
) -> Result<Metainfo, PackError> {
    // each its own tier (BEP 12): tried in the order given
    let tiers = trackers.iter().map(|url| vec![url.clone()]).collect();
    let mut metainfo = Metainfo::new(info, tiers, Vec::new(), None).map_err(error)?;
    let hash = metainfo.info_hash.to_string();
    metainfo.web_seeds = web_seeds.iter().map(|url| url.replace("{info_hash}", &hash)).collect();
    Ok(metainfo)
}

fn error(error: MetainfoError) -> PackError {
    PackError::Torrent { reason: error.to_string() }
}

/// An announce URL as given by flag. A bare `http://HOST:PORT` gets the path `/announce`.
///
/// # Errors
/// [`PackError::Url`] when it is not `http://…`, or `udp://…` with a port.
pub(crate) fn announce_url(url: &str) -> Result<String, PackError> {
    if let Some(rest) = url.strip_prefix("udp://") {
        let authority = rest.split(['/', '?']).next().and_then(|text| text.rsplit_once(':'));
        let sound = authority.is_some_and(|(host, port)| {
            !host.is_empty() && port.parse().is_ok_and(|port: u16| port != 0)
        });
        let graphic = rest.bytes().all(|b| b.is_ascii_graphic());
        let error = || PackError::Url { what: "tracker", url: url.to_owned() };
        return (sound && graphic).then(|| url.to_owned()).ok_or_else(error);
    }
    let host = web_url(url, "tracker")?;
    let path = host.find('/').map_or("", |at| &host[at..]);
    Ok(match path {
        "" => format!("{url}/announce"),
        "/" => format!("{url}announce"),
        _ => url.to_owned(),
    })
}

/// Checks a URL; returns what follows its scheme.
///
/// # Errors
/// [`PackError::Url`].
pub(crate) fn web_url<'a>(url: &'a str, what: &'static str) -> Result<&'a str, PackError> {
    url.strip_prefix("http://")
        .filter(|rest| !rest.is_empty() && !rest.starts_with('/'))
        .filter(|rest| rest.bytes().all(|b| b.is_ascii_graphic()))
        .ok_or_else(|| PackError::Url { what, url: url.to_owned() })
}

#[cfg(test)]
mod tests {
    use proto::hash::{PieceHash, Sha256Digest};

    use super::*;

    #[test]
    fn the_torrent_reads_back_and_trackers_do_not_change_its_hash() {
        let make = |trackers: &[&str], seeds: &[&str], private: bool| {
            let own = |urls: &[&str]| urls.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>();
            let (pieces, layer) = (vec![PieceHash([1; 20]); 2], vec![Sha256Digest([2; 32]); 2]);
            let hashes = Hashes { length: 40_960, piece_length: 32_768, pieces, layer };
            let info = info(hashes, private, TorrentFormat::Hybrid).unwrap();
            metainfo(info, &own(trackers), &own(seeds)).unwrap()
        };
        let bare = make(&[], &[], false);
        let full =
            make(&["http://a/announce", "http://b/announce"], &["http://c/{info_hash}/"], false);
        assert_eq!(bare.info_hash, full.info_hash);
        let read = Metainfo::parse(&full.to_bytes().unwrap()).unwrap();
        assert_eq!(read, full);
        assert_eq!(read.trackers.len(), 2);
        assert_eq!(read.web_seeds, [format!("http://c/{}/", bare.info_hash)]);
        assert!(!read.info.private);
        let private = make(&[], &[], true);
        assert!(private.info.private);
        assert_ne!(private.info_hash, bare.info_hash);
        assert!(!full.to_bytes().unwrap().windows(13).any(|w| w == b"creation date"));
    }

    #[test]
    fn urls() {
        for (given, announce) in [
            ("http://10.0.0.1:6969", "http://10.0.0.1:6969/announce"),
            ("http://[fd00::1]:6969/", "http://[fd00::1]:6969/announce"),
            ("http://admin:6969/announce", "http://admin:6969/announce"),
            ("http://admin/x/y?key=1", "http://admin/x/y?key=1"),
            ("udp://admin:6969/announce", "udp://admin:6969/announce"),
            ("udp://[fd00::1]:6969", "udp://[fd00::1]:6969"),
        ] {
            assert_eq!(announce_url(given).unwrap(), announce);
        }
        for bad in [
            "",
            "admin:6969",
            "udp://admin",
            "udp://:1",
            "udp://a:0/",
            "http://",
            "http:///announce",
            "http://a b",
        ] {
            let error = announce_url(bad).unwrap_err();
            assert!(error.to_string().contains("http://HOST:PORT"), "{error}");
        }
    }
}
