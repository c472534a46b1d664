//! HTTP: one connection, the table of routes, and what every handler needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::announce::{Ends, canonical};
use crate::app::App;
use crate::state::{NotStored, StateError};

mod access;
mod announce;
mod assign;
mod boot;
mod events;
mod ipxe;
mod metrics;
mod mirrors;
mod nodes;
mod page;
pub(crate) mod stream;
mod usage;

/// Time for a request's head; an idle connection is closed after it too.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Time for a request's body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// A connection is asked to end after this, so that a reader who never reads holds no slot for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// And is cut after this.
const CONNECTION_GRACE: Duration = Duration::from_secs(15);

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
        let routes = Router::new()
            .route("/", get(page::fleet))
            .route("/nodes", get(page::nodes))
            .route("/nodes/{id}", get(page::node))
            .route("/swarm", get(page::swarm))
            .route("/images", get(page::images))
            .route("/page.js", get(page::script))
            .route("/icon.svg", get(page::icon))
            .route("/api/v1/stream", get(stream::stream))
            .route("/announce", get(announce::announce))
            .route("/scrape", get(announce::scrape))
            .route("/boot.ipxe", get(boot::any_node))
            .route("/boot/{file}", get(boot::one_node))
            .route("/ipxe/{file}", get(ipxe::program))
            .route("/api/v1/nodes", get(nodes::list))
            .route("/api/v1/nodes/{id}", get(nodes::one))
            .route("/api/v1/nodes/{id}/events", post(events::events))
            .route(proto::assign::ASSIGNMENTS_PATH, get(assign::list))
            .route(proto::assign::ASSIGN_PATH, post(assign::assign))
            .route(proto::assign::UNASSIGN_PATH, post(assign::unassign))
            .route("/api/v1/history", get(assign::history))
            .route("/api/v1/swarm", get(nodes::swarm))
            .route(proto::mirrors::MIRRORS_PATH, get(mirrors::mirrors))
            .route(proto::usage::USAGE_PATH, get(usage::usage))
            .route("/healthz", get(metrics::healthz))
            .route("/metrics", get(metrics::metrics))
            .fallback(not_found)
            .with_state(app.clone());
        Self { app, routes: TowerToHyperService::new(routes) }
    }

    /// Serves one connection until it ends or `stop` asks for its end.
    pub(crate) async fn serve(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        local: SocketAddr,
        stop: CancellationToken,
    ) -> hyper::Result<()> {
        let ends = Ends { peer: canonical(peer), local: canonical(local) };
        let Self { app, routes } = self;
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ends);
            let (app, answer) = (app.clone(), routes.call(request));
            async move {
                let answer = answer.await;
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
        connection.as_mut().graceful_shutdown();
        tokio::time::timeout(CONNECTION_GRACE, connection).await.unwrap_or(Ok(()))
    }
}

/// An answer whose body must not be kept by anyone on the way.
fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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

async fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "no such page; the status page is at /\n")
}
