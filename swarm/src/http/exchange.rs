//! One request and its answer on a connection of its own.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::message::{Body, Head, MAX_HEAD, Part, ProtocolError, RequestHead};
use super::url::Target;
use super::{AGENT, HttpError, Limits, Query, Sink};
use crate::log;

/// Bytes taken from the connection at once.
const READ: usize = 32 * 1024;

/// A connection to the server, and what came over it and is not used yet.
pub(super) struct Exchange<'a> {
    target: &'a Target,
    limits: Limits,
    deadline: Instant,
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that are used.
    used: usize,
}

impl<'a> Exchange<'a> {
    /// Connects.
    pub(super) async fn start(
        target: &'a Target,
        limits: Limits,
        deadline: Instant,
    ) -> Result<Self, HttpError> {
        let stream = connect(target, &limits).await?;
        Ok(Self { target, limits, deadline, stream, buffer: Vec::with_capacity(READ), used: 0 })
    }

    /// Sends the request. That the server does not take all of it is no failure yet: it may have
    /// refused it, and its answer says why.
    pub(super) async fn send(&mut self, query: &Query<'_>) -> Result<(), HttpError> {
        let mut head = RequestHead::new(query.method, self.target.path())
            .field("host", self.target.authority())
            .field("user-agent", AGENT)
            // nothing else is asked on it, and a server that knows that keeps nothing for it
            .field("connection", "close");
        if let Some((first, last)) = query.range {
            head = head.field("range", format_args!("bytes={first}-{last}"));
        }
        if let Some(body) = &query.body {
            head =
                head.field("content-type", "application/json").field("content-length", body.len());
        }
        let mut request = head.finish();
        request.extend_from_slice(query.body.as_deref().unwrap_or_default());
        let sent = timeout_at(self.patience(), self.stream.write_all(&request)).await;
        if let Err(error) = sent.map_err(|_| self.too_slow("answer"))? {
            log::debug!(host = %self.target.authority(), %error, "request cut off");
        }
        Ok(())
    }

    /// The head of the answer, after interim ones.
    pub(super) async fn head(&mut self) -> Result<Head, HttpError> {
        let by = self.patience();
        let mut interim = 0;
        loop {
            match Head::parse(&self.buffer).map_err(|source| self.protocol(source))? {
                Some((head, length)) => {
                    self.buffer.drain(..length);
                    if !head.is_interim() {
                        return Ok(head);
                    }
                    interim += length;
                    if interim > MAX_HEAD {
                        return Err(self.protocol(ProtocolError::LongHead));
                    }
                }
                None if self.read(by, "answer").await? == 0 => {
                    return Err(self.protocol(ProtocolError::Truncated));
                }
                None => {}
            }
        }
    }

    /// Hands the body over as it comes, `max` bytes at most.
    pub(super) async fn body(
        &mut self,
        mut body: Body,
        max: u64,
        sink: Sink<'_>,
    ) -> Result<(), HttpError> {
        let url = self.target.to_string();
        let mut left = max;
        loop {
            if body.at_least() > left {
                return Err(HttpError::TooLarge { url, limit: max });
            }
            let Some(data) = self.part(&mut body).await? else { return Ok(()) };
            let Some(rest) = left.checked_sub(data.len() as u64) else {
                return Err(HttpError::TooLarge { url, limit: max });
            };
            left = rest;
            if let Err(source) = sink(data) {
                return Err(HttpError::Sink { url, source });
            }
        }
    }

    /// The first `max` bytes of the body, or what can be had of them.
    pub(super) async fn beginning(&mut self, mut body: Body, max: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while let Ok(Some(data)) = self.part(&mut body).await {
            text.extend_from_slice(&data[..data.len().min(max - text.len())]);
            if text.len() == max {
                break;
            }
        }
        text
    }

    /// The next part of the body, empty after a chunk's head; `None` at the end.
    async fn part(&mut self, body: &mut Body) -> Result<Option<&[u8]>, HttpError> {
        loop {
            self.buffer.drain(..std::mem::take(&mut self.used));
            match body.take(&self.buffer).map_err(|source| self.protocol(source))? {
                Part::Data(n) => {
                    self.used = n;
                    return Ok(Some(&self.buffer[..n]));
                }
                Part::Frame(n) => {
                    self.used = n;
                    return Ok(Some(&[]));
                }
                Part::Complete => return Ok(None),
                Part::More => {
                    if self.read(self.patience(), "send more").await? == 0 {
                        body.closed().map_err(|source| self.protocol(source))?;
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// When the server has been silent too long from now on.
    fn patience(&self) -> Instant {
        self.deadline.min(Instant::now() + self.limits.idle)
    }

    /// Appends what the server sends to the buffer; 0 when it has closed the connection.
    async fn read(&mut self, by: Instant, what: &'static str) -> Result<usize, HttpError> {
        self.buffer.reserve(1);
        match timeout_at(by, self.stream.read_buf(&mut self.buffer)).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(source)) => Err(HttpError::Broken { host: self.target.authority(), source }),
            Err(_) => Err(self.too_slow(what)),
        }
    }

    fn protocol(&self, source: ProtocolError) -> HttpError {
        HttpError::Protocol { host: self.target.authority(), source }
    }

    fn too_slow(&self, what: &'static str) -> HttpError {
        HttpError::Timeout { host: self.target.authority(), what, after: self.limits.idle }
    }
}

async fn connect(target: &Target, limits: &Limits) -> Result<TcpStream, HttpError> {
    let host = target.authority();
    let too_slow = |what| HttpError::Timeout { host: host.clone(), what, after: limits.connect };
    let lookup = tokio::net::lookup_host((target.host(), target.port()));
    let dns = |source| HttpError::Dns { host: target.host().to_owned(), source };
    let addresses: Vec<SocketAddr> = timeout(limits.connect, lookup)
        .await
        .map_err(|_| too_slow("resolve"))?
        .map_err(dns)?
        .collect();
    let mut failure = dns(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in addresses {
        match timeout(limits.connect, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // a failure only costs latency
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(source)) => failure = HttpError::Connect { host: host.clone(), address, source },
            Err(_) => failure = too_slow("accept a connection"),
        }
    }
    Err(failure)
}
