//! One connection: request after request until somebody has enough.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::library::{Library, Opened, Refusal};
use super::range::{Selection, select};
use super::request::{self, HeadError, MAX_HEAD, Request};
use super::response::{Head, matches_none};
use super::target::{self, Target};
use super::{Counters, HttpConfig, MoreMetrics, transfer};

/// What is read and thrown away after an error, so that the client sees the answer and not a reset.
const MAX_DRAIN: usize = 64 << 10;

/// Time for a refusal and the drain after it.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) config: Arc<HttpConfig>,
    pub(super) library: Arc<Library>,
    pub(super) counters: Arc<Counters>,
    pub(super) more_metrics: MoreMetrics,
}

/// What becomes of the connection after an answer.
type KeepAlive = bool;

impl Connection {
    /// Answers requests until the client leaves, a limit is reached, or `stop` says so.
    pub(super) async fn serve(mut self, stop: CancellationToken) {
        self.counters.connected();
        // A head and the file after it are two writes: the first must not wait for the second.
        let _ = self.stream.set_nodelay(true);
        let mut buffer = Vec::with_capacity(1024);
        loop {
            let next = tokio::select! {
                next = self.next_request(&mut buffer) => next,
                () = stop.cancelled() => return,
            };
            let keep_alive = match next {
                Ok(None) => return,
                Ok(Some(request)) => self.answer(&request, !stop.is_cancelled()).await,
                Err(error) => self.reject(error).await.map(|()| false),
            };
            match keep_alive {
                Ok(true) => {}
                Ok(false) => return self.close().await,
                Err(e) => {
                    tracing::debug!(peer = %self.peer, err = %e, "connection ended");
                    return;
                }
            }
        }
    }

    /// Says that there are too many connections.
    pub(super) async fn refuse(mut self) {
        self.counters.refused();
        let body = "too many connections at this moment; try again\n";
        let head = Head::new(503, Some(body.len() as u64)).with("Retry-After", 2).finish(false);
        let told = async {
            self.stream.write_all(&head).await?;
            self.stream.write_all(body.as_bytes()).await
        };
        if let Ok(Ok(())) = timeout(REFUSE_TIMEOUT, told).await {
            self.close().await;
        }
    }

    /// The next head. `None`: the client left or stayed silent, which is its right.
    async fn next_request(
        &mut self,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Request>, RequestError> {
        let idle = Instant::now() + self.config.idle_timeout;
        let mut deadline = idle;
        loop {
            if let Some((request, used)) = request::parse(buffer).map_err(RequestError::Head)? {
                buffer.drain(..used);
                return Ok(Some(request));
            }
            if !buffer.is_empty() && deadline == idle {
                deadline = Instant::now() + self.config.head_timeout;
            }
            let mut chunk = [0; 2048];
            let room = chunk.len().min(MAX_HEAD.saturating_sub(buffer.len()).max(1));
            match timeout_at(deadline, self.stream.read(&mut chunk[..room])).await {
                Ok(Ok(0) | Err(_)) => return Ok(None),
                Ok(Ok(count)) => buffer.extend_from_slice(&chunk[..count]),
                Err(_) if buffer.is_empty() => return Ok(None),
                Err(_) => return Err(RequestError::Slow),
            }
        }
    }

    async fn answer(&mut self, request: &Request, may_stay: bool) -> io::Result<KeepAlive> {
        let stay = request.keep_alive && may_stay;
        let Some(target) = target::parse(&request.target) else {
            return self.plain(request, 404, "no such file\n", stay).await;
        };
        match target {
            Target::Health => return self.plain(request, 200, "ok\n", stay).await,
            Target::Metrics => {
                let text = self.counters.to_metrics() + &(self.more_metrics)();
                return self.plain(request, 200, &text, stay).await;
            }
            Target::Revision { .. } | Target::Channel { .. } => {}
        }
        let library = Arc::clone(&self.library);
        let opened = tokio::task::spawn_blocking(move || library.open(&target)).await;
        match opened.map_err(io::Error::other)? {
            Ok(opened) => self.file(request, &opened, stay).await,
            Err(Refusal::NotFound) => self.plain(request, 404, "no such file\n", stay).await,
            Err(Refusal::NotHere) => {
                let text = "this host does not serve the image over HTTP\n";
                self.plain(request, 403, text, stay).await
            }
            Err(Refusal::Broken(cause)) => {
                tracing::error!(path = request.target, err = cause, "cannot serve a file");
                self.plain(request, 500, "the revision is damaged; see the log\n", stay).await
            }
        }
    }

    async fn file(
        &mut self,
        request: &Request,
        opened: &Opened,
        stay: bool,
    ) -> io::Result<KeepAlive> {
        let Opened { file, len, etag, content_type, cache_control, counter } = opened;
        let common = |head: Head| {
            head.with("ETag", etag)
                .with("Cache-Control", cache_control)
                .with("Accept-Ranges", "bytes")
        };
        if request.if_none_match.as_deref().is_some_and(|header| matches_none(header, etag)) {
            self.write(&common(Head::new(304, None)).finish(stay)).await?;
            return Ok(stay);
        }
        // If-Range with another tag, or with a date (which this server never gave): the whole file.
        let same = request.if_range.as_deref().is_none_or(|tag| tag == etag);
        let selection = match request.range.as_deref() {
            Some(range) if same => select(range, *len),
            _ => Selection::Whole,
        };
        let (head, part) = match selection {
            Selection::Whole => (Head::new(200, Some(*len)), 0..*len),
            Selection::Part(part) => {
                let shown = format!("bytes {}-{}/{len}", part.start, part.end - 1);
                let head = Head::new(206, Some(part.end - part.start));
                (head.with("Content-Range", shown), part)
            }
            Selection::Unsatisfiable => {
                self.counters.failed();
                let head = Head::new(416, Some(0)).with("Content-Range", format!("bytes */{len}"));
                self.write(&common(head).finish(stay)).await?;
                return Ok(stay);
            }
        };
        self.counters.requested(*counter);
        self.write(&common(head).with("Content-Type", content_type).finish(stay)).await?;
        if !request.head_only {
            let counters = Arc::clone(&self.counters);
            let count = |bytes| counters.sent(*counter, bytes);
            transfer::send(&self.stream, file, part, self.config.write_timeout, count).await?;
        }
        Ok(stay)
    }

    async fn plain(
        &mut self,
        request: &Request,
        status: u16,
        text: &str,
        stay: bool,
    ) -> io::Result<KeepAlive> {
        if status >= 400 {
            self.counters.failed();
        }
        let mut bytes = Head::new(status, Some(text.len() as u64))
            .with("Content-Type", "text/plain; charset=utf-8")
            .finish(stay);
        if !request.head_only {
            bytes.extend_from_slice(text.as_bytes());
        }
        self.write(&bytes).await?;
        Ok(stay)
    }

    /// Answers what is no request; the connection ends with it.
    async fn reject(&mut self, error: RequestError) -> io::Result<()> {
        self.counters.failed();
        let (status, text) = match error {
            RequestError::Head(HeadError::Malformed) => (400, "this is no HTTP/1.1 request\n"),
            RequestError::Head(HeadError::Method) => (405, "only GET and HEAD are served\n"),
            RequestError::Head(HeadError::Body) => (413, "a request has no body here\n"),
            RequestError::Head(HeadError::TooLarge) => (431, "the request is too large\n"),
            RequestError::Slow => (408, "the request took too long\n"),
        };
        let mut head = Head::new(status, Some(text.len() as u64));
        if status == 405 {
            head = head.with("Allow", "GET, HEAD");
        }
        let mut bytes = head.finish(false);
        bytes.extend_from_slice(text.as_bytes());
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(self.config.write_timeout, self.stream.write_all(bytes))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))?
    }

    /// Closes in a way that lets the client read the last answer: data that arrives after close(2)
    /// would make the kernel send a reset, which throws the answer away.
    async fn close(mut self) {
        let drain = async {
            self.stream.shutdown().await?;
            let mut buf = [0; 4096];
            let mut drained = 0;
            while drained < MAX_DRAIN {
                match self.stream.read(&mut buf).await? {
                    0 => break,
                    count => drained += count,
                }
            }
            io::Result::Ok(())
        };
        // Whatever comes of it, the connection is over.
        let _ = timeout(REFUSE_TIMEOUT, drain).await;
    }
}

/// What came was no request.
#[derive(Debug)]
enum RequestError {
    /// The head is wrong.
    Head(HeadError),
    /// The head did not come in time.
    Slow,
}
