//! The sending side of one connection.

use std::sync::Arc;
use std::time::Duration;

use proto::extension::ExtendedHandshake;
use proto::geometry::{BLOCK_LEN, Block};
use proto::hash_range::HashRange;
use proto::metainfo::Metainfo;
use proto::wire::Message;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::limiter::PeerLimiter;
use super::outgoing::{Outgoing, SendError, Unsent};
use super::pex;
use super::runs;
use super::state::{State, Todo};
use super::torrent::Shared;
use crate::config::Role;
use crate::core::{Control, PeerKey};

/// Others drop a connection after two minutes of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(90);

/// Sends what the core and the peers' requests want sent.
pub(super) struct Writer<'a> {
    shared: &'a Arc<Shared>,
    limiter: PeerLimiter<'a>,
    key: PeerKey,
    cancel: &'a CancellationToken,
    wake: &'a Notify,
    out: Outgoing,
    unsent: Unsent,
    /// Longest run of blocks that the peer takes.
    run: u32,
}

impl<'a> Writer<'a> {
    /// `greeting` goes out before everything else, with the first messages.
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        key: PeerKey,
        cancel: &'a CancellationToken,
        wake: &'a Notify,
        greeting: Vec<u8>,
    ) -> Self {
        let limiter = shared.session.limiter.with_own(shared.session.config.upload_limit_per_peer);
        let unsent = Unsent::new(shared.now());
        let mut out = Outgoing::default();
        out.bytes = greeting;
        Self { shared, limiter, key, cancel, wake, out, unsent, run: BLOCK_LEN }
    }

    /// Returns when the connection is to be closed.
    pub(super) async fn run(mut self, stream: &TcpStream, mut extended: bool) {
        let mut blocks = Vec::new();
        loop {
            let (closing, question) = self.collect(&mut blocks);
            if let Some(range) = question {
                self.answer(range).await;
            }
            // after the bitfield, which BEP 3 wants first
            if std::mem::take(&mut extended) {
                self.hello();
            }
            let mut bytes = 0;
            // where the kernel may hold less than a run, the first block would wait for the last
            let longest = self.run.min(self.unsent.bound());
            for run in runs::of_blocks(&blocks, longest) {
                if let Err(error) = self.shared.disk.append_block(run, &mut self.out).await {
                    return self.shared.fail(error);
                }
                bytes += u64::from(run.length);
            }
            if self.out.is_empty() {
                if closing {
                    return;
                }
                if tokio::time::timeout(KEEP_ALIVE, self.wake.notified()).await.is_err() {
                    Message::KeepAlive.encode(&mut self.out.bytes);
                }
                if self.out.is_empty() {
                    continue;
                }
            }
            if bytes > 0 {
                self.limiter.pay(bytes).await;
            }
            let limit = self.shared.session.config.write_timeout;
            let send = self.out.send(stream, self.shared.disk.file());
            match tokio::time::timeout(limit, send).await {
                Ok(Ok(())) => {}
                Ok(Err(SendError::Image { offset })) => {
                    if let Err(error) = self.shared.disk.probe(offset).await {
                        self.shared.fail(error);
                    }
                    return self.cancel.cancel();
                }
                Ok(Err(SendError::Connection)) | Err(_) => return self.cancel.cancel(),
            }
            if let Some(bound) = self.unsent.sent(bytes, self.shared.now()) {
                // a failure costs only speed
                let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(bound);
            }
            self.out.clear();
        }
    }

    /// Notes that `blocks` are with the socket, encodes the messages that wait and replaces `blocks`
    /// by the next ones: what is left of the peer's turn. True when the connection is to be closed;
    /// with it a question for hashes.
    fn collect(&mut self, blocks: &mut Vec<Block>) -> (bool, Option<HashRange>) {
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
                let Some(block) = core.next_upload(now, self.key) else { break };
                bytes += u64::from(block.length);
                blocks.push(block);
            }
        }
        let todo: Todo = state.drain();
        let Some(link) = state.links.get_mut(&self.key) else { return (true, None) };
        self.run = link.run;
        for message in runs::of_requests(link.out.drain(..), link.run) {
            encode(&message, &self.shared.metainfo, &mut self.out.bytes);
        }
        link.pex.flush(&mut self.out.bytes);
        let (closing, question) = (link.closing.is_some(), link.questions.pop_front());
        drop(state);
        self.shared.carry_out(todo);
        (closing, question)
    }

    /// Sends hashes, or that there are none.
    async fn answer(&mut self, range: HashRange) {
        let nodes = self.nodes(&range).await;
        let message = match &nodes {
            Some(nodes) => Message::Hashes { range, nodes },
            None => Message::HashReject(range),
        };
        message.encode(&mut self.out.bytes);
    }

    async fn nodes(&self, range: &HashRange) -> Option<Vec<[u8; 32]>> {
        let tree = self.shared.metainfo.info.tree()?;
        let blocks = match tree.piece_of(range) {
            Some(piece) if self.shared.has(piece) => self.shared.disk.block_digests(piece).await?,
            Some(_) => return None,
            None => Vec::new(),
        };
        let nodes = tree.answer(range, &blocks)?;
        Some(nodes.into_iter().map(|node| node.0).collect())
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
            run: Some(runs::LONGEST),
        };
        if let Ok(payload) = hello.encode() {
            Message::Extended { id: 0, payload: &payload }.encode(&mut self.out.bytes);
        }
    }
}

fn encode(message: &Control, metainfo: &Metainfo, out: &mut Vec<u8>) {
    match message {
        Control::AskHashes(piece) => {
            match metainfo.info.tree().and_then(|tree| tree.blocks_of(*piece)) {
                Some(range) => Message::HashRequest(range),
                None => return,
            }
        }
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
