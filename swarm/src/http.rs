//! A small HTTP/1.1 client: announce, torrent, manifest, web seeds and events.
//!
//! Plain HTTP only: what is fetched is verified against a pinned digest, so transport security
//! would add a megabyte to the initrd and no trust. One connection per request; every step has a
//! deadline; bodies are bounded.

mod url;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, LOCATION, RANGE, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use url::Target;

/// What clients of Beeswarm call themselves.
const AGENT: &str = concat!("beeswarm/", env!("CARGO_PKG_VERSION"));

/// Bounds of one request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For name resolution and connection, per hop.
    pub connect: Duration,
    /// Longest silence of the server.
    pub idle: Duration,
    /// For everything together.
    pub total: Duration,
    /// Largest body, in bytes.
    pub max_body: u64,
    /// Most redirects followed.
    pub redirects: u8,
}

impl Default for Limits {
    /// For small answers: 5 s to connect, 10 s of silence, 30 s in all, 1 MiB, 5 redirects.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            total: Duration::from_secs(30),
            max_body: 1024 * 1024,
            redirects: 5,
        }
    }
}

/// A successful answer (status 200 to 299).
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// The URL that answered, after redirects.
    pub url: String,
    /// `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// The body; empty when it was streamed.
    pub body: Vec<u8>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not an `http://` URL.
    #[error("{url:?} is no usable address: {reason}")]
    Url {
        /// As given, cut to 200 characters.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The host name does not resolve.
    #[error("cannot resolve the host name {host}")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver says.
        #[source]
        source: io::Error,
    },
    /// No address of the host accepts a connection.
    #[error("cannot connect to {host} ({address})")]
    Connect {
        /// Name and port as in the URL.
        host: String,
        /// The address tried last.
        address: SocketAddr,
        /// The error there.
        #[source]
        source: io::Error,
    },
    /// A deadline passed.
    #[error("{host} did not {what} within {after:?}")]
    Timeout {
        /// Name and port as in the URL.
        host: String,
        /// `resolve`, `accept a connection`, `answer`, `send more`.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The server answers with an error.
    #[error("{url} answers with status {status}")]
    Status {
        /// The URL that answered.
        url: String,
        /// Status code.
        status: u16,
        /// The first 4 KiB of the body.
        body: Vec<u8>,
    },
    /// The body is larger than allowed.
    #[error("the answer of {url} is larger than {limit} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// More redirects than allowed.
    #[error("{url} redirects too often")]
    Redirects {
        /// The last URL.
        url: String,
    },
    /// The answer is not HTTP, or ends early.
    #[error("{host} does not answer in HTTP")]
    Protocol {
        /// Name and port as in the URL.
        host: String,
        /// What hyper says.
        #[source]
        source: hyper::Error,
    },
    /// The receiver of a streamed body gave up.
    #[error("cannot take the answer of {url}")]
    Sink {
        /// The URL.
        url: String,
        /// Its error.
        #[source]
        source: io::Error,
    },
}

/// Fetches `url`.
///
/// # Errors
/// [`HttpError`]; a status outside of 200 to 299 is [`HttpError::Status`].
pub async fn get(url: &str, limits: Limits) -> Result<Response, HttpError> {
    let mut body = Vec::new();
    let response = run(Query::get(url), limits, &mut |chunk| {
        body.extend_from_slice(chunk);
        Ok(())
    })
    .await?;
    Ok(Response { body, ..response })
}

/// Fetches `length` bytes from `offset` of `url`; the server must answer with exactly that part.
///
/// # Errors
/// [`HttpError::Status`] when it ignores the range (status 200), [`HttpError::TooLarge`] when it
/// sends more.
pub async fn get_range(
    url: &str,
    offset: u64,
    length: u64,
    limits: Limits,
) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::with_capacity(usize::try_from(length.min(limits.max_body)).unwrap_or(0));
    let last = offset + length.saturating_sub(1);
    let query = Query { range: Some((offset, last)), ..Query::get(url) };
    let limits = Limits { max_body: limits.max_body.min(length), ..limits };
    let response = run(query, limits, &mut |chunk| {
        body.extend_from_slice(chunk);
        Ok(())
    })
    .await?;
    if response.status != 206 {
        return Err(HttpError::Status {
            url: response.url,
            status: response.status,
            body: Vec::new(),
        });
    }
    Ok(body)
}

/// Fetches `url` and hands the body over piece by piece as it arrives.
///
/// # Errors
/// As [`get`], and [`HttpError::Sink`] when `sink` fails.
pub async fn stream(
    url: &str,
    limits: Limits,
    sink: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
) -> Result<Response, HttpError> {
    run(Query::get(url), limits, sink).await
}

/// Sends a JSON document.
///
/// # Errors
/// As [`get`].
pub async fn post_json(url: &str, body: Vec<u8>, limits: Limits) -> Result<Response, HttpError> {
    let mut answer = Vec::new();
    let query = Query { method: Method::POST, body: Some(body.into()), ..Query::get(url) };
    let response = run(query, limits, &mut |chunk| {
        answer.extend_from_slice(chunk);
        Ok(())
    })
    .await?;
    Ok(Response { body: answer, ..response })
}

struct Query<'a> {
    url: &'a str,
    method: Method,
    body: Option<Bytes>,
    range: Option<(u64, u64)>,
}

impl<'a> Query<'a> {
    fn get(url: &'a str) -> Self {
        Self { url, method: Method::GET, body: None, range: None }
    }
}

type Sink<'a> = &'a mut (dyn FnMut(&[u8]) -> io::Result<()> + Send);

async fn run(query: Query<'_>, limits: Limits, sink: Sink<'_>) -> Result<Response, HttpError> {
    let deadline = Instant::now() + limits.total;
    let mut target = Target::parse(query.url)?;
    for _ in 0..=limits.redirects {
        let (response, _connection) = exchange(&query, &target, &limits, deadline).await?;
        let status = response.status();
        if status.is_redirection()
            && let Some(location) = response.headers().get(LOCATION).and_then(|v| v.to_str().ok())
        {
            target = target.join(location)?;
            continue;
        }
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = Reader { target: &target, limits: &limits, deadline };
        if !status.is_success() {
            let mut text = Vec::new();
            // what could be read of the error page is enough
            let _ = body
                .read(response.into_body(), 4096, &mut |chunk| {
                    text.extend_from_slice(chunk);
                    Ok(())
                })
                .await;
            return Err(HttpError::Status {
                url: target.to_string(),
                status: status.as_u16(),
                body: text,
            });
        }
        body.read(response.into_body(), limits.max_body, sink).await?;
        return Ok(Response {
            status: status.as_u16(),
            url: target.to_string(),
            content_type,
            body: Vec::new(),
        });
    }
    Err(HttpError::Redirects { url: target.to_string() })
}

/// Ends the connection's task when the request is over.
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(
    query: &Query<'_>,
    target: &Target,
    limits: &Limits,
    deadline: Instant,
) -> Result<(hyper::Response<Incoming>, Connection), HttpError> {
    let host = target.authority();
    let stream = connect(target, limits).await?;
    let protocol = |source| HttpError::Protocol { host: host.clone(), source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(protocol)?;
    let connection = Connection(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "http connection ended");
        }
    }));
    let mut request = Request::builder()
        .method(query.method.clone())
        .uri(target.path())
        .header(HOST, &host)
        .header(USER_AGENT, AGENT);
    if let Some((first, last)) = query.range {
        request = request.header(RANGE, format!("bytes={first}-{last}"));
    }
    if query.body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let body = Full::new(query.body.clone().unwrap_or_default());
    let request = request.body(body).map_err(|_| target.error("it cannot be sent in a request"))?;
    let by = deadline.min(Instant::now() + limits.idle);
    let response = timeout_at(by, sender.send_request(request))
        .await
        .map_err(|_| HttpError::Timeout { host: host.clone(), what: "answer", after: limits.idle })?
        .map_err(protocol)?;
    Ok((response, connection))
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

struct Reader<'a> {
    target: &'a Target,
    limits: &'a Limits,
    deadline: Instant,
}

impl Reader<'_> {
    async fn read(&self, mut body: Incoming, max: u64, sink: Sink<'_>) -> Result<(), HttpError> {
        let too_large = || HttpError::TooLarge { url: self.target.to_string(), limit: max };
        if body.size_hint().lower() > max {
            return Err(too_large());
        }
        let mut left = max;
        loop {
            let by = self.deadline.min(Instant::now() + self.limits.idle);
            let frame = timeout_at(by, body.frame()).await.map_err(|_| HttpError::Timeout {
                host: self.target.authority(),
                what: "send more",
                after: self.limits.idle,
            })?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame
                .map_err(|source| HttpError::Protocol { host: self.target.authority(), source })?;
            if let Some(data) = frame.data_ref() {
                left = left.checked_sub(data.len() as u64).ok_or_else(too_large)?;
                sink(data)
                    .map_err(|source| HttpError::Sink { url: self.target.to_string(), source })?;
            }
        }
    }
}
