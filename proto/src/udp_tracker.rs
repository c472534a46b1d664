//! The UDP tracker protocol, the client's side (BEP 15, options of BEP 41); the tracker's is
//! [`server`].
//!
//! ```text
//!  connect   ─────▶   ◀───── connection id, good for a minute
//!  announce  ─────▶   ◀───── interval, counts, peers      (or an error text, to either)
//! ```

use std::net::SocketAddr;

use crate::announce::{AnnounceEvent, AnnouncePeers, AnnounceRequest, PeerEntry};
use crate::peers;

pub mod server;

/// Largest reply that is looked at, in bytes.
pub const MAX_REPLY_LEN: usize = 65_535;

/// What a connect request carries where later requests have the connection id.
const PROTOCOL: u64 = 0x0417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// BEP 41: a part of the URL's path and query.
const URL_DATA: u8 = 2;

/// Longest path and query that is sent, in bytes.
const MAX_URL_DATA: usize = 1_000;

/// The address family that is spoken over; it decides the form of the peer list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Peers of 6 bytes.
    V4,
    /// Peers of 18 bytes.
    V6,
}

/// What a tracker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To a connect: the connection id.
    Connected(u64),
    /// To an announce.
    Peers(AnnouncePeers),
    /// To either; the text is for people.
    Refused(String),
}

/// A datagram that is no answer to this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Too short for what it says it is.
    #[error("{0} bytes are too few")]
    Short(usize),
    /// The answer to another request, or somebody's guess.
    #[error("another transaction")]
    Transaction,
    /// No action of this protocol.
    #[error("unknown action {0}")]
    Action(u32),
    /// The peer list is no multiple of a peer.
    #[error("the peer list has {0} bytes, no multiple of a peer's")]
    Peers(usize),
}

/// The connect request.
#[must_use]
pub fn connect(transaction: u32) -> Vec<u8> {
    let mut out = PROTOCOL.to_be_bytes().to_vec();
    out.extend(CONNECT.to_be_bytes());
    out.extend(transaction.to_be_bytes());
    out
}

/// The announce request. `key` proves who we are when our address changes; `url_data` is path and
/// query of the tracker's URL, cut to what fits.
#[must_use]
pub fn announce(
    connection: u64,
    transaction: u32,
    request: &AnnounceRequest,
    key: u32,
    url_data: &str,
) -> Vec<u8> {
    let event: u32 = match request.event {
        None => 0,
        Some(AnnounceEvent::Completed) => 1,
        Some(AnnounceEvent::Started) => 2,
        Some(AnnounceEvent::Stopped) => 3,
    };
    let mut out = connection.to_be_bytes().to_vec();
    out.extend(ANNOUNCE.to_be_bytes());
    out.extend(transaction.to_be_bytes());
    out.extend(request.info_hash.as_bytes());
    out.extend(request.peer_id.as_bytes());
    for number in [request.downloaded, request.left, request.uploaded] {
        out.extend(number.to_be_bytes());
    }
    out.extend(event.to_be_bytes());
    // the address that the datagram comes from
    out.extend([0; 4]);
    out.extend(key.to_be_bytes());
    // all ones: as many as the tracker likes
    out.extend(request.numwant.unwrap_or(u32::MAX).to_be_bytes());
    out.extend(request.port.to_be_bytes());
    let url_data = &url_data.as_bytes()[..url_data.len().min(MAX_URL_DATA)];
    for part in url_data.chunks(255) {
        out.push(URL_DATA);
        out.extend(u8::try_from(part.len()));
        out.extend(part);
    }
    out
}

/// Reads the answer to the request with this transaction id. Only [`peers::MAX_PEERS`] are taken.
///
/// # Errors
/// [`ReplyError`]: the datagram is to be ignored, the answer may still come.
pub fn parse(datagram: &[u8], transaction: u32, family: Family) -> Result<Reply, ReplyError> {
    let short = || ReplyError::Short(datagram.len());
    let number = |at: usize| {
        let bytes = datagram.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(short)
    };
    let action = number(0)?;
    if number(4)? != transaction {
        return Err(ReplyError::Transaction);
    }
    match action {
        CONNECT => Ok(Reply::Connected(u64::from(number(8)?) << 32 | u64::from(number(12)?))),
        ANNOUNCE => {
            let (interval, incomplete, complete) = (number(8)?, number(12)?, number(16)?);
            let list = datagram.get(20..).unwrap_or_default();
            let list: Vec<SocketAddr> = match family {
                Family::V4 => peers::decode_v4(list),
                Family::V6 => peers::decode_v6(list),
            }
            .map_err(|error| ReplyError::Peers(error.got))?;
            let entry = |address| PeerEntry { address, peer_id: None };
            Ok(Reply::Peers(AnnouncePeers {
                interval,
                min_interval: None,
                complete,
                incomplete,
                peers: list.into_iter().map(entry).collect(),
                warning: None,
            }))
        }
        ERROR => {
            let text = String::from_utf8_lossy(&datagram[8..]);
            let text = text.trim_end_matches('\0');
            Ok(Reply::Refused(text.chars().filter(|c| !c.is_control()).take(500).collect()))
        }
        other => Err(ReplyError::Action(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{InfoHash, PeerId};
    use proptest::prelude::*;

    fn request(event: Option<AnnounceEvent>) -> AnnounceRequest {
        AnnounceRequest {
            uploaded: 5,
            downloaded: 3,
            left: 4,
            event,
            ..AnnounceRequest::new(InfoHash([1; 20]), PeerId([2; 20]), 0x1ae1)
        }
    }

    #[test]
    fn requests_have_the_layout_of_the_specification() {
        let bytes = connect(7);
        assert_eq!(bytes, [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 7]);
        let bytes = announce(9, 7, &request(Some(AnnounceEvent::Started)), 0xabcd, "");
        assert_eq!(bytes.len(), 98);
        assert_eq!(bytes[..16], [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!((bytes[16], bytes[36], bytes[63], bytes[71], bytes[79]), (1, 2, 3, 4, 5));
        assert_eq!(bytes[80..84], [0, 0, 0, 2], "started");
        assert_eq!(bytes[84..92], [0, 0, 0, 0, 0, 0, 0xab, 0xcd]);
        assert_eq!(bytes[92..], [0xff, 0xff, 0xff, 0xff, 0x1a, 0xe1]);
        let event = |event| announce(9, 7, &request(event), 0, "")[83];
        assert_eq!(event(None), 0);
        assert_eq!(event(Some(AnnounceEvent::Completed)), 1);
        assert_eq!(event(Some(AnnounceEvent::Stopped)), 3);
    }

    #[test]
    fn a_path_goes_along_in_parts() {
        let bytes = announce(9, 7, &request(None), 0, "/announce?x=1");
        assert_eq!(bytes[98..], *b"\x02\x0d/announce?x=1");
        let long = "a".repeat(600);
        let bytes = announce(9, 7, &request(None), 0, &long);
        assert_eq!((bytes[98], bytes[99], bytes[355], bytes[356]), (2, 255, 2, 255));
        assert_eq!(bytes.len(), 98 + 600 + 3 * 2);
        assert!(announce(9, 7, &request(None), 0, &"a".repeat(9999)).len() < 1200);
    }

    #[test]
    fn replies() {
        let read = |bytes: &[u8]| parse(bytes, 7, Family::V4);
        let connected = [0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 2];
        assert_eq!(read(&connected), Ok(Reply::Connected((1 << 56) | 2)));
        assert_eq!(read(&connected[..15]), Err(ReplyError::Short(15)));
        assert_eq!(parse(&connected, 8, Family::V4), Err(ReplyError::Transaction));
        let mut peers = vec![0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 2];
        peers.extend([10, 0, 0, 1, 0x1a, 0xe1]);
        let Ok(Reply::Peers(reply)) = read(&peers) else { panic!("peers") };
        assert_eq!((reply.interval, reply.incomplete, reply.complete), (60, 1, 2));
        assert_eq!(reply.peers[0].address, "10.0.0.1:6881".parse().unwrap());
        assert_eq!(parse(&peers, 7, Family::V6), Err(ReplyError::Peers(6)));
        assert_eq!(read(&peers[..25]), Err(ReplyError::Peers(5)));
        assert_eq!(read(b"\0\0\0\x03\0\0\0\x07no\x1b way\0"), Ok(Reply::Refused("no way".into())));
        assert_eq!(read(&[0, 0, 0, 9, 0, 0, 0, 7]), Err(ReplyError::Action(9)));
    }

    #[test]
    fn peers_of_ipv6() {
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 2];
        bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80]);
        let Ok(Reply::Peers(reply)) = parse(&bytes, 7, Family::V6) else { panic!("peers") };
        assert_eq!(reply.peers[0].address, "[fd00::1]:80".parse().unwrap());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100), id in 0u32..2) {
            let _ = (parse(&bytes, id, Family::V4), parse(&bytes, id, Family::V6));
        }
    }
}
