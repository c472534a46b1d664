//! Announces as fast as a tracker takes them, or at a given rate.
//!
//! Threads with blocking sockets. As fast as possible: each sends a batch, then reads its answers, so that
//! the tracker always has work. At a rate: each has its timetable, and a late answer counts from the moment
//! at which its question was due.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use proto::announce::AnnounceRequest;
use proto::hash::{InfoHash, PeerId};
use proto::udp_tracker::{self as udp, Family, Reply};
use serde::Serialize;

/// Threads that send.
const SENDERS: usize = 2;

/// Questions under way per thread.
const WINDOW: usize = 32;

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// How announces travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// HTTP, one connection for many.
    KeepAlive,
    /// HTTP, one connection for each.
    Connection,
    Udp,
}

impl Way {
    /// Its name in a table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::KeepAlive => "HTTP, keep-alive",
            Self::Connection => "HTTP, a connection each",
            Self::Udp => "UDP",
        }
    }
}

/// Who announces: `peers` in `torrents`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) torrents: usize,
    pub(crate) peers: usize,
}

impl Crowd {
    pub(crate) fn info_hash(number: usize) -> InfoHash {
        let mut hash = [0x77; 20];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        InfoHash(hash)
    }

    /// All come from one address, so a peer is its port.
    fn request(&self, peer: usize) -> AnnounceRequest {
        let mut id = *b"-XX0001-000000000000";
        id[12..].copy_from_slice(&peer.to_be_bytes());
        let port = u16::try_from(1 + peer / self.torrents).unwrap_or(u16::MAX);
        AnnounceRequest {
            // a tenth is complete
            left: u64::from(!peer.is_multiple_of(10)),
            numwant: Some(30),
            ..AnnounceRequest::new(Self::info_hash(peer % self.torrents), PeerId(id), port)
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) answers: usize,
    pub(crate) lost: usize,
    /// Peers in all answers together.
    pub(crate) peers: usize,
}

/// Every peer announces, in order, `rounds` times or until `end`, whichever is first.
pub(crate) fn flat_out(
    tracker: SocketAddr,
    way: Way,
    crowd: Crowd,
    until: Until,
) -> anyhow::Result<Tally> {
    let next = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let work = || -> anyhow::Result<Tally> {
        let mut line = Line::open(tracker, way)?;
        let mut tally = Tally::default();
        while !over.load(Ordering::Relaxed) {
            let first = next.fetch_add(WINDOW, Ordering::Relaxed);
            match until {
                Until::Once if first >= crowd.peers => break,
                Until::Moment(end) if Instant::now() >= end => break,
                _ => {}
            }
            // a step that has no factor in common with the number: all peers, torrents mixed
            let peers = (first..first + WINDOW).map(|n| n.wrapping_mul(7_919) % crowd.peers);
            let requests: Vec<_> = peers.map(|peer| crowd.request(peer)).collect();
            line.exchange(&requests, &mut tally)?;
        }
        Ok(tally)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SENDERS).map(|_| scope.spawn(work)).collect();
        let mut sum = Tally::default();
        for thread in threads {
            let tally = thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))?;
            let tally = tally.inspect_err(|_| over.store(true, Ordering::Relaxed))?;
            sum.answers += tally.answers;
            sum.lost += tally.lost;
            sum.peers += tally.peers;
        }
        Ok(sum)
    })
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// Everybody has announced.
    Once,
    Moment(Instant),
}

/// A sender's connections.
enum Line {
    KeepAlive { tracker: SocketAddr, streams: Vec<TcpStream> },
    Connection { tracker: SocketAddr },
    Udp { socket: UdpSocket, id: u64 },
}

impl Line {
    fn open(tracker: SocketAddr, way: Way) -> anyhow::Result<Self> {
        Ok(match way {
            Way::KeepAlive => {
                let streams = (0..WINDOW).map(|_| connect(tracker)).collect::<Result<_, _>>();
                Self::KeepAlive { tracker, streams: streams.context("cannot connect")? }
            }
            Way::Connection => Self::Connection { tracker },
            Way::Udp => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.connect(tracker)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.send(&udp::connect(1))?;
                let mut buffer = [0; 2048];
                let length = socket.recv(&mut buffer).context("no answer to a connect")?;
                match udp::parse(&buffer[..length], 1, Family::V4)? {
                    Reply::Connected(id) => Self::Udp { socket, id },
                    other => bail!("no connection id: {other:?}"),
                }
            }
        })
    }

    fn exchange(&mut self, requests: &[AnnounceRequest], tally: &mut Tally) -> anyhow::Result<()> {
        match self {
            Self::KeepAlive { tracker, streams } => {
                for (stream, request) in streams.iter_mut().zip(requests) {
                    if ask(stream, request, "keep-alive").is_err() {
                        *stream = connect(*tracker)?;
                        ask(stream, request, "keep-alive")?;
                    }
                }
                for (stream, request) in streams.iter_mut().zip(requests) {
                    let first = answer(stream, false);
                    // it may close a connection after the look below
                    let body = first.or_else(|_| {
                        *stream = connect(*tracker)?;
                        ask(stream, request, "keep-alive")?;
                        answer(stream, false)
                    })?;
                    tally.take(body)?;
                    if peek_end(stream) {
                        // it does not keep connections
                        *stream = connect(*tracker)?;
                    }
                }
            }
            Self::Connection { tracker } => {
                let mut streams = Vec::with_capacity(requests.len());
                for request in requests {
                    let mut stream = connect(*tracker)?;
                    ask(&mut stream, request, "close")?;
                    streams.push(stream);
                }
                for mut stream in streams {
                    tally.take(answer(&mut stream, true)?)?;
                }
            }
            Self::Udp { socket, id } => {
                for (at, request) in (0..).zip(requests) {
                    socket.send(&udp::announce(*id, at, request, 0, ""))?;
                }
                let mut buffer = [0; 2048];
                for _ in requests {
                    match socket.recv(&mut buffer) {
                        Ok(length) => {
                            ensure!(length >= 20 && buffer[3] == 1, "the tracker refuses");
                            tally.answers += 1;
                            tally.peers += (length - 20) / 6;
                        }
                        Err(_) => tally.lost += 1,
                    }
                }
            }
        }
        Ok(())
    }
}

impl Tally {
    fn take(&mut self, body: Vec<u8>) -> anyhow::Result<()> {
        use proto::announce::AnnounceResponse;
        match AnnounceResponse::parse(&body)? {
            AnnounceResponse::Peers(reply) => self.peers += reply.peers.len(),
            AnnounceResponse::Failure(reason) => bail!("the tracker refuses: {reason}"),
        }
        self.answers += 1;
        Ok(())
    }
}

pub(crate) fn connect(tracker: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(tracker)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream, request: &AnnounceRequest, connection: &str) -> io::Result<()> {
    let query = request.to_query();
    let text = format!(
        "GET /announce?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n"
    );
    stream.write_all(text.as_bytes())
}

/// The body of an answer; reads up to the end of the connection when that is the answer's end.
pub(crate) fn answer(stream: &mut TcpStream, to_end: bool) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).context("no answer")?;
        bytes.extend(&buffer[..length]);
        if let Some(body) = whole(&bytes, length == 0)?
            && (length == 0 || !to_end)
        {
            return Ok(body);
        }
        ensure!(length > 0, "the connection ended within an answer");
    }
}

/// The body, when it is all there; an error when it is no success.
fn whole(bytes: &[u8], ended: bool) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = bytes.split_at(end + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(
        status.starts_with('2'),
        "the tracker answers {status}: {}",
        String::from_utf8_lossy(body)
    );
    let length = head.split("content-length:").nth(1).and_then(|rest| rest.split("\r\n").next());
    Ok(match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => body.get(..length).map(<[u8]>::to_vec),
        None => ended.then(|| body.to_vec()),
    })
}

/// Whether the other side has closed.
fn peek_end(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let ended = matches!(stream.peek(&mut [0]), Ok(0));
    let _ = stream.set_nonblocking(false);
    ended
}

/// A question at a rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timetable {
    pub(crate) per_second: f64,
    pub(crate) threads: usize,
    pub(crate) length: Duration,
}

/// Asks by the timetable, each time on a connection of its own; the delays of all answers, in order of
/// length, in seconds. `question` is given a number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
pub(crate) fn at_a_rate(
    tracker: SocketAddr,
    table: Timetable,
    question: impl Fn(usize) -> Vec<u8> + Sync,
    check: impl Fn(Vec<u8>) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Vec<f64>> {
    let start = Instant::now() + Duration::from_millis(50);
    let total = (table.per_second * table.length.as_secs_f64()) as usize;
    let work = |thread: usize| -> anyhow::Result<Vec<f64>> {
        let mut delays = Vec::new();
        for number in (thread..total).step_by(table.threads) {
            let due = start + Duration::from_secs_f64(number as f64 / table.per_second);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut stream = connect(tracker).context("cannot connect")?;
            stream.write_all(&question(number))?;
            check(answer(&mut stream, true)?)?;
            delays.push(due.elapsed().as_secs_f64());
        }
        Ok(delays)
    };
    let mut all = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..table.threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??);
        }
        anyhow::Ok(all)
    })?;
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// That an announce was taken.
pub(crate) fn announced(body: Vec<u8>) -> anyhow::Result<()> {
    Tally::default().take(body)
}

/// An announce over HTTP, as a node of a crowd sends it.
pub(crate) fn node_announce(crowd: Crowd, number: usize) -> Vec<u8> {
    let query = crowd.request(number % crowd.peers).to_query();
    format!("GET /announce?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_in_what_came() {
        let body = |text: &str, ended| whole(text.as_bytes(), ended).unwrap();
        let refused = whole(b"HTTP/1.1 429 Too Many Requests\r\n\r\nslower", true).unwrap_err();
        assert!(refused.to_string().contains("429: slower"), "{refused}");
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(body(head, false), None);
        assert_eq!(body(&format!("{head}ab"), true), None);
        assert_eq!(body(&format!("{head}abc"), false), Some(b"abc".to_vec()));
    }

    #[test]
    fn everybody_is_a_peer_of_its_own() {
        let crowd = Crowd { torrents: 100, peers: 100_000 };
        let all: std::collections::BTreeSet<_> = (0..crowd.peers)
            .map(|n| n.wrapping_mul(7_919) % crowd.peers)
            .map(|peer| (crowd.request(peer).info_hash, crowd.request(peer).port))
            .collect();
        assert_eq!(all.len(), 100_000);
    }
}
