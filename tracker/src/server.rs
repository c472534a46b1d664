//! The server: listener, connections, background work, orderly end.
//!
//! Connections are in `connections`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Notice};
use crate::catalog::{Follower, describe};
use crate::config::Config;
use crate::error::BindError;
use crate::http;
use crate::inventory::{self, Inventory};
use crate::rollout;
use crate::udp;

mod connections;

use connections::{Door, Slots, accept};

/// Connections that wait for accept(2); the kernel may allow fewer (`net.core.somaxconn`). Who finds the queue
/// full tries again after a whole second, and the usual 128 are there within 15 ms when 10,000 nodes
/// announce and report.
const QUEUE: u32 = 16_384;

/// How often peers whose time is over are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// How often the store is looked at.
const POLL_STORE_EVERY: Duration = Duration::from_millis(500);

/// How often the inventory is looked at.
const POLL_INVENTORY_EVERY: Duration = Duration::from_millis(900);

// A change is to be seen within two seconds, also when a look takes a while.
const _: () = assert!(POLL_STORE_EVERY.as_millis() * 3 < 2000);

/// Entry point.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Listens and starts to serve; the port is open when this returns.
    ///
    /// # Errors
    /// [`BindError`] when the address cannot be listened on, or store, state or inventory cannot be used.
    pub async fn bind(config: Config) -> Result<Handle, BindError> {
        let (app, former) = App::open(config).map_err(BindError::State)?;
        let app = Arc::new(app);
        if app.state.is_none() {
            tracing::warn!("nothing outlives this process: give a directory with --state");
        }
        let inventory = match app.config.inventory.as_deref() {
            Some(path) => Some(open_inventory(&app, path, former)?),
            None => None,
        };
        let follower = match app.config.store.as_deref() {
            Some(path) => Some(open_store(&app, path)?),
            None => None,
        };
        let listener = listen(&app.config)?;
        let local_addr = listener.local_addr();
        let stop = app.stop.clone();
        let tasks = TaskTracker::new();
        let slots = Arc::new(Slots::new(&app));
        tasks.spawn(accept(app.clone(), listener, slots.clone(), None, stop.clone()));
        let tls_addr = match &app.config.tls {
            None => None,
            Some(tls) => {
                let acceptor = tls.acceptor().map_err(BindError::Tls)?;
                let bad = |source| BindError::Listen { addr: tls.listen, source };
                let listener = listen_at(tls.listen).map_err(bad)?;
                let addr = listener.local_addr();
                tasks.spawn(accept(app.clone(), listener, slots, Some(acceptor), stop.clone()));
                Some(addr)
            }
        };
        let udp = app.config.udp.map(udp::Door::open).transpose()?;
        let udp_addr = udp.as_ref().map(udp::Door::local_addr);
        if let Some(door) = udp {
            tasks.spawn(door.serve(app.clone(), stop.clone()));
        }
        tasks.spawn(expire(app.clone(), stop.clone()));
        tasks.spawn(http::stream::run(app.clone(), stop.clone()));
        if let Some(power) = app.power.clone() {
            tasks.spawn(rollout::driver::run(app.clone(), power, stop.clone()));
        }
        if let Some(follower) = follower {
            tasks.spawn(follow(app.clone(), follower, stop.clone()));
        }
        if let Some(inventory) = inventory {
            tasks.spawn(follow_inventory(app.clone(), inventory, stop.clone()));
        }
        tasks.close();
        Ok(Handle { app, local_addr, udp_addr, tls_addr, stop, tasks })
    }
}

/// A running server. Dropping it does not stop it.
#[derive(Debug)]
pub struct Handle {
    app: Arc<App>,
    local_addr: SocketAddr,
    udp_addr: Option<SocketAddr>,
    tls_addr: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where it answers over UDP, if it does.
    #[must_use]
    pub fn udp_addr(&self) -> Option<SocketAddr> {
        self.udp_addr
    }

    /// Where it speaks TLS, if it does.
    #[must_use]
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addr
    }

    /// What happens from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.app.notices.subscribe()
    }

    /// Stops listening and lets open requests finish, for seconds at most.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }

    /// Waits until everything has ended.
    pub async fn join(self) {
        self.tasks.wait().await;
        let app = self.app;
        // what waits is written before the program ends
        let close = move || app.state.iter().for_each(|state| state.journal.close());
        if tokio::task::spawn_blocking(close).await.is_err() {
            tracing::error!("the state was not closed in order");
        }
    }
}

fn open_store(app: &App, path: &Path) -> Result<Follower, BindError> {
    let mut follower = Follower::open(path).map_err(BindError::Store)?;
    if let Some(catalog) = follower.poll().map_err(BindError::Store)? {
        app.replace_catalog(catalog);
    } else {
        tracing::warn!(path = %path.display(), "store is empty so far; waiting for bee-packer");
    }
    Ok(follower)
}

fn open_inventory(
    app: &App,
    path: &Path,
    former: Option<Inventory>,
) -> Result<inventory::Follower, BindError> {
    let mut follower = inventory::Follower::new(path);
    match (follower.poll(), former) {
        (Ok(Some((inventory, text))), _) => app.replace_inventory(inventory, Some(text)),
        (Ok(None), _) => {}
        (Err(error), Some(former)) => {
            app.replace_inventory(former, None);
            app.inventory_trouble(describe(&error));
        }
        (Err(error), None) => return Err(BindError::Inventory(describe(&error))),
    }
    Ok(follower)
}

fn listen(config: &Config) -> Result<Door, BindError> {
    let addr = config.listen;
    match listen_at(addr) {
        Err(error) if config.listen_is_default && no_ipv6(&error) => {
            let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port()));
            tracing::info!(%addr, "no IPv6 on this host");
            listen_at(addr).map_err(|source| BindError::Listen { addr, source })
        }
        other => other.map_err(|source| BindError::Listen { addr, source }),
    }
}

fn listen_at(addr: SocketAddr) -> io::Result<Door> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // connections have it from their listener. Answers are one segment mostly: Nagle's algorithm would only
    // delay them
    socket.set_nodelay(true)?;
    socket.bind(addr)?;
    Door::new(socket.listen(QUEUE)?)
}

fn no_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own; its number is the same on every Linux but MIPS.
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97)
}

async fn expire(app: Arc<App>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EXPIRE_EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let gone = app.torrents.expire(Instant::now());
        if gone > 0 {
            tracing::debug!(gone, "peers expired");
        }
    }
}

async fn follow(app: Arc<App>, follower: Follower, stop: CancellationToken) {
    let take = |polled| match polled {
        Ok(Some(catalog)) => app.replace_catalog(catalog),
        Ok(None) => {}
        Err(error) => app.store_trouble(describe(&error)),
    };
    poll("store", POLL_STORE_EVERY, follower, Follower::poll, take, stop).await;
}

async fn follow_inventory(app: Arc<App>, follower: inventory::Follower, stop: CancellationToken) {
    let take = |polled| match polled {
        Ok(Some((inventory, text))) => app.replace_inventory(inventory, Some(text)),
        Ok(None) => {}
        Err(error) => app.inventory_trouble(describe(&error)),
    };
    poll("inventory", POLL_INVENTORY_EVERY, follower, inventory::Follower::poll, take, stop).await;
}

/// Looks after something on disk, on a thread since that may block, and hands over what was found.
async fn poll<F: Send + 'static, T: Send + 'static>(
    what: &'static str,
    every: Duration,
    mut follower: F,
    look: fn(&mut F) -> T,
    take: impl Fn(T),
    stop: CancellationToken,
) {
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let polled = tokio::task::spawn_blocking(move || {
            let found = look(&mut follower);
            (follower, found)
        });
        let Ok((back, found)) = polled.await else {
            tracing::error!("the {what} is no longer followed: restart bee-tracker");
            return;
        };
        follower = back;
        take(found);
    }
}
