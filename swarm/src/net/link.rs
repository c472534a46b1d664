//! One connection: a task that reads and a task that writes.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use proto::bitfield::Bitfield;
use proto::extension::ExtendedHandshake;
use proto::geometry::Block;
use proto::wire::{Handshake, Message, WireError, message_length};
use sys::socket::set_receive_low_water;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::book::{canonical, with_port};
use super::limiter::PeerLimiter;
use super::pex::{self, Exchange};
use super::segment;
use super::state::{Link, State, Todo};
use super::torrent::Shared;
use crate::config::Role;
use crate::core::{Control, Identity, Moment, PeerKey, PeerSetup, Violation};
use crate::log;

/// Others drop a connection after two minutes of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(90);

/// Receive buffers: small for peers that only ask, large for peers that deliver.
const SMALL_READ: usize = 4 * 1024;
const LARGE_READ: usize = 128 * 1024;

/// Missing bytes of a message for which the reader sleeps until all are there: two packets.
const WORTH_WAITING: usize = 2 * 1448;

/// Why a connection ended, where it is our doing or the peer's fault.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("read failed")]
    Read(#[source] std::io::Error),
    #[error("malformed message")]
    Wire(#[source] WireError),
    #[error("protocol violation")]
    Violation(#[source] Violation),
}

/// Takes over a connection after the handshake; returns when it is closed.
pub(crate) async fn run(shared: Arc<Shared>, stream: TcpStream, theirs: Handshake, outgoing: bool) {
    let Ok(address) = stream.peer_addr().map(canonical) else { return };
    let Ok(local) = stream.local_addr().map(canonical) else { return };
    let identity = Identity { ip: address.ip(), id: theirs.peer_id };
    let cancel = shared.cancel.child_token();
    let wake = Arc::new(Notify::new());
    let own_id = shared.session.peer_id;
    let key = {
        let now = shared.now();
        let mut state = shared.lock();
        if own_id == theirs.peer_id {
            state.book.forget(address);
            return;
        }
        if let Err(reason) =
            state.admit(identity, local, outgoing, own_id, &shared.session.config, now)
        {
            log::debug!(peer = %address, reason, "peer refused");
            if outgoing {
                state.book.failed(address, now);
            }
            return;
        }
        state.book.at_home(local.ip());
        let key = state.new_key();
        let link = Link {
            address,
            peer_id: theirs.peer_id,
            outgoing,
            client: None,
            local,
            listens: outgoing.then_some(address),
            pex: Exchange::default(),
            out: std::collections::VecDeque::new(),
            wake: wake.clone(),
            cancel: cancel.clone(),
            since: now,
            heard: now,
            closing: None,
        };
        state.links.insert(key, link);
        if outgoing {
            state.book.connected(address, key);
        }
        if let Some(core) = &mut state.core {
            let near = segment::is_shared(local.ip(), address.ip());
            core.connected(now, key, PeerSetup { identity, fast: theirs.features.fast, near });
        }
        let todo = state.drain();
        drop(state);
        shared.carry_out(todo);
        key
    };
    log::debug!(peer = %address, id = %theirs.peer_id, outgoing, "peer connected");
    let (read, write) = stream.into_split();
    let limiter = shared.session.limiter.with_own(shared.session.config.upload_limit_per_peer);
    let writer =
        Writer { shared: &shared, limiter, key, cancel: &cancel, wake: &wake, buffer: Vec::new() };
    tokio::select! {
        result = read_loop(&shared, key, read) => {
            if let Err(error) = result {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                log::debug!(peer = %address, %error, cause, "peer dropped");
                if !matches!(error, LinkError::Read(_)) {
                    shared.session.door.strike(address.ip(), shared.now());
                }
            }
        }
        () = writer.run(write, theirs.features.extended) => {}
        () = cancel.cancelled() => {}
    }
    shared.unlink(key);
}

async fn read_loop(
    shared: &Arc<Shared>,
    key: PeerKey,
    mut stream: OwnedReadHalf,
) -> Result<(), LinkError> {
    let mut buffer = BytesMut::new();
    let limiter = &shared.session.down_limiter;
    let portion = usize::try_from(limiter.portion()).unwrap_or(usize::MAX);
    let largest = LARGE_READ.min(portion).max(SMALL_READ);
    let mut chunk = SMALL_READ;
    let mut low_water = 1;
    loop {
        let missing = message_length(&buffer).map_or(1, |length| length - buffer.len());
        // nothing can be done with half a block, so nobody is woken for each of its packets
        let wanted = if missing >= WORTH_WAITING { missing.min(largest) } else { 1 };
        if wanted != low_water {
            // a failure costs only speed
            let _ =
                set_receive_low_water(stream.as_ref().as_fd(), u32::try_from(wanted).unwrap_or(1));
            low_water = wanted;
        }
        if buffer.capacity() - buffer.len() < (chunk / 2).max(wanted) {
            buffer.reserve(chunk.max(wanted));
        }
        let room = buffer.capacity() - buffer.len();
        let count = stream.read_buf(&mut buffer).await.map_err(LinkError::Read)?;
        if count == 0 {
            return Ok(());
        }
        if count == room {
            chunk = (chunk * 2).min(largest);
        }
        let mut used = 0;
        let todo = {
            let now = shared.now();
            let mut state = shared.lock();
            if let Some(link) = state.links.get_mut(&key) {
                link.heard = now;
            }
            while let Some((message, length)) =
                Message::parse(&buffer[used..]).map_err(LinkError::Wire)?
            {
                used += length;
                receive(shared, &mut state, now, key, message).map_err(LinkError::Violation)?;
            }
            state.drain()
        };
        buffer.advance(used);
        shared.carry_out(todo);
        limiter.pay(count as u64).await;
    }
}

fn receive(
    shared: &Shared,
    state: &mut State,
    now: Moment,
    key: PeerKey,
    message: Message<'_>,
) -> Result<(), Violation> {
    let control = match message {
        Message::Piece { piece, begin, data } => {
            let length = u32::try_from(data.len()).map_err(|_| Violation::BadBlock(piece.0))?;
            return state.block(now, key, Block { piece, begin, length }, data);
        }
        Message::Choke => Control::Choke,
        Message::Unchoke => Control::Unchoke,
        Message::Interested => Control::Interested,
        Message::NotInterested => Control::NotInterested,
        Message::Have(piece) => Control::Have(piece),
        Message::Bitfield(bytes) => {
            let pieces = shared.metainfo.info.geometry.pieces();
            Control::Bitfield(
                Bitfield::from_bytes(bytes, pieces).map_err(|_| Violation::BadBitfield)?,
            )
        }
        Message::HaveAll => Control::HaveAll,
        Message::HaveNone => Control::HaveNone,
        Message::Request(block) => Control::Request(block),
        Message::Cancel(block) => Control::Cancel(block),
        Message::Reject(block) => Control::Reject(block),
        Message::Extended { id, payload } => {
            extended(shared, state, now, key, id, payload);
            return Ok(());
        }
        // advice and what we do not know
        _ => return Ok(()),
    };
    match &mut state.core {
        Some(core) => core.message(now, key, control),
        None => Ok(()),
    }
}

fn extended(shared: &Shared, state: &mut State, now: Moment, key: PeerKey, id: u8, payload: &[u8]) {
    let private = shared.metainfo.info.private;
    if id == pex::ID && !private && pex::receive(state, now, key, payload) {
        shared.ticker.notify_one();
    }
    if id != 0 {
        return;
    }
    // a broken one says nothing about the data it sends
    let Ok(hello) = ExtendedHandshake::parse(payload) else { return };
    if let Some(core) = &mut state.core {
        core.extension(key, hello.request_queue, hello.upload_only);
    }
    if let Some(link) = state.links.get_mut(&key) {
        if !private {
            link.pex.greeted(&hello, now);
        }
        link.client = hello.client;
        if let Some(port) = hello.port.filter(|_| !link.outgoing) {
            let listens = with_port(link.address, port);
            link.listens = Some(listens);
            state.book.listens(listens, key, now);
        }
    }
}

struct Writer<'a> {
    shared: &'a Arc<Shared>,
    limiter: PeerLimiter<'a>,
    key: PeerKey,
    cancel: &'a CancellationToken,
    wake: &'a Notify,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    async fn run(mut self, mut stream: OwnedWriteHalf, mut extended: bool) {
        let mut blocks = Vec::new();
        loop {
            let closing = self.collect(&mut blocks);
            // after the bitfield, which BEP 3 wants first
            if std::mem::take(&mut extended) {
                self.hello();
            }
            let mut bytes = 0;
            for block in &blocks {
                if let Err(error) = self.shared.disk.append_block(*block, &mut self.buffer).await {
                    self.shared.fail(error);
                    return;
                }
                bytes += u64::from(block.length);
            }
            if self.buffer.is_empty() {
                if closing {
                    return;
                }
                if tokio::time::timeout(KEEP_ALIVE, self.wake.notified()).await.is_err() {
                    Message::KeepAlive.encode(&mut self.buffer);
                }
                if self.buffer.is_empty() {
                    continue;
                }
            }
            if bytes > 0 {
                self.limiter.pay(bytes).await;
            }
            let limit = self.shared.session.config.write_timeout;
            let write = tokio::time::timeout(limit, stream.write_all(&self.buffer));
            if !matches!(write.await, Ok(Ok(()))) {
                self.cancel.cancel();
                return;
            }
            self.buffer.clear();
            self.buffer.shrink_to(128 * 1024);
        }
    }

    /// Notes that `blocks` are with the socket, encodes the messages that wait and replaces `blocks`
    /// by the next ones: what is left of the peer's turn. True when the connection is to be closed.
    fn collect(&mut self, blocks: &mut Vec<Block>) -> bool {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let State { core, .. } = &mut *state;
        if let Some(core) = core {
            for block in blocks.drain(..) {
                core.uploaded(now, self.key, block);
            }
            let portion = self.limiter.portion();
            let mut bytes = 0;
            while bytes == 0 || bytes < portion {
                let Some(block) = core.next_upload(self.key) else { break };
                bytes += u64::from(block.length);
                blocks.push(block);
            }
        }
        let todo: Todo = state.drain();
        let Some(link) = state.links.get_mut(&self.key) else { return true };
        for message in link.out.drain(..) {
            encode(&message, &mut self.buffer);
        }
        link.pex.flush(&mut self.buffer);
        let closing = link.closing.is_some();
        drop(state);
        self.shared.carry_out(todo);
        closing
    }

    fn hello(&mut self) {
        let config = &self.shared.session.config;
        let role = match config.role {
            Role::Admin => "admin",
            Role::Node => "node",
        };
        let done = self.shared.lock().core.as_ref().is_some_and(crate::core::Torrent::is_done);
        let mut extensions = std::collections::BTreeMap::new();
        if !self.shared.metainfo.info.private {
            extensions.insert(proto::pex::NAME.to_owned(), pex::ID);
        }
        let hello = ExtendedHandshake {
            extensions,
            client: Some(format!("Beeswarm {} {role}", env!("CARGO_PKG_VERSION"))),
            port: Some(self.shared.session.local.port()),
            request_queue: Some(config.core.reqq),
            upload_only: done,
        };
        if let Ok(payload) = hello.encode() {
            Message::Extended { id: 0, payload: &payload }.encode(&mut self.buffer);
        }
    }
}

fn encode(message: &Control, out: &mut Vec<u8>) {
    match message {
        Control::Choke => Message::Choke,
        Control::Unchoke => Message::Unchoke,
        Control::Interested => Message::Interested,
        Control::NotInterested => Message::NotInterested,
        Control::Have(piece) => Message::Have(*piece),
        Control::Bitfield(field) => Message::Bitfield(field.as_bytes()),
        Control::HaveAll => Message::HaveAll,
        Control::HaveNone => Message::HaveNone,
        Control::Request(block) => Message::Request(*block),
        Control::Cancel(block) => Message::Cancel(*block),
        Control::Reject(block) => Message::Reject(*block),
    }
    .encode(out);
}
