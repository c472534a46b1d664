//! Announces to a UDP tracker (BEP 15, with the path as in BEP 41).
//!
//! A request goes out again when nothing comes back. BEP 15 waits 15·2ⁿ seconds; a node that boots
//! cannot, so a fetch waits 1, 2, 4 and 8 seconds, and a seeder 15 and 30. The steps beyond that
//! are the announcer's own growing pauses.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use proto::announce::{AnnouncePeers, AnnounceRequest, failed};
use proto::event::{Stall, StallCause};
use proto::udp_tracker::{self as codec, Family, MAX_REPLY_LEN, Reply};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::stall;
use crate::log;

/// Waits for an answer, one after the other.
pub(crate) const HURRIED: &[Duration] = &[secs(1), secs(2), secs(4), secs(8)];
pub(crate) const PATIENT: &[Duration] = &[secs(15), secs(30)];

/// A client may use a connection id for this long.
const CONNECTION_AGE: Duration = secs(60);

/// For the name of the tracker.
const RESOLVE: Duration = secs(5);

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What is kept about one tracker between announces.
#[derive(Debug)]
pub(crate) struct UdpTracker {
    url: String,
    /// `host:port`
    authority: String,
    /// Path and query.
    path: String,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: UdpSocket,
    family: Family,
    address: SocketAddr,
    id: u64,
    since: Instant,
}

impl UdpTracker {
    /// A tracker, when the URL is one of UDP; `Err` when it is not usable.
    pub(crate) fn of(url: &str) -> Option<Result<Self, Stall>> {
        let rest = url.strip_prefix("udp://")?;
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let port = authority.rsplit_once(':').map(|(_, port)| port.parse().unwrap_or(0u16));
        if port.is_none_or(|port| port == 0) {
            return Some(Err(Stall {
                cause: StallCause::TrackerRefuses,
                detail: format!("announce to {url}: it is not of the form udp://host:port/path"),
            }));
        }
        let (url, authority, path) = (url.to_owned(), authority.to_owned(), path.to_owned());
        Some(Ok(Self { url, authority, path, connection: None }))
    }

    /// Announces; `waits` says how often and for how long an answer is waited for.
    pub(crate) async fn announce(
        &mut self,
        request: &AnnounceRequest,
        key: u32,
        waits: &[Duration],
    ) -> Result<AnnouncePeers, Stall> {
        let path = self.path_with(&request.failed);
        loop {
            let known = self.connection.take().filter(|c| c.since.elapsed() < CONNECTION_AGE);
            let (connection, known) = match known {
                Some(connection) => (connection, true),
                None => (self.open(waits).await?, false),
            };
            // a tracker that was started again does not know the id, and says so or nothing
            let waits = if known { &waits[..waits.len().min(1)] } else { waits };
            let encode = |id| codec::announce(connection.id, id, request, key, &path);
            match self.ask(&connection, waits, &encode).await {
                Ok(Reply::Peers(reply)) => {
                    self.connection = Some(connection);
                    return Ok(reply);
                }
                other if known => {
                    log::debug!(url = %self.url, ?other, "connecting to the tracker anew");
                }
                Ok(Reply::Refused(text)) => return Err(self.refused(&text)),
                Ok(Reply::Connected(_)) => return Err(self.refused("(no answer to an announce)")),
                Err(stall) => return Err(stall),
            }
        }
    }

    /// The path with a report of failed dials, as an HTTP announce has it in its query.
    fn path_with(&self, unreached: &[SocketAddr]) -> String {
        let report = failed::to_query(unreached);
        let at = usize::from(!self.path.contains('?') && !report.is_empty());
        format!("{}{}{}", self.path, &"?"[..at], &report[at..])
    }

    /// Connects to the first address of the tracker that answers.
    async fn open(&self, waits: &[Duration]) -> Result<Connection, Stall> {
        let mut last = self.stall(StallCause::NameResolution, "the name has no address");
        for address in self.resolve().await? {
            let (any, family) = match address {
                SocketAddr::V4(_) => (SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), Family::V4),
                SocketAddr::V6(_) => (SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), Family::V6),
            };
            let open = async {
                let socket = UdpSocket::bind(any).await?;
                // from here on the kernel drops what comes from elsewhere
                socket.connect(address).await?;
                Ok(socket)
            };
            let socket = match open.await {
                Ok(socket) => socket,
                Err(error) => {
                    last = self.io(address, &error);
                    continue;
                }
            };
            let since = Instant::now();
            let connection = Connection { socket, family, address, id: 0, since };
            match self.ask(&connection, waits, &codec::connect).await {
                Ok(Reply::Connected(id)) => {
                    return Ok(Connection { id, since: Instant::now(), ..connection });
                }
                Ok(Reply::Refused(text)) => last = self.refused(&text),
                Ok(Reply::Peers(_)) => last = self.refused("(no answer to a connect)"),
                Err(stall) => last = stall,
            }
        }
        Err(last)
    }

    /// Sends a request until it is answered; what is no answer to it is dropped.
    async fn ask(
        &self,
        connection: &Connection,
        waits: &[Duration],
        encode: &(dyn Fn(u32) -> Vec<u8> + Sync),
    ) -> Result<Reply, Stall> {
        let Connection { socket, family, address, .. } = connection;
        let mut buffer = vec![0; MAX_REPLY_LEN];
        for wait in waits {
            // a new one each time: an answer tells which request it is for
            let transaction = fastrand::u32(..);
            socket.send(&encode(transaction)).await.map_err(|e| self.io(*address, &e))?;
            let by = Instant::now() + *wait;
            while let Ok(received) = timeout_at(by, socket.recv(&mut buffer)).await {
                let length = received.map_err(|e| self.io(*address, &e))?;
                match codec::parse(&buffer[..length], transaction, *family) {
                    Ok(reply) => return Ok(reply),
                    Err(error) => log::debug!(url = %self.url, %error, "datagram ignored"),
                }
            }
        }
        let waited: Duration = waits.iter().sum();
        let text = format!("{address} did not answer within {waited:?}");
        Err(self.stall(StallCause::TrackerUnreachable, &text))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, Stall> {
        let unknown = |what: String| self.stall(StallCause::NameResolution, &what);
        let found = timeout(RESOLVE, tokio::net::lookup_host(&self.authority)).await;
        match found {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(error)) => Err(unknown(format!("cannot resolve the host name: {error}"))),
            Err(_) => Err(unknown(format!("cannot resolve the host name within {RESOLVE:?}"))),
        }
    }

    fn stall(&self, cause: StallCause, detail: &str) -> Stall {
        Stall { cause, detail: format!("announce to {}: {detail}", self.url) }
    }

    fn refused(&self, text: &str) -> Stall {
        self.stall(StallCause::TrackerRefuses, &format!("the tracker says: {text}"))
    }

    fn io(&self, address: SocketAddr, error: &io::Error) -> Stall {
        let cause = if stall::no_route(error) {
            StallCause::NoRoute
        } else {
            StallCause::TrackerUnreachable
        };
        self.stall(cause, &format!("{address}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, authority, path) in [
            ("udp://h:1", "h:1", ""),
            ("udp://10.0.0.1:6969/announce?x=y", "10.0.0.1:6969", "/announce?x=y"),
            ("udp://[fd00::1]:6969/announce", "[fd00::1]:6969", "/announce"),
            ("udp://h:5?x", "h:5", "?x"),
        ] {
            let tracker = UdpTracker::of(url).unwrap().unwrap();
            assert_eq!((&*tracker.authority, &*tracker.path), (authority, path), "{url}");
        }
        let dead = [SocketAddr::from(([10, 0, 0, 1], 80))];
        for (url, path) in [
            ("udp://h:1", "?failed=%0A%00%00%01%00P"),
            ("udp://h:1/a?x=1", "/a?x=1&failed=%0A%00%00%01%00P"),
        ] {
            let tracker = UdpTracker::of(url).unwrap().unwrap();
            assert_eq!(tracker.path_with(&dead), path);
            assert_eq!(tracker.path_with(&[]), tracker.path);
        }
        assert!(UdpTracker::of("http://h:1/announce").is_none());
        for bad in ["udp://", "udp://h", "udp://h/announce", "udp://h:0/", "udp://h:x/"] {
            let stall = UdpTracker::of(bad).unwrap().unwrap_err();
            assert!(stall.detail.contains("udp://host:port"), "{}", stall.detail);
        }
    }
}
