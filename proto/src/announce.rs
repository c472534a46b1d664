//! Announce and scrape over HTTP: BEP 3, 7, 23 and 48.

use std::net::{IpAddr, SocketAddr};

use bendy::encoding::{Encoder, Error as EncodeError};

use crate::bencode::{BencodeError, Value};
use crate::hash::{InfoHash, PeerId};
use crate::{peers, query};

pub mod failed;

#[doc(inline)]
pub use failed::MAX_FAILED;

/// Longest announce query accepted, in bytes.
pub const MAX_QUERY_LEN: usize = 2048;

/// `event` of an announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// First announce of a session.
    Started,
    /// The download has just finished.
    Completed,
    /// The peer leaves.
    Stopped,
}

impl AnnounceEvent {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

/// One announce request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Who asks.
    pub peer_id: PeerId,
    /// TCP port on which the peer listens; never 0.
    pub port: u16,
    /// Bytes sent to others since `started`.
    pub uploaded: u64,
    /// Bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still missing; 0 is a complete peer.
    pub left: u64,
    /// Event, if any.
    pub event: Option<AnnounceEvent>,
    /// Peers wanted; `None` leaves it to the tracker.
    pub numwant: Option<u32>,
    /// Whether the compact form is wanted (BEP 23).
    pub compact: bool,
    /// Whether peer ids may be left out of a non-compact list.
    pub no_peer_id: bool,
    /// Opaque token that proves a peer's identity after its address changed.
    pub key: Option<String>,
    /// Address the client states for itself; trackers mostly ignore it.
    pub ip: Option<IpAddr>,
    /// Peers named by the tracker that could not be reached, [`MAX_FAILED`] at most. An extension of
    /// ours (`failed`, and `failed6`: lists as in BEP 23 and BEP 7); other trackers ignore it.
    pub failed: Vec<SocketAddr>,
}

/// Why an announce or scrape query was refused; its text goes into `failure reason`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Longer than [`MAX_QUERY_LEN`].
    #[error("query is longer than {MAX_QUERY_LEN} bytes")]
    TooLong,
    /// A parameter that must be there is not.
    #[error("missing parameter {0}")]
    Missing(&'static str),
    /// A parameter does not have the right form.
    #[error("invalid parameter {0}")]
    Invalid(&'static str),
}

impl AnnounceRequest {
    /// The announce of a peer that has moved no bytes and asks for a compact list.
    #[must_use]
    pub fn new(info_hash: InfoHash, peer_id: PeerId, port: u16) -> Self {
        Self {
            info_hash,
            peer_id,
            port,
            uploaded: 0,
            downloaded: 0,
            left: u64::MAX,
            event: None,
            numwant: None,
            compact: true,
            no_peer_id: true,
            key: None,
            ip: None,
            failed: Vec::new(),
        }
    }

    /// The query string, without `?`.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut text = format!(
            "info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}&compact={}",
            query::encode(self.info_hash.as_bytes()),
            query::encode(self.peer_id.as_bytes()),
            self.port,
            self.uploaded,
            self.downloaded,
            self.left,
            u8::from(self.compact),
        );
        let mut add = |key: &str, value: &str| {
            text.push_str(&format!("&{key}={}", query::encode(value.as_bytes())))
        };
        if let Some(event) = self.event {
            add("event", event.as_str());
        }
        if let Some(numwant) = self.numwant {
            add("numwant", &numwant.to_string());
        }
        if self.no_peer_id {
            add("no_peer_id", "1");
        }
        if let Some(key) = &self.key {
            add("key", key);
        }
        if let Some(ip) = self.ip {
            add("ip", &ip.to_string());
        }
        text + &failed::to_query(&self.failed)
    }

    /// Reads a query string, without `?`. Unknown parameters are ignored.
    ///
    /// # Errors
    /// [`QueryError`] names the parameter.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > MAX_QUERY_LEN {
            return Err(QueryError::TooLong);
        }
        let (mut info_hash, mut peer_id, mut port) = (None, None, None);
        let mut request = Self::new(InfoHash([0; 20]), PeerId([0; 20]), 0);
        request.no_peer_id = false;
        let mut left = None;
        for (key, value) in query::pairs(text) {
            match key {
                "info_hash" => {
                    info_hash = Some(binary(value).ok_or(QueryError::Invalid("info_hash"))?)
                }
                "peer_id" => peer_id = Some(binary(value).ok_or(QueryError::Invalid("peer_id"))?),
                "port" => {
                    let number = value.parse().ok().filter(|p| *p != 0u16);
                    port = Some(number.ok_or(QueryError::Invalid("port"))?);
                }
                "uploaded" => request.uploaded = number(value, "uploaded")?,
                "downloaded" => request.downloaded = number(value, "downloaded")?,
                // some clients send -1 or nothing when they do not know it yet
                "left" => left = Some(value.parse().unwrap_or(u64::MAX)),
                "compact" => request.compact = value != "0",
                "no_peer_id" => request.no_peer_id = value == "1",
                "numwant" => request.numwant = value.parse().ok(),
                "key" => request.key = text_of(value).filter(|k| k.len() <= 64),
                "ip" => request.ip = text_of(value).and_then(|ip| ip.parse().ok()),
                "event" => {
                    request.event = match value {
                        "started" => Some(AnnounceEvent::Started),
                        "completed" => Some(AnnounceEvent::Completed),
                        "stopped" => Some(AnnounceEvent::Stopped),
                        // "", "paused" (BEP 21) and whatever comes later: a plain announce
                        _ => None,
                    };
                }
                key => failed::read(key, value, &mut request.failed),
            }
        }
        request.info_hash = InfoHash(info_hash.ok_or(QueryError::Missing("info_hash"))?);
        request.peer_id = PeerId(peer_id.ok_or(QueryError::Missing("peer_id"))?);
        request.port = port.ok_or(QueryError::Missing("port"))?;
        request.left = left.unwrap_or(u64::MAX);
        request.failed.sort_unstable();
        Ok(request)
    }
}

/// The info-hashes of a scrape query (BEP 48); empty means all.
///
/// # Errors
/// [`QueryError`] when one of them is not 20 bytes.
pub fn parse_scrape(text: &str) -> Result<Vec<InfoHash>, QueryError> {
    if text.len() > MAX_QUERY_LEN * 4 {
        return Err(QueryError::TooLong);
    }
    query::pairs(text)
        .filter(|(key, _)| *key == "info_hash")
        .map(|(_, value)| binary(value).map(InfoHash).ok_or(QueryError::Invalid("info_hash")))
        .collect()
}

fn binary(value: &str) -> Option<[u8; 20]> {
    query::decode(value)?.try_into().ok()
}

fn text_of(value: &str) -> Option<String> {
    query::decode(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

fn number(value: &str, name: &'static str) -> Result<u64, QueryError> {
    value.parse().map_err(|_| QueryError::Invalid(name))
}

/// A peer in a non-compact list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerEntry {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its id, if the tracker gave it.
    pub peer_id: Option<PeerId>,
}

/// A tracker's answer to an announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnounceResponse {
    /// The tracker refuses; the text is for people.
    Failure(String),
    /// Peers and counters.
    Peers(AnnouncePeers),
}

/// The answer to an accepted announce.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnouncePeers {
    /// Seconds until the next announce.
    pub interval: u32,
    /// Seconds that must pass before another one.
    pub min_interval: Option<u32>,
    /// Complete peers.
    pub complete: u32,
    /// Peers still fetching.
    pub incomplete: u32,
    /// The peers.
    pub peers: Vec<PeerEntry>,
    /// `warning message`.
    pub warning: Option<String>,
}

impl AnnounceResponse {
    /// Reads a reply in either form.
    ///
    /// # Errors
    /// [`ResponseError`] when it is no announce reply.
    pub fn parse(bytes: &[u8]) -> Result<Self, ResponseError> {
        let (root, _) = Value::parse_prefix(bytes).map_err(ResponseError::Bencode)?;
        if let Some(reason) = root.get(b"failure reason") {
            let text = String::from_utf8_lossy(reason.as_bytes().unwrap_or(b"(no text)"));
            return Ok(Self::Failure(text.chars().take(500).collect()));
        }
        let counter = |key: &[u8]| {
            root.get(key).and_then(Value::as_unsigned).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
        };
        let mut list = match root.get(b"peers") {
            Some(Value::Bytes(compact)) => compact_entries(peers::decode_v4(compact))?,
            Some(Value::List(items)) => {
                items.iter().take(peers::MAX_PEERS).filter_map(entry).collect()
            }
            Some(_) => return Err(ResponseError::Field("peers")),
            None => Vec::new(),
        };
        if let Some(compact) = root.get(b"peers6").and_then(Value::as_bytes) {
            list.extend(compact_entries(peers::decode_v6(compact))?);
        }
        Ok(Self::Peers(AnnouncePeers {
            interval: counter(b"interval").ok_or(ResponseError::Field("interval"))?,
            min_interval: counter(b"min interval"),
            complete: counter(b"complete").unwrap_or(0),
            incomplete: counter(b"incomplete").unwrap_or(0),
            peers: list,
            warning: root.get(b"warning message").and_then(Value::as_str).map(str::to_owned),
        }))
    }

    /// Writes a reply; `compact` chooses the form of the peer list.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self, compact: bool) -> Result<Vec<u8>, EncodeError> {
        let mut encoder = Encoder::new();
        match self {
            Self::Failure(reason) => {
                encoder.emit_dict(|mut dict| dict.emit_pair(b"failure reason", reason.as_str()))?;
            }
            Self::Peers(reply) => encoder.emit_dict(|mut dict| {
                dict.emit_pair(b"complete", reply.complete)?;
                dict.emit_pair(b"incomplete", reply.incomplete)?;
                dict.emit_pair(b"interval", reply.interval)?;
                if let Some(seconds) = reply.min_interval {
                    dict.emit_pair(b"min interval", seconds)?;
                }
                if compact {
                    let addresses: Vec<_> = reply.peers.iter().map(|p| p.address).collect();
                    let (v4, v6) = peers::encode(&addresses);
                    dict.emit_pair_with(b"peers", |e| e.emit_bytes(&v4))?;
                    if !v6.is_empty() {
                        dict.emit_pair_with(b"peers6", |e| e.emit_bytes(&v6))?;
                    }
                } else {
                    dict.emit_pair_with(b"peers", |e| {
                        e.emit_list(|list| {
                            reply.peers.iter().try_for_each(|peer| emit_entry(list, peer))
                        })
                    })?;
                }
                if let Some(text) = &reply.warning {
                    dict.emit_pair(b"warning message", text.as_str())?;
                }
                Ok(())
            })?,
        }
        encoder.get_output()
    }
}

fn emit_entry(list: &mut Encoder, peer: &PeerEntry) -> Result<(), EncodeError> {
    list.emit_dict(|mut dict| {
        dict.emit_pair(b"ip", peer.address.ip().to_canonical().to_string().as_str())?;
        if let Some(id) = peer.peer_id {
            dict.emit_pair_with(b"peer id", |e| e.emit_bytes(id.as_bytes()))?;
        }
        dict.emit_pair(b"port", peer.address.port())
    })
}

fn compact_entries(
    list: Result<Vec<SocketAddr>, peers::CompactError>,
) -> Result<Vec<PeerEntry>, ResponseError> {
    let list = list.map_err(ResponseError::Compact)?;
    Ok(list.into_iter().map(|address| PeerEntry { address, peer_id: None }).collect())
}

fn entry(value: &Value<'_>) -> Option<PeerEntry> {
    let ip: IpAddr = value.get(b"ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(value.get(b"port")?.as_unsigned()?).ok().filter(|p| *p != 0)?;
    let peer_id =
        value.get(b"peer id").and_then(Value::as_bytes).and_then(|b| b.try_into().ok().map(PeerId));
    Some(PeerEntry { address: SocketAddr::new(ip.to_canonical(), port), peer_id })
}

/// Why a tracker's reply could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not bencode (an HTML page, say).
    #[error("the tracker's answer is not bencode")]
    Bencode(#[source] BencodeError),
    /// A field is missing or of the wrong type.
    #[error("the tracker's answer has no valid `{0}`")]
    Field(&'static str),
    /// A compact list of the wrong length.
    #[error("the tracker's peer list is malformed")]
    Compact(#[source] peers::CompactError),
}

/// Counters of one torrent in a scrape reply (BEP 48).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrapeEntry {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Complete peers.
    pub complete: u32,
    /// `completed` events ever seen.
    pub downloaded: u32,
    /// Peers still fetching.
    pub incomplete: u32,
}

/// Writes a scrape reply.
///
/// # Errors
/// None in practice.
pub fn encode_scrape(entries: &[ScrapeEntry]) -> Result<Vec<u8>, EncodeError> {
    let mut sorted = entries.to_vec();
    sorted.sort_by_key(|entry| entry.info_hash);
    sorted.dedup_by_key(|entry| entry.info_hash);
    let mut encoder = Encoder::new();
    encoder.emit_dict(|mut dict| {
        dict.emit_pair_with(b"files", |e| {
            e.emit_dict(|mut files| {
                sorted.iter().try_for_each(|entry| {
                    files.emit_pair_with(entry.info_hash.as_bytes(), |e| {
                        e.emit_dict(|mut dict| {
                            dict.emit_pair(b"complete", entry.complete)?;
                            dict.emit_pair(b"downloaded", entry.downloaded)?;
                            dict.emit_pair(b"incomplete", entry.incomplete)
                        })
                    })
                })
            })
        })
    })?;
    encoder.get_output()
}

#[cfg(test)]
#[path = "announce/tests.rs"]
mod tests;
