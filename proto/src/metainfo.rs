//! Torrent files of BEP 3, and hybrid ones (BEP 3 and BEP 52), one file per torrent.
//!
//! Beeswarm's torrents hold one image. A torrent with several files is refused with a clear error
//! rather than half supported. `info` keeps its raw bytes, so that both info-hashes come from the same
//! input. What BEP 52 adds is in `hybrid`.

mod hybrid;

use bendy::encoding::{Encoder, Error as EncodeError};

use crate::bencode::{self, BencodeError, Value};
use crate::geometry::{Geometry, GeometryError, PieceIndex};
use crate::hash::{InfoHash, InfoHashV2, PieceHash};
use crate::merkle::{BlockTree, Node, TreeError};

/// Largest torrent file accepted, in bytes (1 Mi pieces need 20 MiB, hybrid 52 MiB).
pub const MAX_TORRENT_LEN: usize = 56 * 1024 * 1024;

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
    /// `meta version` (BEP 52) is none that this program knows.
    #[error("torrent has meta version {0}; this program reads version 2 (BEP 52): update it")]
    MetaVersion(i64),
    /// What BEP 52 and what BEP 3 says are about different contents.
    #[error("torrent's `file tree` (BEP 52) has another {0} than its BEP 3 part; make it again")]
    Contradiction(&'static str),
    /// The piece hashes of BEP 52 are no tree of the content.
    #[error("torrent's BEP 52 hashes are not usable; make it again")]
    Tree(#[source] TreeError),
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
    tree: Option<BlockTree>,
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
        Ok(Self { name: name.to_owned(), geometry, private, pieces, tree: None })
    }

    /// The same content, described in the way of BEP 52 as well.
    ///
    /// # Errors
    /// [`MetainfoError::Tree`] when the tree is one of another number of pieces.
    pub fn with_tree(mut self, layer: Vec<Node>) -> Result<Self, MetainfoError> {
        self.tree = Some(BlockTree::new(&self.geometry, layer).map_err(MetainfoError::Tree)?);
        Ok(self)
    }

    /// What BEP 52 adds, in a hybrid torrent.
    #[must_use]
    pub fn tree(&self) -> Option<&BlockTree> {
        self.tree.as_ref()
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
            if let Some(tree) = &self.tree {
                dict.emit_pair_with(b"file tree", |e| hybrid::emit_tree(e, self, tree))?;
            }
            dict.emit_pair(b"length", self.geometry.total())?;
            if self.tree.is_some() {
                dict.emit_pair(b"meta version", hybrid::META_VERSION)?;
            }
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
    /// SHA-256 over the same bytes, in a hybrid torrent.
    pub info_hash_v2: Option<InfoHashV2>,
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
        let info_hash_v2 = info.tree.as_ref().map(|_| InfoHashV2::of(&raw_info));
        Ok(Self { info, info_hash, info_hash_v2, trackers, web_seeds, created_by, raw_info })
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
        let info = parse_info(root.get(b"info").ok_or(MetainfoError::Field("info"))?, &root)?;
        Ok(Self {
            info_hash: InfoHash::of(raw_info),
            info_hash_v2: info.tree.as_ref().map(|_| InfoHashV2::of(raw_info)),
            info,
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
        // announce, announce-list, created by, info, piece layers, url-list.
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
        if let Some(tree) = &self.info.tree {
            pair(b"piece layers", encoded(|e| hybrid::emit_layers(e, tree))?);
        }
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

/// Of the outer dictionary only `piece layers` is looked at.
fn parse_info(info: &Value<'_>, outer: &Value<'_>) -> Result<Info, MetainfoError> {
    let hybrid = hybrid::announced(info)?;
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
    let plain = Info::new(name, geometry, private, pieces)?;
    if hybrid { hybrid::parse(plain, info, outer) } else { Ok(plain) }
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
mod tests;
