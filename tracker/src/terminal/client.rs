//! One question to the API of a tracker.

use std::time::Duration;

use axum::body::Body;
use axum::http::uri::{Authority, Scheme};
use axum::http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::config::DEFAULT_PORT;

/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer, in bytes: ten thousand nodes take a tenth.
const MAX_ANSWER: usize = 256 << 20;

/// Why a tracker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Not a URL of a tracker.
    #[error("{0:?} is not the URL of a tracker; it looks like http://HOST:6969")]
    Url(String),
    /// Nobody answers there.
    #[error("no tracker at {at} (is bee-tracker running there? --tracker URL names another)")]
    Connect {
        /// Host and port.
        at: Authority,
        /// What the system says.
        source: std::io::Error,
    },
    /// It takes too long.
    #[error("the tracker at {at} does not answer within {} s", PATIENCE.as_secs())]
    Slow {
        /// Host and port.
        at: Authority,
    },
    /// What answers is not HTTP, or stopped in the middle.
    #[error("what listens at {at} does not answer as a tracker: {reason}")]
    Exchange {
        /// Host and port.
        at: Authority,
        /// What went wrong.
        reason: String,
    },
    /// It refuses.
    #[error("the tracker at {at} answers {status}: {message}")]
    Status {
        /// Host and port.
        at: Authority,
        /// Of the answer.
        status: StatusCode,
        /// Its first line.
        message: String,
    },
    /// The answer is not what this program knows.
    #[error("the answer cannot be read (is this bee-tracker as new as the one that serves?)")]
    Answer(#[source] serde_json::Error),
    /// No runtime.
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
}

/// Asks one tracker.
#[derive(Debug)]
pub(super) struct Client {
    at: Authority,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// Of the tracker at `http://HOST[:PORT]`.
    pub(super) fn new(url: &str) -> Result<Self, AskError> {
        let wrong = || AskError::Url(url.to_owned());
        let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| wrong())?;
        // without a scheme HOST:PORT is an authority of its own
        let known = uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTP);
        if !known || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let at = uri.authority().ok_or_else(wrong)?.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { at, runtime: runtime.map_err(AskError::Runtime)? })
    }

    /// The JSON that a path answers with.
    pub(super) fn ask(&self, path: &str) -> Result<Value, AskError> {
        let asked = async { tokio::time::timeout(PATIENCE, self.exchange(path)).await };
        let slow = |_| AskError::Slow { at: self.at.clone() };
        self.runtime.block_on(asked).map_err(slow)?
    }

    async fn exchange(&self, path: &str) -> Result<Value, AskError> {
        let at = || self.at.clone();
        let broken = |error: &dyn std::error::Error| AskError::Exchange {
            at: self.at.clone(),
            reason: crate::catalog::describe(error),
        };
        // an IPv6 address stands in brackets in a URL, and without for the resolver
        let host = self.at.host().trim_start_matches('[').trim_end_matches(']');
        let port = self.at.port_u16().unwrap_or(DEFAULT_PORT);
        let connected = TcpStream::connect((host, port)).await;
        let stream = connected.map_err(|source| AskError::Connect { at: at(), source })?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
        let request = Request::get(path)
            .header(header::HOST, self.at.as_str())
            .header(header::CONNECTION, "close")
            .body(Body::empty())
            .map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| broken(error.as_ref()))?.to_bytes();
            Ok((status, body))
        };
        // what ends the connection is told by the exchange, which may have the answer already
        let drive = async {
            let _ = connection.await;
            std::future::pending::<std::convert::Infallible>().await
        };
        let (status, body) = tokio::select! {
            done = exchange => done?,
            never = drive => match never {},
        };
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let message = text.lines().next().unwrap_or_default().chars().take(200).collect();
            return Err(AskError::Status { at: at(), status, message });
        }
        serde_json::from_slice(&body).map_err(AskError::Answer)
    }
}
