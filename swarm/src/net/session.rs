//! A session: one listener, one identity, many torrents.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::hash::{InfoHash, PeerId, PeerRole};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::{Door, Pass};
use super::handle::Torrent;
use super::handshake::{self, HandshakeError};
use super::limiter::Limiter;
use super::link::{self, Side};
use super::lsd;
use super::tasks;
use super::torrent::Shared;
use crate::config::{Role, SessionConfig, TorrentSpec};
use crate::log;
use crate::sorted::SortedMap;

/// Connections the kernel holds for us: a whole cluster connects within a second.
const BACKLOG: u32 = 1024;

/// While no descriptor is left: how often to try, and to say so.
const NO_DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);
const NO_DESCRIPTOR_WARNING: Duration = Duration::from_secs(30);

/// Why a session or a torrent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The port cannot be opened.
    #[error("cannot listen on {address} for peers; is another seeder running?")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The torrent is there already.
    #[error("torrent {0} is already in this session")]
    Duplicate(InfoHash),
    /// The storage is shorter than the torrent's content.
    #[error(
        "the storage has {storage} bytes, but the torrent's image has {image}: this is another image, or it was cut off"
    )]
    Length {
        /// Bytes of the storage.
        storage: u64,
        /// Bytes of the image.
        image: u64,
    },
}

/// One listener, one identity, many torrents. Dropping it stops everything without waiting;
/// [`Session::shutdown`] waits and says good-bye to the trackers.
#[derive(Debug)]
pub struct Session {
    shared: Arc<SessionShared>,
    tasks: TaskTracker,
}

/// What all torrents of a session share.
#[derive(Debug)]
pub(crate) struct SessionShared {
    pub(crate) config: SessionConfig,
    pub(crate) local: SocketAddr,
    pub(crate) peer_id: PeerId,
    pub(crate) started: Instant,
    pub(crate) limiter: Limiter,
    pub(crate) down_limiter: Limiter,
    pub(crate) door: Arc<Door>,
    /// Wakes local discovery: there is another torrent.
    pub(crate) lsd_wake: Notify,
    pub(crate) cancel: CancellationToken,
    torrents: Mutex<SortedMap<InfoHash, Arc<Shared>>>,
}

impl SessionShared {
    pub(crate) fn remove(&self, info_hash: InfoHash) {
        self.torrents.lock().unwrap_or_else(PoisonError::into_inner).remove(&info_hash);
    }

    pub(crate) fn torrents(&self) -> Vec<Arc<Shared>> {
        self.torrents.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// By its info-hash, or the short one of BEP 52.
    pub(crate) fn find(&self, info_hash: InfoHash) -> Option<Arc<Shared>> {
        let torrents = self.torrents.lock().unwrap_or_else(PoisonError::into_inner);
        let named_v2 = || torrents.values().find(|shared| shared.hello().v2 == Some(info_hash));
        torrents.get(&info_hash).or_else(named_v2).cloned()
    }
}

impl Session {
    /// Opens the port; connections are accepted when this returns. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`SessionError::Listen`].
    pub async fn bind(config: SessionConfig) -> Result<Self, SessionError> {
        let error = |source| SessionError::Listen { address: config.listen, source };
        let listener = listen(config.listen).map_err(error)?;
        let local = listener.local_addr().map_err(error)?;
        let role = match config.role {
            Role::Admin => {
                stop_pacing(&listener);
                PeerRole::Admin
            }
            Role::Node => PeerRole::Node,
        };
        let shared = Arc::new(SessionShared {
            local,
            peer_id: PeerId::new(role, std::array::from_fn(|_| fastrand::u8(..))),
            started: Instant::now(),
            limiter: Limiter::new(config.upload_limit),
            down_limiter: Limiter::new(config.download_limit),
            door: Arc::default(),
            lsd_wake: Notify::new(),
            cancel: CancellationToken::new(),
            torrents: Mutex::new(SortedMap::new()),
            config,
        });
        let tasks = TaskTracker::new();
        tasks::spawn(&tasks, accept(shared.clone(), listener, tasks.clone()));
        if shared.config.local_discovery {
            tasks::spawn(&tasks, lsd::run(shared.clone()));
        }
        Ok(Self { shared, tasks })
    }

    /// The address peers connect to, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// This session's peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.shared.peer_id
    }

    /// Starts a torrent. Checking what is on disk goes on in the background.
    ///
    /// # Errors
    /// [`SessionError::Duplicate`], [`SessionError::Length`].
    pub async fn add(&self, spec: TorrentSpec) -> Result<Torrent, SessionError> {
        let info_hash = spec.metainfo.info_hash;
        let image = spec.metainfo.info.geometry.total();
        let storage = spec.storage.len();
        if storage < image {
            return Err(SessionError::Length { storage, image });
        }
        let shared = Shared::new(self.shared.clone(), &spec);
        {
            let mut torrents = self.shared.torrents.lock().unwrap_or_else(PoisonError::into_inner);
            if torrents.contains_key(&info_hash) {
                return Err(SessionError::Duplicate(info_hash));
            }
            torrents.insert(info_hash, shared.clone());
        }
        tasks::spawn(&self.tasks, shared.clone().run(spec.have));
        Ok(Torrent::new(shared))
    }

    /// Ends everything: announces `stopped`, closes connections, joins all tasks. Takes about
    /// [`SessionConfig::stop_timeout`] at most, and half of it more when tasks hang.
    pub async fn shutdown(self) {
        self.shared.cancel.cancel();
        self.tasks.close();
        let grace = self.shared.config.stop_timeout * 3 / 2;
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            log::warn!("some tasks of the session did not end in time");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

/// Opens the port. `[::]` falls back to `0.0.0.0` on kernels without IPv6.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match open(address) {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        result => result,
    }
}

/// Takes a paced congestion control (BBR), where it is the system's default, off the connections that
/// will be accepted: pacing starts a timer for every 64 KiB, a third of what sending costs on a fast
/// link. Only on the admin host. Among 100 nodes on slow links the last one takes a tenth longer
/// without it.
fn stop_pacing(listener: &TcpListener) {
    let socket = socket2::SockRef::from(listener);
    if socket.tcp_congestion().is_ok_and(|name| name.starts_with(b"bbr")) {
        // a failure costs only speed
        let _ = socket.set_tcp_congestion(b"cubic");
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() {
        // whatever the system's default: `[::]` serves IPv4 as well
        socket2::SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(session: Arc<SessionShared>, listener: TcpListener, tasks: TaskTracker) {
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = session.cancel.cancelled() => return,
        };
        let (stream, address) = match accepted {
            Ok((stream, address)) => (stream, address.ip()),
            Err(error) if is_out_of_descriptors(&error) => {
                if warned.is_none_or(|at| at.elapsed() >= NO_DESCRIPTOR_WARNING) {
                    warned = Some(Instant::now());
                    log::warn!(
                        %error,
                        "no file descriptor is left for another peer; those connected are served. \
                         Raise the limit: LimitNOFILE= in the unit, or ulimit -n"
                    );
                }
                tokio::time::sleep(NO_DESCRIPTOR_PAUSE).await;
                continue;
            }
            Err(error) => {
                // a connection that was gone before we took it
                log::debug!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let pass = match session.door.enter(address, session.started.elapsed()) {
            Ok(pass) => pass,
            Err(reason) => {
                log::debug!(%address, %reason, "connection turned away");
                continue;
            }
        };
        let session = session.clone();
        tasks::spawn(&tasks, async move {
            tokio::select! {
                () = incoming(&session, stream, address, pass) => {}
                () = session.cancel.cancelled() => {}
            }
        });
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

async fn incoming(
    session: &Arc<SessionShared>,
    mut stream: TcpStream,
    address: IpAddr,
    pass: Pass,
) {
    handshake::prepare(&stream);
    let limit = session.config.connect_timeout * 2;
    let read = tokio::time::timeout(limit, handshake::read(&mut stream)).await;
    let theirs = match read.unwrap_or(Err(HandshakeError::Timeout(limit))) {
        Ok(theirs) => theirs,
        Err(error) => {
            log::debug!(%address, %error, "incoming handshake failed");
            return session.door.strike(address, session.started.elapsed());
        }
    };
    let Some(torrent) = session.find(theirs.info_hash) else {
        return log::debug!(info_hash = %theirs.info_hash, "a peer asks for an unknown torrent");
    };
    drop(pass);
    let joined = torrent.tasks.clone();
    // the torrent's own task: it is joined when the torrent is removed
    tasks::spawn(&joined, link::run(torrent, stream, theirs, Side::Accepted));
}
