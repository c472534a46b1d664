//! One connection: a task that reads and a task that writes.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use proto::bitfield::Bitfield;
use proto::extension::ExtendedHandshake;
use proto::geometry::{BLOCK_LEN, Block};
use proto::wire::{Handshake, Message, WireError, message_length};
use sys::socket::set_receive_low_water;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Notify;

use super::book::{canonical, with_port};
use super::intake::Intake;
use super::pex::{self, Exchange};
use super::state::{Link, State};
use super::torrent::Shared;
use super::writer::Writer;
use super::{runs, segment};
use crate::core::{Control, Identity, Moment, PeerKey, PeerSetup, Violation};
use crate::log;

/// Missing bytes of a message for which the reader sleeps until all are there: two packets.
const WORTH_WAITING: usize = 2 * 1448;

/// Questions for hashes that may wait for an answer: each may cost the reading of a piece.
const QUESTIONS: usize = 32;

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

/// Which side of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// We dialled: both handshakes are done.
    Dialled,
    /// We were dialled: our handshake goes out with the first messages.
    Accepted,
}

/// Takes over a connection after the peer's handshake; returns when it is closed.
pub(crate) async fn run(shared: Arc<Shared>, stream: TcpStream, theirs: Handshake, side: Side) {
    let outgoing = side == Side::Dialled;
    let hello = shared.hello();
    let (greeting, v2) = match side {
        Side::Dialled => (Vec::new(), hello.is_upgraded_by(&theirs)),
        Side::Accepted => {
            let (greeting, v2) = hello.answer(&theirs);
            (greeting.to_vec(), v2)
        }
    };
    let Ok(address) = stream.peer_addr().map(canonical) else { return };
    let Ok(local) = stream.local_addr().map(canonical) else { return };
    let identity = Identity { ip: address.ip(), id: theirs.peer_id };
    let (read, write) = stream.into_split();
    let write = Arc::new(write);
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
            drop(state);
            // so that it does not take us for dead
            let _ = write.try_write(&greeting);
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
            out: VecDeque::new(),
            run: BLOCK_LEN,
            questions: VecDeque::new(),
            socket: Some(write.clone()),
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
            let fast = theirs.features.fast;
            core.connected(now, key, PeerSetup { identity, fast, near, v2 });
        }
        let todo = state.drain();
        drop(state);
        shared.carry_out(todo);
        key
    };
    log::debug!(peer = %address, id = %theirs.peer_id, outgoing, "peer connected");
    let writer = Writer::new(&shared, key, &cancel, &wake, greeting);
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
        () = writer.run((*write).as_ref(), theirs.features.extended) => {}
        () = cancel.cancelled() => {}
    }
    shared.unlink(key);
}

async fn read_loop(
    shared: &Arc<Shared>,
    key: PeerKey,
    mut stream: OwnedReadHalf,
) -> Result<(), LinkError> {
    let limiter = &shared.session.down_limiter;
    let portion = usize::try_from(limiter.portion()).unwrap_or(usize::MAX);
    let mut intake = Intake::new(portion);
    let mut low_water = 1;
    loop {
        let filled = intake.filled();
        let missing = message_length(filled).map_or(1, |length| length - filled.len());
        // nothing can be done with half a block, so nobody is woken for each of its packets
        let wanted = if missing >= WORTH_WAITING { missing.min(intake.largest()) } else { 1 };
        if wanted != low_water {
            // a failure costs only speed
            let _ =
                set_receive_low_water(stream.as_ref().as_fd(), u32::try_from(wanted).unwrap_or(1));
            low_water = wanted;
        }
        let count = stream.read(intake.room(wanted)).await.map_err(LinkError::Read)?;
        if count == 0 {
            return Ok(());
        }
        intake.read(count);
        let mut used = 0;
        let todo = {
            let now = shared.now();
            let mut state = shared.lock();
            if let Some(link) = state.links.get_mut(&key) {
                link.heard = now;
            }
            while let Some((message, length)) =
                Message::parse(&intake.filled()[used..]).map_err(LinkError::Wire)?
            {
                used += length;
                receive(shared, &mut state, now, key, message).map_err(LinkError::Violation)?;
            }
            let mut todo = state.drain();
            let others = shared.disk.queue.batch() - 1;
            todo.more_soon =
                !todo.verify.is_empty() && others > 0 && state.is_more_soon(now, others);
            todo
        };
        intake.consume(used);
        shared.carry_out(todo);
        limiter.pay(count as u64).await;
        // who sends faster than can be hashed waits in the kernel's buffers
        shared.disk.room().await;
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
            let run = Block { piece, begin, length };
            if length <= BLOCK_LEN {
                return state.block(now, key, run, data);
            }
            let mut each = run.parts().zip(data.chunks(BLOCK_LEN as usize));
            return each.try_for_each(|(block, data)| state.block(now, key, block, data));
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
        Message::HashRequest(range) => {
            if let Some(link) = state.links.get_mut(&key) {
                if link.questions.len() >= QUESTIONS {
                    return Err(Violation::Questions);
                }
                link.questions.push_back(range);
                link.wake.notify_one();
            }
            return Ok(());
        }
        Message::Hashes { range, nodes } => {
            if let Some(tree) = shared.metainfo.info.tree() {
                state.hashes(now, key, tree, &range, nodes);
            }
            return Ok(());
        }
        Message::HashReject(range) => {
            if let Some(tree) = shared.metainfo.info.tree() {
                state.hashes(now, key, tree, &range, &[]);
            }
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
        core.extension(key, hello.request_queue, hello.upload_only, hello.run.is_some());
    }
    if let Some(link) = state.links.get_mut(&key) {
        if !private {
            link.pex.greeted(&hello, now);
        }
        link.run = runs::agreed(hello.run);
        link.client = hello.client;
        if let Some(port) = hello.port.filter(|_| !link.outgoing) {
            let listens = with_port(link.address, port);
            link.listens = Some(listens);
            state.book.listens(listens, key, now);
        }
    }
}
