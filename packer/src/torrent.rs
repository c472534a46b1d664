//! The torrent of an image: piece hashes, block tree and digest of the whole, in one reading.
//!
//! One thread reads, one makes SHA-1 of each piece and SHA-256 of its blocks, several at a time, and one
//! SHA-256 of the whole. The two take about as long: the whole can only be hashed one step after the
//! other.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use proto::geometry::{BLOCK_LEN, Geometry};
use proto::hash::{PieceHash, Sha256Digest, Sha256Stream};
use proto::manifest::{Artefact, ArtefactKind};
use proto::merkle::{self, Node};
use proto::metainfo::{Info, Metainfo, MetainfoError};
use sys::{sha1, sha256};

use crate::error::PackError;

/// Pieces that may wait for a hash thread: memory is twice as many pieces, at most 16 MiB.
const QUEUE: usize = 4;

/// Which hashes a torrent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TorrentFormat {
    /// SHA-1 of the pieces (BEP 3).
    V1,
    /// The same, and a SHA-256 tree of blocks (BEP 52).
    #[default]
    Hybrid,
}

/// What one reading of an image gives.
#[derive(Debug)]
pub(crate) struct Hashes {
    /// SHA-1 of each piece.
    pub(crate) pieces: Vec<PieceHash>,
    /// The node of each piece in the tree of blocks.
    pub(crate) layer: Vec<Node>,
    /// The whole.
    pub(crate) whole: Artefact,
}

/// Hashes of the bytes that were pushed, on two threads.
struct Hasher<'scope> {
    queues: [SyncSender<Arc<[u8]>>; 2],
    pieces: ScopedJoinHandle<'scope, (Vec<PieceHash>, Vec<Node>)>,
    whole: ScopedJoinHandle<'scope, Artefact>,
}

impl<'scope> Hasher<'scope> {
    /// `level` is that of the nodes that stand for pieces.
    fn start<'env>(scope: &'scope Scope<'scope, 'env>, level: u32) -> Self {
        let (to_pieces, from_pieces) = sync_channel(QUEUE);
        let (to_whole, from_whole) = sync_channel(QUEUE);
        let pieces = scope.spawn(move || hash_pieces(&from_pieces, level));
        let whole = scope.spawn(move || hash_whole(&from_whole));
        Self { queues: [to_pieces, to_whole], pieces, whole }
    }

    /// Takes the next piece.
    fn push(&self, piece: &Arc<[u8]>) {
        for queue in &self.queues {
            queue.send(Arc::clone(piece)).expect("the threads end after their queue does");
        }
    }

    fn finish(self) -> Hashes {
        drop(self.queues);
        let why = "hashing does not panic";
        let (pieces, layer) = self.pieces.join().expect(why);
        Hashes { pieces, layer, whole: self.whole.join().expect(why) }
    }
}

fn hash_pieces(queue: &Receiver<Arc<[u8]>>, level: u32) -> (Vec<PieceHash>, Vec<Node>) {
    let (mut hashes, mut layer) = (Vec::new(), Vec::new());
    loop {
        let few: Vec<Arc<[u8]>> = queue.iter().take(sha1::LANES).collect();
        if few.is_empty() {
            return (hashes, layer);
        }
        let pieces: Vec<&[u8]> = few.iter().map(AsRef::as_ref).collect();
        let four = pieces.as_slice().try_into().ok().and_then(|four: [&[u8]; 4]| sha1::four(four));
        match four {
            Some(four) => hashes.extend(four.map(PieceHash)),
            None => hashes.extend(pieces.iter().map(|piece| PieceHash::of(piece))),
        }
        let blocks: Vec<&[u8]> =
            pieces.iter().flat_map(|piece| piece.chunks(BLOCK_LEN as usize)).collect();
        let nodes: Vec<Node> = sha256::each(&blocks).into_iter().map(Sha256Digest).collect();
        let mut rest = nodes.as_slice();
        for piece in pieces {
            let (own, others) = rest.split_at(piece.len().div_ceil(BLOCK_LEN as usize));
            layer.push(merkle::root(own, 0, level));
            rest = others;
        }
    }
}

fn hash_whole(queue: &Receiver<Arc<[u8]>>) -> Artefact {
    let mut digest = Sha256Stream::default();
    let mut length = 0;
    for piece in queue {
        digest.update(&piece);
        length += piece.len() as u64;
    }
    Artefact { length, sha256: digest.finish() }
}

/// Reads the file at `path` and hashes it; `progress` is told the bytes read so far.
///
/// # Errors
/// Those of reading.
pub(crate) fn hash(
    path: &Path,
    piece_length: u32,
    mut progress: impl FnMut(u64),
) -> io::Result<Hashes> {
    let mut file = File::open(path)?;
    let level = merkle::piece_level(file.metadata()?.len(), piece_length);
    std::thread::scope(|scope| {
        let hasher = Hasher::start(scope, level);
        let mut read = 0;
        loop {
            let mut piece = Vec::with_capacity(piece_length as usize);
            (&mut file).take(u64::from(piece_length)).read_to_end(&mut piece)?;
            if piece.is_empty() {
                return Ok(hasher.finish());
            }
            read += piece.len() as u64;
            hasher.push(&Arc::from(piece));
            progress(read);
        }
    })
}

/// The `info` of a Beeswarm image, with the name that every revision has. `private` (BEP 27) is
/// part of the info-hash: peers then come from the tracker alone.
///
/// # Errors
/// [`PackError::Torrent`] when the sizes are not usable.
pub(crate) fn info(
    hashes: Hashes,
    piece_length: u32,
    private: bool,
    format: TorrentFormat,
) -> Result<Info, PackError> {
    let geometry = Geometry::new(hashes.whole.length, u64::from(piece_length))
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
    use proto::hash::Sha256Digest;

    use super::*;

    #[test]
    fn hashing_in_threads_gives_what_hashing_at_once_gives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        for length in [1usize, 16_384, 32_768, 32_769, 50_000, 262_144, 1_000_000] {
            let bytes: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
            std::fs::write(&path, &bytes).unwrap();
            let mut last = 0;
            let hashes = hash(&path, 32_768, |read| last = read).unwrap();
            let expected: Vec<_> = bytes.chunks(32_768).map(PieceHash::of).collect();
            assert_eq!(hashes.pieces, expected);
            assert_eq!(hashes.whole.sha256, Sha256Digest::of(&bytes));
            assert_eq!((hashes.whole.length, last), (length as u64, length as u64));
            let tree = info(hashes, 32_768, false, TorrentFormat::Hybrid).unwrap();
            for (piece, part) in tree.geometry.indices().zip(bytes.chunks(32_768)) {
                assert!(tree.tree().unwrap().piece_is(piece, &merkle::blocks(part)));
            }
        }
    }

    #[test]
    fn the_torrent_reads_back_and_trackers_do_not_change_its_hash() {
        let make = |trackers: &[&str], seeds: &[&str], private: bool| {
            let own = |urls: &[&str]| urls.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>();
            let whole = Artefact { length: 40_960, sha256: Sha256Digest([0; 32]) };
            let (pieces, layer) = (vec![PieceHash([1; 20]); 2], vec![Sha256Digest([2; 32]); 2]);
            let hashes = Hashes { pieces, layer, whole };
            let info = info(hashes, 32_768, private, TorrentFormat::Hybrid).unwrap();
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
