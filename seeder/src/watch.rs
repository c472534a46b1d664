//! `watch`: every published revision of a store, seeded and served as it appears.
//!
//! The store is asked twice a second: that costs a few system calls, needs no notification that a
//! network file system might not give, and cannot miss anything. A store that cannot be read at
//! the moment (say, unmounted) changes nothing: what is seeded stays seeded.

mod catalog;
mod revision;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::{Store, StoreError};
use swarm::{Role, SessionError};
use sys::notify::Notifier;
use thiserror::Error;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::WatchSettings;
use crate::exit::Exit;
use crate::http::{Counters, HttpError, HttpServer};
use crate::output::{Event, Output, Uploaded};
use crate::{seed, session};
use catalog::Catalog;

/// How often the store is asked.
const POLL: Duration = Duration::from_millis(500);

/// Why the store cannot be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// There is no such store.
    #[error("cannot open the store")]
    Store {
        /// Which, and why.
        #[source]
        source: StoreError,
    },
    /// HTTP cannot be served.
    #[error("cannot serve the store")]
    Http {
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The peer wire cannot be opened.
    #[error("cannot seed the store")]
    Session {
        /// Why.
        #[source]
        source: SessionError,
    },
}

impl WatchError {
    /// The exit code that tells this.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Store { .. } => Exit::Input,
            Self::Http { .. } | Self::Session { source: SessionError::Listen { .. } } => {
                Exit::Listen
            }
            Self::Session { .. } => Exit::Failure,
        }
    }
}

/// Seeds and serves until `stop`.
///
/// # Errors
/// [`WatchError`], only at the start: later trouble is logged, and it goes on.
pub async fn run(
    settings: WatchSettings,
    output: Output,
    notifier: &Notifier,
    stop: CancellationToken,
) -> Result<(), WatchError> {
    let store = Store::open(&settings.store).map_err(|e| WatchError::Store { source: e })?;
    let uploaded = Arc::new(Mutex::new(Uploaded::default()));
    let http = match settings.http {
        None => None,
        Some(config) => {
            let shared = Arc::clone(&uploaded);
            let more = Arc::new(move || metrics(&lock(&shared)));
            let server = HttpServer::bind(config, store.clone(), more)
                .map_err(|e| WatchError::Http { source: e })?;
            output.emit(&Event::Listening { service: "http", address: server.local_addr() });
            tracing::info!(address = %server.local_addr(), "serving the store over http");
            Some(server)
        }
    };
    let (session, trackers) = match settings.peers {
        None => (None, None),
        Some(peers) => {
            let session = session::bind(&peers, Role::Admin)
                .await
                .map_err(|e| WatchError::Session { source: e })?;
            output.emit(&Event::Listening { service: "swarm", address: session.local_addr() });
            tracing::info!(address = %session.local_addr(), "listening for peers");
            (Some(session), peers.trackers)
        }
    };
    let mut catalog = Catalog::new(store, session, trackers, output);
    let counters = http.as_ref().map(HttpServer::counters);
    follow(&mut catalog, counters.as_deref(), &uploaded, output, notifier, &stop).await;

    notifier.stopping();
    let image_bytes = lock(&uploaded).image_bytes;
    let http = async {
        if let Some(http) = http {
            http.shutdown().await;
        }
    };
    tokio::join!(http, catalog.shutdown());
    output.emit(&Event::Stopped { image_bytes });
    tracing::info!(image_bytes, "stopped");
    Ok(())
}

async fn follow(
    catalog: &mut Catalog,
    http: Option<&Counters>,
    shared: &Mutex<Uploaded>,
    output: Output,
    notifier: &Notifier,
    stop: &CancellationToken,
) {
    catalog.refresh().await;
    notifier.ready();
    let mut poll = tokio::time::interval(POLL);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for interval in [&mut poll, &mut second] {
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = poll.tick() => catalog.refresh().await,
            _ = second.tick() => {
                let now = counters(catalog, http);
                *lock(shared) = now;
                output.emit(&Event::Uploaded(now));
                notifier.status(&seed::status(&now));
                notifier.watchdog();
            }
        }
    }
    *lock(shared) = counters(catalog, http);
}

fn counters(catalog: &Catalog, http: Option<&Counters>) -> Uploaded {
    let mut uploaded = catalog.uploaded();
    if let Some(http) = http {
        uploaded.http_image_bytes = http.image_bytes();
        uploaded.http_bytes = http.all_bytes();
    }
    uploaded.image_bytes = uploaded.swarm_bytes + uploaded.http_image_bytes;
    uploaded
}

fn metrics(uploaded: &Uploaded) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("peer_bytes_total", "counter", "Image bytes sent to peers.", uploaded.swarm_bytes),
        ("image_bytes_total", "counter", "Image bytes sent, peers and HTTP.", uploaded.image_bytes),
        ("peers", "gauge", "Connected peers.", u64::from(uploaded.peers)),
        ("torrents", "gauge", "Images that are seeded.", uploaded.torrents as u64),
    ] {
        let name = format!("beeswarm_seeder_{name}");
        text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Counters are plain numbers: valid whatever happened to the thread that held them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
