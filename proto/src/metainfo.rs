//! Torrent files, version 1 (BEP 3), one file per torrent.
//!
//! Beeswarm's torrents hold one image. A torrent with several files is refused with a clear error
//! rather than half supported. Version 2 and hybrid torrents (BEP 52) take their place beside
//! [`Info`] in a later step: `info` keeps its raw bytes so that both hashes come from the same input.

use bendy::encoding::{Encoder, Error as EncodeError};

use crate::bencode::{self, BencodeError, Value};
use crate::geometry::{Geometry, GeometryError, PieceIndex};
use crate::hash::{InfoHash, PieceHash};

/// Largest torrent file accepted, in bytes (1 Mi pieces need 20 MiB).
pub const MAX_TORRENT_LEN: usize = 24 * 1024 * 1024;

/// Most announce URLs, and most web seeds, taken from one torrent.
const MAX_URLS: usize = 64;

/// Longest URL kept, in bytes.
const MAX_URL_LEN: usize = 2048;

/// Why a torrent file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// The file is not bencode.
    #[error("this is no torrent file")]
    Bencode(#[source] BencodeError),
    /// Larger than [`MAX_TORRENT_LEN`].
    #[error("torrent file of {0} bytes is larger than {MAX_TORRENT_LEN}")]
    TooLarge(usize),
    /// A field that must be there is missing or of the wrong type.
    #[error("torrent file has no valid `{0}`")]
    Field(&'static str),
    /// The torrent holds several files.
    #[error("torrent holds several files; a Beeswarm image is one file")]
    MultiFile,
    /// Only a version 2 `info` (BEP 52), without version 1 hashes.
    #[error("torrent has only BEP 52 (v2) hashes; make a v1 or hybrid torrent")]
    V2Only,
    /// Lengths do not make sense.
    #[error("torrent's sizes are not usable")]
    Geometry(#[source] GeometryError),
    /// Number of hashes differs from number of pieces.
    #[error("torrent has {hashes} piece hashes for {pieces} pieces")]
    PieceCount {
        /// Hashes found.
        hashes: usize,
        /// Pieces that the lengths give.
        pieces: u32,
    },
    /// The name would be a path.
    #[error("torrent's name {0:?} is not a plain file name")]
    Name(String),
}

/// The `info` dictionary: what the info-hash pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// File name of the image.
    pub name: String,
    /// Lengths, in bytes.
    pub geometry: Geometry,
    /// BEP 27: peers come from the tracker only.
    pub private: bool,
    pieces: Vec<PieceHash>,
}

impl Info {
    /// Puts an `info` together.
    ///
    /// # Errors
    /// [`MetainfoError`] when hashes and lengths disagree or the name is a path.
    pub fn new(
        name: &str,
        geometry: Geometry,
        private: bool,
        pieces: Vec<PieceHash>,
    ) -> Result<Self, MetainfoError> {
        if name.is_empty()
            || name.len() > 255
            || name == "."
            || name == ".."
            || name.contains(['/', '\\', '\0'])
        {
            return Err(MetainfoError::Name(name.chars().take(255).collect()));
        }
        if pieces.len() != geometry.pieces() as usize {
            return Err(MetainfoError::PieceCount {
                hashes: pieces.len(),
                pieces: geometry.pieces(),
            });
        }
        Ok(Self { name: name.to_owned(), geometry, private, pieces })
    }

    /// The SHA-1 that a piece must have; `None` for an index out of range.
    #[must_use]
    pub fn piece_hash(&self, piece: PieceIndex) -> Option<PieceHash> {
        self.pieces.get(piece.as_usize()).copied()
    }

    /// Canonical bencoding.
    ///
    /// # Errors
    /// None in practice: the encoder only refuses structures that this function does not build.
    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let hashes: Vec<u8> = self.pieces.iter().flat_map(|hash| hash.0).collect();
        let mut encoder = Encoder::new();
        encoder.emit_dict(|mut dict| {
            dict.emit_pair(b"length", self.geometry.total())?;
            dict.emit_pair(b"name", self.name.as_str())?;
            dict.emit_pair(b"piece length", self.geometry.piece_length())?;
            dict.emit_pair_with(b"pieces", |e| e.emit_bytes(&hashes))?;
            if self.private {
                dict.emit_pair(b"private", 1)?;
            }
            Ok(())
        })?;
        encoder.get_output()
    }
}

/// A whole torrent: `info` plus where to find peers, which the info-hash does not pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metainfo {
    /// The pinned part.
    pub info: Info,
    /// SHA-1 over the raw bytes of `info`.
    pub info_hash: InfoHash,
    /// Announce URLs in tiers (BEP 12); `announce` alone is one tier of one.
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// `created by`.
    pub created_by: Option<String>,
    raw_info: Vec<u8>,
}

impl Metainfo {
    /// Makes a new torrent.
    ///
    /// # Errors
    /// [`MetainfoError::Bencode`] when it cannot be encoded (none in practice).
    pub fn new(
        info: Info,
        trackers: Vec<Vec<String>>,
        web_seeds: Vec<String>,
        created_by: Option<String>,
    ) -> Result<Self, MetainfoError> {
        let raw_info = info.encode().map_err(encode_error)?;
        let info_hash = InfoHash::of(&raw_info);
        Ok(Self { info, info_hash, trackers, web_seeds, created_by, raw_info })
    }

    /// Reads a torrent file.
    ///
    /// # Errors
    /// [`MetainfoError`] names what is missing or out of range.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        if bytes.len() > MAX_TORRENT_LEN {
            return Err(MetainfoError::TooLarge(bytes.len()));
        }
        let root = Value::parse(bytes).map_err(MetainfoError::Bencode)?;
        let raw_info = bencode::raw_value(bytes, b"info")
            .map_err(MetainfoError::Bencode)?
            .ok_or(MetainfoError::Field("info"))?;
        let info = root.get(b"info").ok_or(MetainfoError::Field("info"))?;
        Ok(Self {
            info: parse_info(info)?,
            info_hash: InfoHash::of(raw_info),
            trackers: parse_trackers(&root),
            web_seeds: parse_web_seeds(&root),
            created_by: root.get(b"created by").and_then(Value::as_str).map(str::to_owned),
            raw_info: raw_info.to_vec(),
        })
    }

    /// The torrent file; `info` is written byte for byte as it was read.
    ///
    /// # Errors
    /// [`MetainfoError::Bencode`] when it cannot be encoded (none in practice).
    pub fn to_bytes(&self) -> Result<Vec<u8>, MetainfoError> {
        // `bendy` cannot embed raw bytes, so `info` goes last but one by hand: keys are sorted as
        // announce, announce-list, created by, info, url-list.
        let mut out = b"d".to_vec();
        let mut pair = |key: &[u8], value: Vec<u8>| {
            out.extend(format!("{}:", key.len()).as_bytes());
            out.extend(key);
            out.extend(value);
        };
        if let Some(first) = self.trackers.iter().flatten().next() {
            pair(b"announce", encoded(|e| e.emit_str(first))?);
        }
        if self.trackers.iter().map(Vec::len).sum::<usize>() > 1 {
            let tiers = encoded(|e| {
                e.emit_list(|list| {
                    self.trackers
                        .iter()
                        .try_for_each(|tier| list.emit_list(|urls| urls_into(urls, tier)))
                })
            })?;
            pair(b"announce-list", tiers);
        }
        if let Some(text) = &self.created_by {
            pair(b"created by", encoded(|e| e.emit_str(text))?);
        }
        pair(b"info", self.raw_info.clone());
        if !self.web_seeds.is_empty() {
            pair(b"url-list", encoded(|e| e.emit_list(|list| urls_into(list, &self.web_seeds)))?);
        }
        out.push(b'e');
        Ok(out)
    }
}

fn urls_into(list: &mut bendy::encoding::Encoder, urls: &[String]) -> Result<(), EncodeError> {
    urls.iter().try_for_each(|url| list.emit_str(url))
}

fn encoded(
    fill: impl FnOnce(bendy::encoding::SingleItemEncoder<'_>) -> Result<(), EncodeError>,
) -> Result<Vec<u8>, MetainfoError> {
    let mut encoder = Encoder::new();
    encoder.emit_with(fill).map_err(encode_error)?;
    encoder.get_output().map_err(encode_error)
}

fn encode_error(error: EncodeError) -> MetainfoError {
    MetainfoError::Bencode(BencodeError::Syntax(error.to_string()))
}

fn parse_info(info: &Value<'_>) -> Result<Info, MetainfoError> {
    if info.get(b"files").is_some() {
        return Err(MetainfoError::MultiFile);
    }
    if info.get(b"pieces").is_none() && info.get(b"file tree").is_some() {
        return Err(MetainfoError::V2Only);
    }
    let unsigned = |key: &'static str| {
        info.get(key.as_bytes()).and_then(Value::as_unsigned).ok_or(MetainfoError::Field(key))
    };
    let geometry = Geometry::new(unsigned("length")?, unsigned("piece length")?)
        .map_err(MetainfoError::Geometry)?;
    let hashes = info
        .get(b"pieces")
        .and_then(Value::as_bytes)
        .filter(|bytes| bytes.len() % PieceHash::LEN == 0)
        .ok_or(MetainfoError::Field("pieces"))?;
    let pieces = hashes.chunks_exact(PieceHash::LEN).filter_map(PieceHash::from_slice).collect();
    let name = info.get(b"name").and_then(Value::as_str).ok_or(MetainfoError::Field("name"))?;
    let private = info.get(b"private").and_then(Value::as_integer) == Some(1);
    Info::new(name, geometry, private, pieces)
}

fn parse_trackers(root: &Value<'_>) -> Vec<Vec<String>> {
    let mut budget = MAX_URLS;
    let mut tiers: Vec<Vec<String>> = Vec::new();
    for tier in root.get(b"announce-list").and_then(Value::as_list).unwrap_or_default() {
        let urls = collect_urls(tier.as_list().unwrap_or_default(), &mut budget);
        if !urls.is_empty() {
            tiers.push(urls);
        }
    }
    if tiers.is_empty() {
        let urls =
            collect_urls(root.get(b"announce").map_or(&[], std::slice::from_ref), &mut budget);
        if !urls.is_empty() {
            tiers.push(urls);
        }
    }
    tiers
}

fn parse_web_seeds(root: &Value<'_>) -> Vec<String> {
    let mut budget = MAX_URLS;
    match root.get(b"url-list") {
        Some(Value::List(list)) => collect_urls(list, &mut budget),
        Some(single @ Value::Bytes(_)) => collect_urls(std::slice::from_ref(single), &mut budget),
        _ => Vec::new(),
    }
}

fn collect_urls(values: &[Value<'_>], budget: &mut usize) -> Vec<String> {
    let urls = values
        .iter()
        .filter_map(Value::as_str)
        .filter(|url| !url.is_empty() && url.len() <= MAX_URL_LEN)
        .take(*budget)
        .map(str::to_owned)
        .collect::<Vec<_>>();
    *budget -= urls.len();
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(trackers: Vec<Vec<String>>, web_seeds: Vec<String>) -> Metainfo {
        let geometry = Geometry::new(40_000, 32_768).unwrap();
        let pieces = vec![PieceHash([1; 20]), PieceHash([2; 20])];
        let info = Info::new("rootimg.sfs", geometry, true, pieces).unwrap();
        Metainfo::new(info, trackers, web_seeds, Some("bee-packer".into())).unwrap()
    }

    #[test]
    fn round_trip() {
        let url = |s: &str| s.to_owned();
        for (trackers, seeds) in [
            (vec![], vec![]),
            (vec![vec![url("http://a/announce")]], vec![url("http://w/")]),
            (vec![vec![url("http://a/"), url("http://b/")], vec![url("http://c/")]], vec![]),
        ] {
            let made = sample(trackers, seeds);
            let bytes = made.to_bytes().unwrap();
            assert_eq!(Metainfo::parse(&bytes).unwrap(), made);
        }
    }

    #[test]
    fn info_hash_is_over_the_raw_bytes() {
        // an unknown key in info changes the hash and survives a rewrite
        let mut bytes = sample(vec![], vec![]).to_bytes().unwrap();
        let at = bytes.windows(7).position(|w| w == b"private").unwrap() - 2;
        bytes.splice(at + 12..at + 12, *b"6:source3:lab");
        let parsed = Metainfo::parse(&bytes).unwrap();
        assert_ne!(parsed.info_hash, sample(vec![], vec![]).info_hash);
        assert_eq!(parsed.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn refuses_bad_torrents() {
        assert!(matches!(Metainfo::parse(b"<html>"), Err(MetainfoError::Bencode(_))));
        assert_eq!(Metainfo::parse(b"de"), Err(MetainfoError::Field("info")));
        let multi = b"d4:infod5:filesle4:name1:aee";
        assert_eq!(Metainfo::parse(multi), Err(MetainfoError::MultiFile));
        let v2 = b"d4:infod9:file treede4:name1:aee";
        assert_eq!(Metainfo::parse(v2), Err(MetainfoError::V2Only));
        let short = b"d4:infod6:lengthi40000e4:name1:a12:piece lengthi32768e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        assert_eq!(Metainfo::parse(short), Err(MetainfoError::PieceCount { hashes: 1, pieces: 2 }));
        let geometry = Geometry::new(1, 16_384).unwrap();
        for name in ["", "..", "a/b", "a\0"] {
            assert!(Info::new(name, geometry, true, vec![PieceHash([0; 20])]).is_err());
        }
    }
}
