//! Connections: from accept(2) to their end.
//!
//! A connection has deadlines for everything a client could delay: request head, body, and its whole
//! life. Their number is bounded, in all and per address, so that one broken host does not lock out
//! the others.
//!
//! An announce that is there already when its connection is accepted is answered at once ([`quick`]);
//! every other connection gets a task.

use std::collections::HashMap;
use std::io::{self, Cursor, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream as Accepted};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt as _, Interest, join};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce::Ends;
use crate::app::{App, lock};
use crate::http::{self, Transport, quick};

/// Pause after a failed accept(2), which mostly means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time for the beginning of a TLS connection, for a first byte, and for an announce's answer to be taken.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long open connections may take to finish at shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// Longest first piece of a request; an announce has less.
const FIRST: usize = 4096;

/// A listener whose connections are not known to the runtime until that is worth it.
#[derive(Debug)]
pub(super) struct Door {
    listener: AsyncFd<TcpListener>,
    local: SocketAddr,
}

impl Door {
    pub(super) fn new(listener: tokio::net::TcpListener) -> io::Result<Self> {
        let local = listener.local_addr()?;
        #[expect(
            deprecated,
            reason = "unsound for types whose descriptor changes, which the standard library's does \
                      not; its successor is unsafe for all"
        )]
        let listener = AsyncFd::with_interest(listener.into_std()?, Interest::READABLE)?;
        Ok(Self { listener, local })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection, and both its ends.
    async fn next(&self) -> io::Result<(Accepted, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accept = |listener: &AsyncFd<TcpListener>| {
            let (stream, peer) = acceptfrom_with(listener.get_ref(), flags)?;
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            Ok((Accepted::from(stream), peer.ok_or(ErrorKind::NotConnected)?))
        };
        loop {
            // an error here says that there is nothing to accept after all
            if let Ok(accepted) = self.listener.readable().await?.try_io(accept) {
                return accepted;
            }
        }
    }

    fn ends(&self, stream: &Accepted, peer: SocketAddr) -> io::Result<Ends> {
        let any = self.local.ip().is_unspecified();
        let local = if any { stream.local_addr()? } else { self.local };
        Ok(Ends::of(peer, local))
    }
}

/// Room for connections, of all listeners together.
pub(super) struct Slots {
    all: Arc<Semaphore>,
    open: Open,
}

/// Open connections by address; the lock is held for a moment only.
type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

impl Slots {
    pub(super) fn new(app: &App) -> Self {
        let most = app.config.limits.connections.min(Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(most)), open: Open::default() }
    }
}

/// Takes connections until `stop`, and waits a while for their end.
pub(super) async fn accept(
    app: Arc<App>,
    door: Door,
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
            (slot, door.next().await)
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
        let begun = door.ends(&stream, peer).and_then(|ends| {
            let (read, write) =
                (|to: &mut [u8]| (&stream).read(to), |from: &[u8]| (&stream).write(from));
            let plain = tls.is_none().then(|| begin(&app, ends, read, write));
            Ok((ends, plain.transpose()?.unwrap_or_default()))
        });
        let (ends, begun) = match begun {
            Ok((_, Begun::Over)) => continue,
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%peer, %error, "connection lost");
                continue;
            }
        };
        let ip = ends.peer.ip();
        let Some(entered) = Entered::new(&slots.open, ip, limits.connections_per_address) else {
            app.metrics.connections_refused.add(1);
            continue;
        };
        let (app, service, stop, tls) = (app.clone(), service.clone(), stop.clone(), tls.clone());
        connections.spawn(async move {
            let served = match tls {
                None => plain(&app, stream, begun, service, ends, stop).await,
                Some(acceptor) => encrypted(stream, acceptor, service, ends, stop).await,
            };
            if let Err(error) = served {
                tracing::debug!(%peer, error = &*error, "connection ended");
            }
            drop((slot, entered));
        });
    }
    drop(door);
    connections.close();
    if timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections did not end in time");
    }
}

/// How far a connection is.
#[derive(Debug)]
enum Begun {
    /// This was read.
    Read(Vec<u8>),
    /// It is answered; this remains to be written.
    Answered(Vec<u8>),
    /// The client has its answer, or has gone.
    Over,
}

impl Default for Begun {
    fn default() -> Self {
        Self::Read(Vec::new())
    }
}

/// Takes what has come, and answers it when it is an announce. Never waits.
fn begin(
    app: &App,
    ends: Ends,
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    write: impl FnOnce(&[u8]) -> io::Result<usize>,
) -> io::Result<Begun> {
    let mut buffer = [0; FIRST];
    let request = match read(&mut buffer) {
        Ok(0) => return Ok(Begun::Over),
        Ok(length) => &buffer[..length],
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Begun::default()),
        Err(error) => return Err(error),
    };
    let Some(mut answer) = quick::answer(app, ends, request) else {
        return Ok(Begun::Read(request.to_vec()));
    };
    let written = match write(&answer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        written => written?,
    };
    if written == answer.len() {
        return Ok(Begun::Over);
    }
    // a long answer, into a short buffer
    Ok(Begun::Answered(answer.split_off(written)))
}

type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn plain(
    app: &App,
    stream: Accepted,
    mut begun: Begun,
    service: http::Service,
    ends: Ends,
    stop: CancellationToken,
) -> Served {
    let mut stream = TcpStream::from_std(stream)?;
    while matches!(&begun, Begun::Read(read) if read.is_empty()) {
        let ready = timeout(HANDSHAKE, stream.readable());
        // who says nothing until then is left alone
        let Some(Ok(ready)) = stop.run_until_cancelled(ready).await else { return Ok(()) };
        ready?;
        begun = begin(app, ends, |to| stream.try_read(to), |from| stream.try_write(from))?;
    }
    match begun {
        Begun::Over => {}
        Begun::Answered(rest) => timeout(HANDSHAKE, stream.write_all(&rest)).await??,
        Begun::Read(first) => {
            let (read, write) = stream.into_split();
            let whole = join(AsyncReadExt::chain(Cursor::new(first), read), write);
            service.serve(whole, ends, Transport::Plain, stop).await?;
        }
    }
    Ok(())
}

async fn encrypted(
    stream: Accepted,
    acceptor: TlsAcceptor,
    service: http::Service,
    ends: Ends,
    stop: CancellationToken,
) -> Served {
    let stream = timeout(HANDSHAKE, acceptor.accept(TcpStream::from_std(stream)?)).await??;
    // only who is signed by the admin's authority gets this far with a certificate
    let certified = stream.get_ref().1.peer_certificates().is_some();
    Ok(service.serve(stream, ends, Transport::Tls { certified }, stop).await?)
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
