//! The server: listener, connections, background work, orderly end.
//!
//! A connection has deadlines for everything a client could delay: request head, body, and its whole
//! life. Their number is bounded, in all and per address, so that one broken host does not lock out
//! the others.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce::Ends;
use crate::app::{App, Notice, lock};
use crate::catalog::{Follower, describe};
use crate::config::Config;
use crate::error::BindError;
use crate::http::{self, Transport};
use crate::inventory::{self, Inventory};
use crate::rollout;
use crate::udp;

/// Pause after a failed accept(2), which mostly means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often peers whose time is over are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// How often the store is looked at.
const POLL_STORE_EVERY: Duration = Duration::from_millis(500);

/// How often the inventory is looked at.
const POLL_INVENTORY_EVERY: Duration = Duration::from_millis(900);

// A change is to be seen within two seconds, also when a look takes a while.
const _: () = assert!(POLL_STORE_EVERY.as_millis() * 3 < 2000);

/// Time for the beginning of a TLS connection.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long open connections may take to finish at shutdown.
const GRACE: Duration = Duration::from_secs(5);

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
        let listener = listen(&app.config).await?;
        let local_addr = listener
            .local_addr()
            .map_err(|source| BindError::Listen { addr: app.config.listen, source })?;
        let stop = app.stop.clone();
        let tasks = TaskTracker::new();
        let slots = Arc::new(Slots::new(&app));
        tasks.spawn(accept(app.clone(), listener, slots.clone(), None, stop.clone()));
        let tls_addr = match &app.config.tls {
            None => None,
            Some(tls) => {
                let acceptor = tls.acceptor().map_err(BindError::Tls)?;
                let bad = |source| BindError::Listen { addr: tls.listen, source };
                let listener = TcpListener::bind(tls.listen).await.map_err(bad)?;
                let addr = listener.local_addr().map_err(bad)?;
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

async fn listen(config: &Config) -> Result<TcpListener, BindError> {
    let addr = config.listen;
    match TcpListener::bind(addr).await {
        Err(error) if config.listen_is_default && no_ipv6(&error) => {
            let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port()));
            tracing::info!(%addr, "no IPv6 on this host");
            TcpListener::bind(addr).await.map_err(|source| BindError::Listen { addr, source })
        }
        other => other.map_err(|source| BindError::Listen { addr, source }),
    }
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

/// Open connections by address; the lock is held for a moment only.
type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Room for connections, of all listeners together.
struct Slots {
    all: Arc<Semaphore>,
    open: Open,
}

impl Slots {
    fn new(app: &App) -> Self {
        let most = app.config.limits.connections.min(Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(most)), open: Open::default() }
    }
}

async fn accept(
    app: Arc<App>,
    listener: TcpListener,
    slots: Arc<Slots>,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    let limits = app.config.limits;
    let connections = TaskTracker::new();
    let service = http::Service::new(app.clone());
    loop {
        let next = async {
            let slot = slots.all.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let Some((slot, accepted)) = stop.run_until_cancelled(next).await else { break };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        app.metrics.connections.add(1);
        let ip = peer.ip().to_canonical();
        let Some(entered) = Entered::new(&slots.open, ip, limits.connections_per_address) else {
            app.metrics.connections_refused.add(1);
            continue;
        };
        let (service, stop, tls) = (service.clone(), stop.clone(), tls.clone());
        connections.spawn(async move {
            serve(stream, peer, tls, service, stop).await;
            drop((slot, entered));
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections did not end in time");
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    service: http::Service,
    stop: CancellationToken,
) {
    // Answers are one segment mostly: Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    let local = match stream.local_addr() {
        Ok(local) => local,
        Err(error) => return tracing::debug!(%peer, %error, "connection lost"),
    };
    let ends = Ends::of(peer, local);
    let served = match tls {
        None => service.serve(stream, ends, Transport::Plain, stop).await,
        Some(acceptor) => {
            let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS"),
                Err(_) => return tracing::debug!(%peer, "no TLS in time"),
            };
            // only who is signed by the admin's authority gets this far with a certificate
            let certified = stream.get_ref().1.peer_certificates().is_some();
            service.serve(stream, ends, Transport::Tls { certified }, stop).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Counts a connection of an address for as long as it lives.
struct Entered {
    open: Open,
    ip: IpAddr,
}

impl Entered {
    fn new(open: &Open, ip: IpAddr, limit: usize) -> Option<Self> {
        let mut table = lock(open);
        let count = table.entry(ip).or_default();
        if *count >= limit && !ip.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Self { open: open.clone(), ip })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut table = lock(&self.open);
        if let Some(count) = table.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.ip);
            }
        }
    }
}
