//! Announces and scrapes over UDP (BEP 15, options of BEP 41).
//!
//! A client first asks for a connection id, and is listened to only with one: that proves its address, so
//! that nobody can put others into a swarm, or have answers, which are six times as long as questions, sent
//! to them. Ids are computed, not kept ([`connection_id`]); whatever is sent here with invented addresses, no
//! memory is taken.
//!
//! Up to 64 datagrams are taken and answered by one system call each: of the four microseconds that a
//! datagram costs otherwise, system calls are three.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use proto::announce::failed;
use proto::hash::InfoHash;
use proto::udp_tracker::server::{self as codec, Ask, Request};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use sys::datagrams::{self, BATCH, Inbox, Outbox, Received};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::announce::{Asked, Ends, Refusal, canonical, decide};
use crate::app::App;
use crate::error::BindError;
use crate::policy::Scratch;
use crate::torrents::Counts;
use crate::torrents::peer::Key;

mod connection_id;

use connection_id::ConnectionIds;

/// Datagrams that wait in the kernel, in bytes: a crowd of thousands asks within one moment. The kernel
/// may allow less (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 << 20;

/// Peers in an answer over IPv6: more than these and it would not fit into a packet.
const MAX_V6: usize = 66;

/// Pause after a failed receive, which should not happen.
const PAUSE: Duration = Duration::from_millis(100);

/// To an announce with an id that is not good: clients that hear it connect anew at once, instead of
/// after 15 s of silence, when the tracker was started again. It is shorter than any announce, so it is of no
/// use to who wants to flood another address.
const STALE: &str = "connection id is unknown or old";

/// To who asks more than an address may. An answer and not silence, which clients take for a tracker that is gone,
/// and wait 15 s.
const TOO_OFTEN: &str = "too many requests from this address";

/// The socket.
#[derive(Debug)]
pub(crate) struct Door {
    socket: UdpSocket,
    local: SocketAddr,
}

impl Door {
    /// Opens a port.
    ///
    /// # Errors
    /// [`BindError`] when the address cannot be listened on.
    pub(crate) fn open(addr: SocketAddr) -> Result<Self, BindError> {
        let open = || -> io::Result<Self> {
            let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
            if addr.is_ipv6() {
                socket.set_only_v6(false)?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&addr.into())?;
            datagrams::tell_local_addresses(socket.as_fd(), addr.is_ipv6())?;
            let socket = UdpSocket::from_std(socket.into())?;
            let local = socket.local_addr()?;
            Ok(Self { socket, local })
        };
        let door = open().map_err(|source| BindError::Udp { addr, source })?;
        if let Err(error) = SockRef::from(&door.socket).set_recv_buffer_size(RECEIVE_BUFFER) {
            tracing::debug!(%error, "the default receive buffer has to do");
        }
        Ok(door)
    }

    /// Where it is.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers until `stop`.
    pub(crate) async fn serve(self, app: Arc<App>, stop: CancellationToken) {
        let mut desk = Desk::new(app, self.local);
        let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
        while stop.run_until_cancelled(self.socket.readable()).await.is_some() {
            let receive = || inbox.receive(self.socket.as_fd());
            match self.socket.try_io(Interest::READABLE, receive) {
                Ok(count) => {
                    let now = Instant::now();
                    inbox.iter().for_each(|received| desk.answer(received, now, &mut outbox));
                    outbox.send(self.socket.as_fd());
                    if count == BATCH {
                        // others want the processor, too
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot receive");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Answers datagrams; it has what is used again for each.
struct Desk {
    app: Arc<App>,
    ids: ConnectionIds,
    local: SocketAddr,
    rng: Rng,
    scratch: Scratch,
}

impl Desk {
    fn new(app: Arc<App>, local: SocketAddr) -> Self {
        let ids = ConnectionIds::new(Instant::now());
        Self { app, ids, local, rng: Rng::new(), scratch: Scratch::default() }
    }

    fn answer(&mut self, received: Received<'_>, now: Instant, outbox: &mut Outbox) {
        self.app.metrics.datagrams.add(1);
        let peer = canonical(received.from);
        let dropped = || self.app.metrics.datagrams_dropped.add(1);
        let Ok(request) = Request::parse(received.bytes) else { return dropped() };
        if peer.port() == 0 {
            return dropped();
        }
        let Request { connection, transaction, ask } = request;
        let refusal = if matches!(ask, Ask::Connect) {
            None
        } else if !self.ids.is_valid(connection, peer.ip(), now) {
            Some(STALE)
        } else {
            // after the id, so that nobody uses up what another address may ask
            (!self.app.rates.take(peer.ip(), now)).then_some(TOO_OFTEN)
        };
        if refusal.is_some() {
            dropped();
        }
        outbox.push(received.from, received.to, |out| match (ask, refusal) {
            (Ask::Connect, _) => codec::connected(out, transaction, self.ids.issue(peer.ip(), now)),
            // it would be longer than the question
            (Ask::Scrape(_), Some(STALE)) => {}
            (_, Some(refusal)) => codec::refused(out, transaction, refusal),
            (Ask::Announce(announce), None) => {
                let local = received.to.map_or(self.local.ip(), |ip| ip.to_canonical());
                let ends = Ends { peer, local: SocketAddr::new(local, self.local.port()) };
                self.announce(ends, transaction, &announce, now, out);
            }
            (Ask::Scrape(hashes), None) => self.scrape(transaction, hashes, out),
        });
    }

    fn announce(
        &mut self,
        ends: Ends,
        transaction: u32,
        announce: &codec::Announce<'_>,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let url_data = announce.url_data();
        let failed = match url_data.split_once('?') {
            Some((_, query)) => failed::parse(query),
            None => Vec::new(),
        };
        let want = announce.numwant;
        let most = u32::try_from(MAX_V6).unwrap_or(u32::MAX);
        let asked = Asked {
            info_hash: announce.info_hash,
            peer_id: announce.peer_id,
            port: announce.port,
            left: announce.left,
            event: announce.event,
            want: if ends.peer.is_ipv6() { want.map(|n| n.min(most)) } else { want },
            key: Key::from_number(announce.key),
            ip: announce.ip.map(IpAddr::V4).filter(|_| ends.peer.is_ipv4()),
            failed: &failed,
            own_family_only: true,
        };
        let Self { app, rng, scratch, .. } = self;
        match decide(app, ends, &asked, now, rng, scratch) {
            Ok(answer) => {
                app.metrics.announces.add(1);
                let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                let (leechers, seeds) = (number(answer.leechers), number(answer.seeds));
                let peers = scratch.named.iter().map(|peer| peer.addr);
                // a stated address may be of another family than the conversation
                let peers = peers.filter(|addr| addr.is_ipv4() == ends.peer.is_ipv4());
                codec::peers(out, transaction, answer.interval, leechers, seeds, peers);
            }
            Err(refusal) => self.refuse(ends, transaction, &refusal, out),
        }
    }

    fn refuse(&self, ends: Ends, transaction: u32, refusal: &Refusal, out: &mut Vec<u8>) {
        self.app.metrics.announce_failures.add(1);
        tracing::debug!(peer = %ends.peer, %refusal, "announce refused");
        codec::refused(out, transaction, &refusal.to_string());
    }

    fn scrape(&self, transaction: u32, hashes: &[[u8; 20]], out: &mut Vec<u8>) {
        self.app.metrics.scrapes.add(1);
        let none = Counts { seeds: 0, leechers: 0, completed: 0 };
        let entries = hashes.iter().map(|hash| {
            let info_hash = InfoHash(*hash);
            self.app.torrents.counts(&info_hash).unwrap_or(none).scraped(info_hash)
        });
        codec::scraped(out, transaction, entries);
    }
}
