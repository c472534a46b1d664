//! Local service discovery (BEP 14): peers of one network segment find each other by multicast.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::hash::InfoHash;

/// Port of both groups.
pub const PORT: u16 = 6771;

/// The IPv4 group.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);

/// The IPv6 group, of site-local scope.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);

/// Longest announcement, in bytes: one datagram on every link.
pub const MAX_LEN: usize = 1400;

/// Most info-hashes in one announcement: what fits beside the other lines.
pub const MAX_HASHES: usize = 20;

/// One announcement: "I have, or fetch, these torrents, and listen on this port".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// TCP port on which the sender listens; never 0.
    pub port: u16,
    /// Torrents, at most [`MAX_HASHES`]; never empty.
    pub info_hashes: Vec<InfoHash>,
    /// By which a sender knows its own announcements.
    pub cookie: Option<String>,
}

/// A datagram that is no announcement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LsdError {
    /// Longer than [`MAX_LEN`], or no text.
    #[error("not a text of at most {MAX_LEN} bytes")]
    Form,
    /// The first line is another one.
    #[error("not a BT-SEARCH request")]
    Request,
    /// No usable port.
    #[error("no usable Port line")]
    Port,
    /// No usable info-hash, or too many.
    #[error("no usable Infohash line, or more than {MAX_HASHES}")]
    InfoHash,
}

impl Announcement {
    /// Reads a datagram. Header names are case-insensitive, unknown ones are ignored.
    ///
    /// # Errors
    /// [`LsdError`].
    pub fn parse(datagram: &[u8]) -> Result<Self, LsdError> {
        if datagram.len() > MAX_LEN {
            return Err(LsdError::Form);
        }
        let text = std::str::from_utf8(datagram).map_err(|_| LsdError::Form)?;
        let mut lines = text.split("\r\n");
        if lines.next().map(str::trim_end) != Some("BT-SEARCH * HTTP/1.1") {
            return Err(LsdError::Request);
        }
        let (mut port, mut info_hashes, mut cookie) = (None, Vec::new(), None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("port") {
                port = value.parse().ok().filter(|port| *port != 0u16);
            } else if name.eq_ignore_ascii_case("infohash") {
                info_hashes.push(value.parse().map_err(|_| LsdError::InfoHash)?);
            } else if name.eq_ignore_ascii_case("cookie") {
                cookie = Some(value.to_owned());
            }
        }
        if !(1..=MAX_HASHES).contains(&info_hashes.len()) {
            return Err(LsdError::InfoHash);
        }
        Ok(Self { port: port.ok_or(LsdError::Port)?, info_hashes, cookie })
    }

    /// Writes the datagram for a group; the group only appears as `Host`.
    #[must_use]
    pub fn encode(&self, group: SocketAddr) -> String {
        let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n", self.port);
        for hash in self.info_hashes.iter().take(MAX_HASHES) {
            text.push_str(&format!("Infohash: {hash}\r\n"));
        }
        if let Some(cookie) = &self.cookie {
            text.push_str(&format!("cookie: {cookie}\r\n"));
        }
        text + "\r\n\r\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for (hashes, cookie) in [(1, None), (20, Some("0123456789abcdef".to_owned()))] {
            let info_hashes: Vec<_> = (0..hashes).map(|n| InfoHash([n; 20])).collect();
            assert!(info_hashes.len() <= MAX_HASHES);
            let sent = Announcement { port: 6881, info_hashes, cookie };
            for group in [SocketAddr::from((GROUP_V4, PORT)), SocketAddr::from((GROUP_V6, PORT))] {
                let text = sent.encode(group);
                assert!(text.len() <= MAX_LEN, "{}", text.len());
                assert_eq!(Announcement::parse(text.as_bytes()).unwrap(), sent);
            }
        }
    }

    #[test]
    fn reads_what_other_programs_send() {
        let text = b"BT-SEARCH * HTTP/1.1\r\nHOST: 239.192.152.143:6771\r\nPORT: 51413\r\n\
            INFOHASH: 00112233445566778899AABBCCDDEEFF00112233\r\nX-New: 1\r\n\r\n\r\n";
        let read = Announcement::parse(text).unwrap();
        assert_eq!((read.port, read.info_hashes.len(), read.cookie), (51413, 1, None));
    }

    #[test]
    fn refusals() {
        let line = "Infohash: 00112233445566778899aabbccddeeff00112233\r\n";
        for (text, error) in [
            (String::new(), LsdError::Request),
            ("M-SEARCH * HTTP/1.1\r\n".to_owned(), LsdError::Request),
            (format!("BT-SEARCH * HTTP/1.1\r\n{line}"), LsdError::Port),
            (format!("BT-SEARCH * HTTP/1.1\r\nPort: 0\r\n{line}"), LsdError::Port),
            ("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n".to_owned(), LsdError::InfoHash),
            ("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: 12\r\n".to_owned(), LsdError::InfoHash),
            (format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n{}", line.repeat(21)), LsdError::InfoHash),
            ("x".repeat(MAX_LEN + 1), LsdError::Form),
        ] {
            assert_eq!(Announcement::parse(text.as_bytes()), Err(error), "{text}");
        }
    }
}
