//! A relay between two peers that reads along: who says what of the hashes of BEP 52.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lab::Node;
use proto::geometry::Block;
use proto::hash::{InfoHash, Sha256Digest};
use proto::hash_range::HashRange;
use proto::wire::{HANDSHAKE_LEN, Handshake, Message};

/// How often a side that says nothing is looked after.
const STEP: Duration = Duration::from_millis(50);

/// Which end of a connection spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who dialled.
    Caller,
    /// Who was dialled.
    Called,
}

/// What was said, as far as it matters here. Of a connection that is meddled with: before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// The torrent that a handshake names, and whether it offers BEP 52.
    Hello(InfoHash, bool),
    /// Message 21.
    Asks(HashRange),
    /// Message 22.
    Tells(HashRange, Vec<Sha256Digest>),
    /// Message 23.
    Refuses(HashRange),
    /// That the other side has something to ask for.
    Interested,
    /// A request for a block.
    Wants(Block),
}

/// What the relay does to what it passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meddling {
    /// Nothing.
    None,
    /// Neither side learns that the other speaks BEP 52.
    HidesV2,
    /// One bit of each answer is another.
    SpoilsHashes,
}

/// A relay that listens as long as the lab lives.
#[derive(Clone)]
pub(crate) struct Wire {
    meddling: Meddling,
    /// Nobody who is dialled lets the caller ask for data until then.
    open: Arc<AtomicBool>,
    said: Arc<Mutex<Vec<(Side, Said)>>>,
}

impl Wire {
    /// Listens on a node and passes connections on to `target`. With `open` unset the caller stays
    /// choked until [`Wire::open`].
    pub(crate) fn start(
        node: &Node,
        on: SocketAddr,
        target: SocketAddr,
        meddling: Meddling,
        open: bool,
    ) -> Wire {
        let wire = Wire { meddling, open: Arc::new(open.into()), said: Arc::default() };
        let listener = node.listen(on).unwrap();
        let (node, shared) = (node.clone(), wire.clone());
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                // refused: the caller sees its connection closed, and dials again
                let Ok(called) = node.connect(target, Duration::from_secs(5)) else { continue };
                for (from, to, side) in
                    [(&caller, &called, Side::Caller), (&called, &caller, Side::Called)]
                {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let wire = shared.clone();
                    thread::spawn(move || wire.pass(&from, &to, side));
                }
            }
        });
        wire
    }

    /// Passes on from now on that data may be asked for.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// Everything that was said up to now, in order.
    pub(crate) fn said(&self) -> Vec<(Side, Said)> {
        self.said.lock().unwrap().clone()
    }

    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream, side: Side) {
        from.set_read_timeout(Some(STEP)).unwrap();
        let (mut buffer, mut greeted, mut held) = (Vec::new(), false, false);
        let mut bytes = [0; 32 * 1024];
        loop {
            match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => buffer.extend(&bytes[..count]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
            let mut out = Vec::new();
            if !greeted && let Some(hello) = buffer.first_chunk::<HANDSHAKE_LEN>() {
                greeted = true;
                out.extend(self.hello(hello, side));
                buffer.drain(..HANDSHAKE_LEN);
            }
            while greeted && let Some((message, used)) = Message::parse(&buffer).unwrap() {
                if side == Side::Called && message == Message::Unchoke {
                    held = true;
                } else {
                    self.note(message, side);
                    out.extend(self.meddled(message, &buffer[..used]));
                }
                buffer.drain(..used);
            }
            if held && self.open.load(Ordering::SeqCst) {
                held = false;
                Message::Unchoke.encode(&mut out);
            }
            if to.write_all(&out).is_err() {
                break;
            }
        }
        // both ends, so that the other direction ends too
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn hello(&self, bytes: &[u8; HANDSHAKE_LEN], side: Side) -> [u8; HANDSHAKE_LEN] {
        let hello = Handshake::parse(bytes).unwrap();
        let said = Said::Hello(hello.info_hash, hello.features.v2);
        self.said.lock().unwrap().push((side, said));
        let mut bytes = *bytes;
        if self.meddling == Meddling::HidesV2 {
            bytes[27] &= !0x10;
        }
        bytes
    }

    fn note(&self, message: Message<'_>, side: Side) {
        let said = match message {
            Message::HashRequest(range) => Said::Asks(range),
            Message::Hashes { range, nodes } => {
                Said::Tells(range, nodes.iter().copied().map(Sha256Digest).collect())
            }
            Message::HashReject(range) => Said::Refuses(range),
            Message::Interested => Said::Interested,
            Message::Request(block) => Said::Wants(block),
            _ => return,
        };
        self.said.lock().unwrap().push((side, said));
    }

    fn meddled(&self, message: Message<'_>, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if self.meddling == Meddling::SpoilsHashes
            && matches!(message, Message::Hashes { .. })
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
        bytes
    }
}
