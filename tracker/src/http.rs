//! HTTP: one connection, and what every handler needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::announce::Ends;
use crate::app::App;
use crate::state::{NotStored, StateError};

pub(crate) use page::images::Past;
pub(crate) use page::text as figures;

mod access;
mod announce;
mod assign;
mod boot;
mod events;
mod ipxe;
pub(crate) mod kept;
mod lines;
mod metrics;
mod mirrors;
mod nodes;
mod openapi;
mod page;
pub(crate) mod quick;
mod rollout;
mod routes;
pub(crate) mod stream;
mod swarm;
mod usage;

/// Time for a request's head; an idle connection is closed after it too.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Time for a request's body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// A connection is asked to end after this, so that a reader who never reads holds no slot for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// And is cut after this.
const CONNECTION_GRACE: Duration = Duration::from_secs(15);

/// Requests that wait until something is drawn for them.
pub(crate) const MAX_WAITING: usize = 32;

/// Longest request head, in bytes. An announce query has 2 KiB at most.
const MAX_HEAD: usize = 16 * 1024;

/// Serves connections; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    app: Arc<App>,
    routes: TowerToHyperService<Router>,
}

impl Service {
    pub(crate) fn new(app: Arc<App>) -> Self {
        let routes = routes::router(app.clone());
        Self { app, routes: TowerToHyperService::new(routes) }
    }

    /// Serves one connection until it ends or `stop` asks for its end.
    pub(crate) async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        ends: Ends,
        transport: Transport,
        stop: CancellationToken,
    ) -> hyper::Result<()> {
        let Self { app, routes } = self;
        let life = stop.child_token();
        let streams = Life(life.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ends);
            request.extensions_mut().insert(transport);
            request.extensions_mut().insert(streams.clone());
            let app = app.clone();
            let answer =
                app.rates.take(ends.peer.ip(), Instant::now()).then(|| routes.call(request));
            async move {
                let answer = match answer {
                    Some(answer) => answer.await,
                    None => Ok(too_often()),
                };
                if let Ok(response) = &answer {
                    app.metrics.response(response.status().as_u16());
                }
                answer
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stop.cancelled() => {}
            () = tokio::time::sleep(CONNECTION_LIFE) => {}
        }
        life.cancel();
        connection.as_mut().graceful_shutdown();
        tokio::time::timeout(CONNECTION_GRACE, connection).await.unwrap_or(Ok(()))
    }
}

/// Cancelled when a request's connection is to end: an answer without an end of its own ends in order then.
#[derive(Debug, Clone)]
struct Life(CancellationToken);

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls {
        /// Whether the client has a certificate of the admin's authority.
        certified: bool,
    },
}

/// Who asks more than an address may; the connection ends with it.
fn too_often() -> Response<Body> {
    let mut response =
        problem(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An answer whose body must not be kept by anyone on the way.
fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if content_type.starts_with("text/html") || content_type == "application/json" {
        // pages have a policy of their own, which is wider
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let same = HeaderValue::from_static("same-origin");
        headers.insert("cross-origin-resource-policy", same);
    }
    response
}

fn text(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => answer(StatusCode::OK, "application/json", body),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// An error of the API, as JSON.
fn problem(status: StatusCode, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "error": message }).to_string();
    answer(status, "application/json", body)
}

/// Reads a body; `None` when it is longer than `most` bytes.
async fn read_body(body: Body, most: usize) -> Result<Option<Bytes>, Response<Body>> {
    match tokio::time::timeout(BODY_DEADLINE, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(Some(bytes)),
        Ok(Err(error)) if too_long(&error) => Ok(None),
        Ok(Err(error)) => Err(problem(StatusCode::BAD_REQUEST, &error.to_string())),
        Err(_) => Err(problem(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

fn too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Nothing is acknowledged that is not on disk.
fn unavailable(error: &NotStored) -> Response<Body> {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// Asks the disk, on a thread that may wait for it; `None` without state.
async fn read_state<T: Send + 'static>(
    app: &Arc<App>,
    read: impl FnOnce(&crate::state::State) -> Result<T, StateError> + Send + 'static,
) -> Result<Option<T>, Response<Body>> {
    let app = app.clone();
    let asked = tokio::task::spawn_blocking(move || app.state.as_ref().map(read).transpose());
    let failed = |message: String| problem(StatusCode::INTERNAL_SERVER_ERROR, &message);
    match asked.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(crate::catalog::describe(&error))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Draws what takes long: with thousands of nodes a page takes tens of milliseconds, in which a thread of the
/// runtime would answer nobody else. One at a time, so that many readers do not crowd out the nodes; who finds
/// [`MAX_WAITING`] before it is sent away.
async fn draw<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&Arc<App>) -> T + Send + 'static,
) -> Result<T, Response<Body>> {
    let Ok(_place) = app.waiting.try_acquire() else { return Err(busy()) };
    draw_patiently(app, work).await
}

/// The same for who stays in the queue however long it is: readers of streams, whose number has a bound.
async fn draw_patiently<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&Arc<App>) -> T + Send + 'static,
) -> Result<T, Response<Body>> {
    let _turn = app.drawing.acquire().await.map_err(|error| failed(&error))?;
    on_thread(app, work).await
}

/// Works on a thread that may be busy for a while.
async fn on_thread<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&Arc<App>) -> T + Send + 'static,
) -> Result<T, Response<Body>> {
    let app = app.clone();
    tokio::task::spawn_blocking(move || work(&app)).await.map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> Response<Body> {
    problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

fn busy() -> Response<Body> {
    let message = "too many readers wait for a page; try again";
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// The path is right, and the method is not; `Allow` is added by who found that.
async fn not_so(method: Method, uri: Uri) -> Response<Body> {
    let message = format!("{} does not take {method}", uri.path());
    problem(StatusCode::METHOD_NOT_ALLOWED, &message)
}

async fn not_found(uri: Uri) -> Response<Body> {
    if uri.path().starts_with("/api/") {
        let message = "no such path; what there is: /api/v1/openapi.json";
        return problem(StatusCode::NOT_FOUND, message);
    }
    text(StatusCode::NOT_FOUND, "no such page; the status page is at /\n")
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
