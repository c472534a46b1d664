//! A plain blocking HTTP GET, for questions to a tracker or seeder in a lab.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::LabError;
use crate::node::Node;

/// Largest answer that is read.
const LIMIT: u64 = 64 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks `to` for `path` from a node of the lab, and reads the answer within `limit` per step.
///
/// # Errors
/// [`LabError::Connect`] when there is no connection or no answer that can be read.
pub fn get(node: &Node, to: SocketAddr, path: &str, limit: Duration) -> Result<Reply, LabError> {
    let stream = node.connect(to, limit)?;
    exchange(stream, to, path, limit).map_err(|source| LabError::Connect {
        node: node.name().to_owned(),
        to: format!("{to}{path}"),
        source,
    })
}

fn exchange(
    mut stream: TcpStream,
    to: SocketAddr,
    path: &str,
    limit: Duration,
) -> io::Result<Reply> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    // 1.0: the answer ends with the connection and is never chunked
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LIMIT).read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.lines().next()?.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, body: answer.get(end + 4..)?.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let reply = parse(b"HTTP/1.0 404 Not Found\r\nX: y\r\n\r\nno\r\n\r\nmore").unwrap();
        assert_eq!(reply.status, 404);
        assert_eq!(reply.body, b"no\r\n\r\nmore");
        assert!(parse(b"hello").is_none());
    }
}
