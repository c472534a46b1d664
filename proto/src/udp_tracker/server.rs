//! The UDP tracker protocol, the tracker's side (BEP 15, options of BEP 41).
//!
//! Requests are borrowed from the datagram, and answers are appended to a buffer of the caller: a
//! tracker handles a hundred thousand of each per second.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{ANNOUNCE, CONNECT, ERROR, PROTOCOL, SCRAPE, URL_DATA};
use crate::announce::{AnnounceEvent, MAX_QUERY_LEN, ScrapeEntry};
use crate::hash::{InfoHash, PeerId};

/// Info-hashes of one scrape at most (BEP 15 says about 74).
pub const MAX_SCRAPE: usize = 74;

/// Bytes of an announce without options.
const ANNOUNCE_LEN: usize = 98;

/// A datagram that is answered, once its connection id is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The connection id; of no meaning in a connect.
    pub connection: u64,
    /// What the answer has to repeat.
    pub transaction: u32,
    /// What is asked.
    pub ask: Ask<'a>,
}

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// For a connection id.
    Connect,
    /// For peers.
    Announce(Announce<'a>),
    /// For counters of these torrents: 20 bytes each, [`MAX_SCRAPE`] at most.
    Scrape(&'a [[u8; 20]]),
}

/// An announce; port and addresses are as the client stated them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce<'a> {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Who asks.
    pub peer_id: PeerId,
    /// Bytes still missing; 0 is a complete peer.
    pub left: u64,
    /// Event, if any.
    pub event: Option<AnnounceEvent>,
    /// Address the client states for itself.
    pub ip: Option<Ipv4Addr>,
    /// Proves who it is after its address changed; 0 is none.
    pub key: u32,
    /// Peers wanted; `None` leaves it to the tracker.
    pub numwant: Option<u32>,
    /// TCP port on which the peer listens; may be 0, which is to be refused.
    pub port: u16,
    options: &'a [u8],
}

/// A datagram that gets no answer: it is no request, or too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no request of the UDP tracker protocol")]
pub struct RequestError;

impl<'a> Request<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`RequestError`]: it is to be dropped.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RequestError> {
        let connection = u64::from_be_bytes(field(datagram, 0)?);
        let transaction = number(datagram, 12)?;
        let ask = match number(datagram, 8)? {
            CONNECT if connection == PROTOCOL => Ask::Connect,
            ANNOUNCE => Ask::Announce(Announce::parse(datagram)?),
            SCRAPE => {
                let (hashes, _) = datagram.get(16..).unwrap_or_default().as_chunks();
                Ask::Scrape(&hashes[..hashes.len().min(MAX_SCRAPE)])
            }
            _ => return Err(RequestError),
        };
        Ok(Self { connection, transaction, ask })
    }
}

impl<'a> Announce<'a> {
    fn parse(datagram: &'a [u8]) -> Result<Self, RequestError> {
        let ip = Ipv4Addr::from(field::<4>(datagram, 84)?);
        let numwant = number(datagram, 92)?;
        Ok(Self {
            info_hash: InfoHash(field(datagram, 16)?),
            peer_id: PeerId(field(datagram, 36)?),
            left: u64::from_be_bytes(field(datagram, 64)?),
            event: match number(datagram, 80)? {
                1 => Some(AnnounceEvent::Completed),
                2 => Some(AnnounceEvent::Started),
                3 => Some(AnnounceEvent::Stopped),
                _ => None,
            },
            ip: (!ip.is_unspecified()).then_some(ip),
            key: number(datagram, 88)?,
            // -1 is the default; other negative numbers mean as little
            numwant: i32::try_from(numwant).is_ok().then_some(numwant),
            port: u16::from_be_bytes(field(datagram, 96)?),
            options: datagram.get(ANNOUNCE_LEN..).unwrap_or_default(),
        })
    }

    /// Path and query of the URL that the client has (BEP 41), as far as they are text; empty mostly.
    #[must_use]
    pub fn url_data(&self) -> String {
        // nothing is allocated for an announce without options
        let mut data = Vec::new();
        let mut rest = self.options;
        while let [option, tail @ ..] = rest {
            rest = match (*option, tail) {
                (0, _) => break,
                (1, _) => tail,
                (option, [length, tail @ ..]) if tail.len() >= usize::from(*length) => {
                    let (value, tail) = tail.split_at(usize::from(*length));
                    if option == URL_DATA && data.len() + value.len() <= MAX_QUERY_LEN {
                        data.extend(value);
                    }
                    tail
                }
                _ => break,
            };
        }
        String::from_utf8(data).unwrap_or_default()
    }
}

fn field<const N: usize>(datagram: &[u8], at: usize) -> Result<[u8; N], RequestError> {
    datagram.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(RequestError)
}

fn number(datagram: &[u8], at: usize) -> Result<u32, RequestError> {
    field(datagram, at).map(u32::from_be_bytes)
}

/// The answer to a connect.
pub fn connected(out: &mut Vec<u8>, transaction: u32, connection: u64) {
    head(out, CONNECT, transaction);
    out.extend(connection.to_be_bytes());
}

/// The answer to an announce. `peers` must be of the family that is spoken over: 6 or 18 bytes each.
pub fn peers(
    out: &mut Vec<u8>,
    transaction: u32,
    interval: u32,
    leechers: u32,
    seeders: u32,
    peers: impl IntoIterator<Item = SocketAddr>,
) {
    head(out, ANNOUNCE, transaction);
    for number in [interval, leechers, seeders] {
        out.extend(number.to_be_bytes());
    }
    for peer in peers {
        match peer.ip() {
            IpAddr::V4(ip) => out.extend(ip.octets()),
            IpAddr::V6(ip) => out.extend(ip.octets()),
        }
        out.extend(peer.port().to_be_bytes());
    }
}

/// The answer to a scrape: one entry per info-hash asked for, in that order.
pub fn scraped(
    out: &mut Vec<u8>,
    transaction: u32,
    entries: impl IntoIterator<Item = ScrapeEntry>,
) {
    head(out, SCRAPE, transaction);
    for entry in entries {
        for number in [entry.complete, entry.downloaded, entry.incomplete] {
            out.extend(number.to_be_bytes());
        }
    }
}

/// A refusal; the text is for people.
pub fn refused(out: &mut Vec<u8>, transaction: u32, text: &str) {
    head(out, ERROR, transaction);
    out.extend(text.as_bytes());
}

fn head(out: &mut Vec<u8>, action: u32, transaction: u32) {
    out.extend(action.to_be_bytes());
    out.extend(transaction.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{self as client, Family, Reply};
    use super::*;
    use crate::announce::AnnounceRequest;
    use proptest::prelude::*;

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            event: Some(AnnounceEvent::Started),
            left: 4,
            numwant: Some(50),
            ..AnnounceRequest::new(InfoHash([1; 20]), PeerId([2; 20]), 6881)
        }
    }

    #[test]
    fn what_the_client_writes_is_read() {
        let connect = client::connect(7);
        let read = Request::parse(&connect).unwrap();
        assert_eq!((read.transaction, read.ask), (7, Ask::Connect));
        let bytes = client::announce(9, 8, &request(), 0xabcd, "/announce?x=1");
        let read = Request::parse(&bytes).unwrap();
        assert_eq!((read.connection, read.transaction), (9, 8));
        let Ask::Announce(announce) = read.ask else { panic!("announce") };
        assert_eq!((announce.info_hash, announce.peer_id), (InfoHash([1; 20]), PeerId([2; 20])));
        assert_eq!((announce.left, announce.port, announce.key), (4, 6881, 0xabcd));
        assert_eq!((announce.event, announce.ip), (Some(AnnounceEvent::Started), None));
        assert_eq!((announce.numwant, announce.url_data()), (Some(50), "/announce?x=1".into()));
        let long = "a".repeat(600);
        let bytes = client::announce(9, 8, &request(), 0, &long);
        let Ask::Announce(announce) = Request::parse(&bytes).unwrap().ask else { panic!() };
        assert_eq!(announce.url_data(), long, "in several parts");
    }

    #[test]
    fn what_is_no_request_is_dropped() {
        let connect = client::connect(7);
        assert_eq!(Request::parse(&connect[..15]), Err(RequestError));
        let mut other = connect.clone();
        other[7] ^= 1;
        assert_eq!(Request::parse(&other), Err(RequestError), "not the protocol's number");
        let bytes = client::announce(9, 8, &request(), 0, "");
        assert_eq!(Request::parse(&bytes[..97]), Err(RequestError));
        let mut bytes = bytes;
        bytes[11] = 9;
        assert_eq!(Request::parse(&bytes), Err(RequestError), "no such action");
    }

    #[test]
    fn what_the_tracker_writes_is_read() {
        let mut out = Vec::new();
        connected(&mut out, 7, 1 << 56 | 2);
        assert_eq!(client::parse(&out, 7, Family::V4), Ok(Reply::Connected(1 << 56 | 2)));
        out.clear();
        let list: Vec<SocketAddr> = vec!["10.0.0.1:1".parse().unwrap(); 3];
        peers(&mut out, 7, 5, 3, 2, list.iter().copied());
        let Ok(Reply::Peers(reply)) = client::parse(&out, 7, Family::V4) else { panic!("peers") };
        assert_eq!((reply.interval, reply.incomplete, reply.complete), (5, 3, 2));
        assert_eq!(reply.peers.iter().map(|p| p.address).collect::<Vec<_>>(), list);
        out.clear();
        refused(&mut out, 7, "no");
        assert_eq!(client::parse(&out, 7, Family::V4), Ok(Reply::Refused("no".into())));
    }

    #[test]
    fn scrapes_are_bounded_and_have_the_layout_of_the_specification() {
        let mut bytes =
            [9u64.to_be_bytes().as_slice(), &2u32.to_be_bytes(), &[0, 0, 0, 7]].concat();
        bytes.extend([[3; 20], [4; 20]].concat());
        bytes.push(1);
        let read = Request::parse(&bytes).unwrap();
        assert_eq!(read.ask, Ask::Scrape(&[[3; 20], [4; 20]]));
        bytes.extend([0; 20 * 200]);
        let Ask::Scrape(hashes) = Request::parse(&bytes).unwrap().ask else { panic!() };
        assert_eq!(hashes.len(), MAX_SCRAPE);
        let mut out = Vec::new();
        let entry = |complete| ScrapeEntry {
            info_hash: InfoHash([0; 20]),
            complete,
            downloaded: 2,
            incomplete: 3,
        };
        scraped(&mut out, 7, [entry(1), entry(5)]);
        let expected = [2u32, 7, 1, 2, 3, 5, 2, 3].map(u32::to_be_bytes).concat();
        assert_eq!(out, expected);
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..300), action in 0u8..4) {
            if bytes.len() > 11 {
                bytes[8..12].copy_from_slice(&[0, 0, 0, action]);
            }
            if let Ok(Request { ask: Ask::Announce(announce), .. }) = Request::parse(&bytes) {
                prop_assert!(announce.url_data().len() <= MAX_QUERY_LEN);
            }
        }
    }
}
