//! The store over HTTP: what iPXE, the initrd and web-seed clients (BEP 19) fetch.
//!
//! ```text
//! /revisions/NAME/REV/FILE      a published revision; never changes
//! /channels/CHANNEL/NAME/FILE   what the channel points to at this moment
//! /healthz  /metrics
//! ```
//!
//! This is a small HTTP/1.1 server of our own, on `httparse`, because bodies are files and go out
//! by sendfile(2): that needs the socket itself, which hyper and axum keep to themselves. What it
//! has to understand is little (GET and HEAD without a body), and everything that a stranger can
//! make large or slow has a limit: connections, the size of a head, the time for it, the time
//! without progress of a transfer.

mod admission;
mod connection;
pub mod counters;
mod date;
mod library;
mod range;
mod request;
mod response;
mod target;
mod transfer;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use store::Store;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use counters::Counters;
pub use library::{Netboot, Scope};

use crate::listen::{ListenError, listen};
use admission::Admission;
use connection::Connection;
use library::Library;

/// Connections beyond the limit that are told so (503) at the same time; more are just closed.
const MAX_REFUSALS: usize = 64;

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Which files are served.
    pub scope: Scope,
    /// Connections served at once; others get 503.
    pub max_connections: usize,
    /// Of these, from one address (loopback excepted).
    pub max_per_address: usize,
    /// Time for the rest of a request whose first byte has come.
    pub head_timeout: Duration,
    /// Time a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Time a transfer may stand still.
    pub write_timeout: Duration,
    /// Time that running transfers get at shutdown.
    pub grace: Duration,
}

impl HttpConfig {
    /// The defaults, for this address.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            scope: Scope::Everything,
            max_connections: 512,
            max_per_address: 64,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(3),
        }
    }
}

/// The server could not be started.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The address is not to be had.
    #[error("cannot serve HTTP")]
    Listen {
        /// Which address, and why.
        #[source]
        source: ListenError,
    },
}

/// More lines for `/metrics`, in the Prometheus text format.
pub type MoreMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// A running server. [`Self::shutdown`] ends it in bounded time; dropping it stops accepting.
pub struct HttpServer {
    local_addr: SocketAddr,
    counters: Arc<Counters>,
    stop: CancellationToken,
    grace: Duration,
    accepting: JoinHandle<()>,
    connections: TaskTracker,
}

impl HttpServer {
    /// Listens and serves `store`. The port is open when this returns.
    ///
    /// # Errors
    /// [`HttpError::Listen`].
    pub fn bind(
        config: HttpConfig,
        store: Store,
        more_metrics: MoreMetrics,
    ) -> Result<Self, HttpError> {
        let library = Library::new(store, config.scope);
        Self::serve(config, library, more_metrics)
    }

    /// Listens and serves kernel and initrd of one revision.
    ///
    /// # Errors
    /// [`HttpError::Listen`].
    pub fn netboot(
        config: HttpConfig,
        files: Netboot,
        more_metrics: MoreMetrics,
    ) -> Result<Self, HttpError> {
        Self::serve(config, Library::Netboot(files), more_metrics)
    }

    fn serve(
        config: HttpConfig,
        library: Library,
        more_metrics: MoreMetrics,
    ) -> Result<Self, HttpError> {
        let (listener, local_addr) =
            listen(config.listen).map_err(|e| HttpError::Listen { source: e })?;
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let connections = TaskTracker::new();
        let grace = config.grace;
        let acceptor = Acceptor {
            library: Arc::new(library),
            admission: Admission::new(config.max_connections, config.max_per_address),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            config: Arc::new(config),
            counters: Arc::clone(&counters),
            stop: stop.clone(),
            connections: connections.clone(),
            more_metrics,
        };
        let accepting = tokio::spawn(acceptor.run(listener));
        Ok(Self { local_addr, counters, stop, grace, accepting, connections })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What was served so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Stops accepting, lets running transfers go on for the grace time, ends the rest.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(self.grace, self.connections.wait()).await.is_err() {
            tracing::info!(connections = self.connections.len(), "transfers cut off by shutdown");
        }
        self.accepting.abort();
    }
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Acceptor {
    config: Arc<HttpConfig>,
    library: Arc<Library>,
    counters: Arc<Counters>,
    admission: Arc<Admission>,
    refusals: Arc<Semaphore>,
    stop: CancellationToken,
    connections: TaskTracker,
    more_metrics: MoreMetrics,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer),
                Err(e) => {
                    // Out of descriptors, or the peer was gone already: both pass.
                    tracing::warn!(err = %e, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let connection = Connection {
            stream,
            peer,
            config: Arc::clone(&self.config),
            library: Arc::clone(&self.library),
            counters: Arc::clone(&self.counters),
            more_metrics: Arc::clone(&self.more_metrics),
        };
        let stop = self.stop.clone();
        if let Some(place) = self.admission.admit(peer.ip()) {
            let grace = self.config.grace;
            self.connections.spawn(async move {
                let _place = place;
                let cut = async {
                    stop.cancelled().await;
                    tokio::time::sleep(grace).await;
                };
                tokio::select! {
                    () = connection.serve(stop.clone()) => {}
                    () = cut => {}
                }
            });
        } else if let Ok(slot) = Arc::clone(&self.refusals).try_acquire_owned() {
            self.connections.spawn(async move {
                let _slot = slot;
                tokio::select! {
                    () = connection.refuse() => {}
                    () = stop.cancelled() => {}
                }
            });
        } else {
            self.counters.refused();
        }
    }
}
