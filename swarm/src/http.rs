//! A small HTTP/1.1 client: announce, torrent, manifest, web seeds and events.
//!
//! Plain HTTP only: what is fetched is verified against a pinned digest, so transport security
//! would add a megabyte to the initrd and no trust. One connection per request; every step has a
//! deadline; bodies are bounded.

mod exchange;
mod message;
mod url;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

pub use message::ProtocolError;

use exchange::Exchange;
use url::Target;

/// What clients of Beeswarm call themselves.
const AGENT: &str = concat!("beeswarm/", env!("CARGO_PKG_VERSION"));

/// Bytes kept of the page that explains an error.
const ERROR_PAGE: usize = 4096;

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
        /// What is wrong with it.
        #[source]
        source: ProtocolError,
    },
    /// The connection broke.
    #[error("the connection to {host} broke")]
    Broken {
        /// Name and port as in the URL.
        host: String,
        /// The error there.
        #[source]
        source: io::Error,
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
    let query = Query { method: "POST", body: Some(body), ..Query::get(url) };
    let response = run(query, limits, &mut |chunk| {
        answer.extend_from_slice(chunk);
        Ok(())
    })
    .await?;
    Ok(Response { body: answer, ..response })
}

struct Query<'a> {
    url: &'a str,
    method: &'static str,
    body: Option<Vec<u8>>,
    range: Option<(u64, u64)>,
}

impl<'a> Query<'a> {
    fn get(url: &'a str) -> Self {
        Self { url, method: "GET", body: None, range: None }
    }
}

type Sink<'a> = &'a mut (dyn FnMut(&[u8]) -> io::Result<()> + Send);

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response, HttpError>> + Send + 'a>>;

/// Boxed, so that those who ask share one copy of the code for it and hold only a pointer.
fn run<'a>(query: Query<'a>, limits: Limits, sink: Sink<'a>) -> Answer<'a> {
    Box::pin(follow(query, limits, sink))
}

async fn follow(query: Query<'_>, limits: Limits, sink: Sink<'_>) -> Result<Response, HttpError> {
    let deadline = Instant::now() + limits.total;
    let mut target = Target::parse(query.url)?;
    for _ in 0..=limits.redirects {
        let mut exchange = Exchange::start(&target, limits, deadline).await?;
        exchange.send(&query).await?;
        let head = exchange.head().await?;
        if let (300..=399, Some(location)) = (head.status, &head.location) {
            target = target.join(location)?;
            continue;
        }
        let url = target.to_string();
        if !(200..=299).contains(&head.status) {
            let body = exchange.beginning(head.body, ERROR_PAGE).await;
            return Err(HttpError::Status { url, status: head.status, body });
        }
        exchange.body(head.body, limits.max_body, sink).await?;
        let (status, content_type) = (head.status, head.content_type);
        return Ok(Response { status, url, content_type, body: Vec::new() });
    }
    Err(HttpError::Redirects { url: target.to_string() })
}
