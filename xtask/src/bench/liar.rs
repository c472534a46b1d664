//! A hostile peer: it is announced as complete, says that it has every piece, unchokes everybody, and
//! sends wrong bytes.
//!
//! Run on a node of the lab as `bench liar` (a hidden subcommand). Threads and blocking sockets will
//! do: it is the honest side that is measured.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use lab::Cmd;
use proto::announce::{AnnounceEvent, AnnounceRequest, AnnounceResponse};
use proto::geometry::Block;
use proto::hash::{PeerId, PeerRole};
use proto::metainfo::Metainfo;
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, MAX_REQUEST_LEN, Message, piece_header};

use super::content::Content;

/// Port for peers, as everybody's in the lab.
const PORT: u16 = 6881;

/// Most connections at once.
const CONNECTIONS: usize = 400;

/// Between two announces: new victims come all the time.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a connection or an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Largest tracker reply that is read.
const REPLY_LIMIT: u64 = 1 << 20;

/// Arguments of the hidden `cargo xtask bench liar`.
#[derive(Debug, Parser)]
pub(crate) struct LiarArgs {
    /// The torrent that it pretends to have
    #[arg(long)]
    torrent: PathBuf,
}

/// The command that runs a liar on a node.
pub(crate) fn command(content: &Content) -> anyhow::Result<Cmd> {
    let program = std::env::current_exe().context("cannot tell this program's path")?;
    Ok(Cmd::new(program).args(["bench", "liar", "--torrent"]).arg(&content.offer.torrent))
}

/// Lies until it is killed.
pub(crate) fn run(args: &LiarArgs) -> anyhow::Result<()> {
    let bytes = fs::read(&args.torrent)
        .with_context(|| format!("cannot read {}", args.torrent.display()))?;
    let metainfo = Metainfo::parse(&bytes)
        .with_context(|| format!("{} is no torrent", args.torrent.display()))?;
    let liar = Liar {
        hello: Handshake {
            info_hash: metainfo.info_hash,
            peer_id: PeerId::new(PeerRole::Node, id()),
            features: Features { fast: true, extended: false, v2: false },
        },
        metainfo,
        connections: AtomicUsize::new(0),
    };
    let liar = Arc::new(liar);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("cannot listen")?;
    let theirs = Arc::clone(&liar);
    thread::spawn(move || {
        loop {
            // a tracker that is down now may be there next time
            for peer in theirs.announce().unwrap_or_default() {
                theirs.clone().dial(peer);
            }
            thread::sleep(ANNOUNCE_INTERVAL);
        }
    });
    for stream in listener.incoming().flatten() {
        liar.clone().serve(stream);
    }
    Ok(())
}

struct Liar {
    metainfo: Metainfo,
    hello: Handshake,
    connections: AtomicUsize,
}

impl Liar {
    /// Tells the first tracker of the torrent that it is complete; returns whom that names.
    fn announce(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let url = self.metainfo.trackers.iter().flatten().next().context("no tracker")?;
        let (host, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .with_context(|| format!("cannot announce to {url}"))?;
        let address: SocketAddr = host.parse()?;
        let (info_hash, peer_id) = (self.hello.info_hash, self.hello.peer_id);
        let request = AnnounceRequest {
            left: 0,
            event: Some(AnnounceEvent::Started),
            numwant: Some(50),
            ..AnnounceRequest::new(info_hash, peer_id, PORT)
        };
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let query = request.to_query();
        write!(stream, "GET /{path}?{query} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
        let mut reply = Vec::new();
        stream.take(REPLY_LIMIT).read_to_end(&mut reply)?;
        let body = body(&reply).context("the tracker's answer has no body")?;
        match AnnounceResponse::parse(body)? {
            AnnounceResponse::Peers(peers) => Ok(peers.peers.iter().map(|p| p.address).collect()),
            AnnounceResponse::Failure(reason) => bail!("the tracker refuses: {reason}"),
        }
    }

    /// Offers itself to a peer, unless it has enough to lie to.
    fn dial(self: Arc<Self>, peer: SocketAddr) {
        if self.connections.load(Ordering::Relaxed) < CONNECTIONS {
            thread::spawn(move || {
                if let Ok(stream) = TcpStream::connect_timeout(&peer, LIMIT) {
                    self.talk(stream);
                }
            });
        }
    }

    fn serve(self: Arc<Self>, stream: TcpStream) {
        if self.connections.load(Ordering::Relaxed) < CONNECTIONS {
            thread::spawn(move || self.talk(stream));
        }
    }

    fn talk(&self, stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        // being thrown out is what it is here for
        let _ = self.lie(stream);
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn lie(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.write_all(&self.hello.encode())?;
        let mut hello = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut hello)?;
        let theirs = Handshake::parse(&hello).map_err(io::Error::other)?;
        let mut out = self.claim(theirs.features);
        let (mut buffer, mut chunk) = (Vec::new(), [0; 16 * 1024]);
        loop {
            stream.write_all(&out)?;
            out.clear();
            let count = stream.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
            let mut used = 0;
            while let Some((message, length)) =
                Message::parse(buffer.get(used..).unwrap_or_default()).map_err(io::Error::other)?
            {
                if let Message::Request(block) = message {
                    answer(block, &mut out);
                }
                used += length;
            }
            buffer.drain(..used);
        }
    }

    /// Every piece, and everybody may ask.
    fn claim(&self, features: Features) -> Vec<u8> {
        let mut out = Vec::new();
        let pieces = self.metainfo.info.geometry.pieces();
        let mut bits = vec![0xff; pieces.div_ceil(8) as usize];
        if let (Some(last), rest @ 1..) = (bits.last_mut(), pieces % 8) {
            // spare bits must be zero (BEP 3)
            *last = 0xff << (8 - rest);
        }
        match features.fast {
            true => Message::HaveAll.encode(&mut out),
            false => Message::Bitfield(&bits).encode(&mut out),
        }
        Message::Unchoke.encode(&mut out);
        out
    }
}

/// A block with nothing right in it.
fn answer(block: Block, out: &mut Vec<u8>) {
    if block.length <= MAX_REQUEST_LEN {
        out.extend(piece_header(block));
        out.resize(out.len() + block.length as usize, 0xa5);
    }
}

/// What follows an HTTP header.
fn body(reply: &[u8]) -> Option<&[u8]> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    reply.get(end + 4..)
}

/// Something that no other liar of the lab has.
fn id() -> [u8; 12] {
    let mut id = *b"liar--------";
    let number = std::process::id().to_be_bytes();
    if let Some(rest) = id.get_mut(8..) {
        rest.copy_from_slice(&number);
    }
    id
}

#[cfg(test)]
mod tests {
    use proto::geometry::{Geometry, PieceIndex};
    use proto::hash::PieceHash;
    use proto::metainfo::Info;

    use super::*;

    fn liar() -> Arc<Liar> {
        let image = vec![1u8; 10 * 16_384];
        let geometry = Geometry::new(image.len() as u64, 16_384).unwrap();
        let pieces = image.chunks(16_384).map(PieceHash::of).collect();
        let info = Info::new("image", geometry, true, pieces).unwrap();
        let metainfo = Metainfo::new(info, vec![], vec![], None).unwrap();
        let features = Features { fast: true, extended: false, v2: false };
        let peer_id = PeerId::new(PeerRole::Node, id());
        let hello = Handshake { info_hash: metainfo.info_hash, peer_id, features };
        Arc::new(Liar { metainfo, hello, connections: AtomicUsize::new(0) })
    }

    #[test]
    fn it_claims_everything_and_sends_wrong_bytes() {
        let liar = liar();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut victim = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        victim.set_read_timeout(Some(LIMIT)).unwrap();
        liar.clone().serve(listener.accept().unwrap().0);
        victim.write_all(&liar.hello.encode()).unwrap();
        let mut hello = [0; HANDSHAKE_LEN];
        victim.read_exact(&mut hello).unwrap();
        assert_eq!(Handshake::parse(&hello).unwrap().info_hash, liar.metainfo.info_hash);
        let block = Block { piece: PieceIndex(3), begin: 0, length: 16_384 };
        let mut ask = Vec::new();
        Message::Request(block).encode(&mut ask);
        victim.write_all(&ask).unwrap();
        let mut bytes = vec![0; 5 + 5 + 13 + 16_384];
        victim.read_exact(&mut bytes).unwrap();
        let (first, used) = Message::parse(&bytes).unwrap().unwrap();
        assert!(matches!(first, Message::HaveAll));
        let (second, more) = Message::parse(&bytes[used..]).unwrap().unwrap();
        assert!(matches!(second, Message::Unchoke));
        let (third, _) = Message::parse(&bytes[used + more..]).unwrap().unwrap();
        let Message::Piece { piece, begin, data } = third else { panic!("{third:?}") };
        assert_eq!((piece, begin, data.len()), (PieceIndex(3), 0, 16_384));
        assert!(data.iter().all(|byte| *byte != 1), "not a byte of the image");
    }

    #[test]
    fn clients_without_the_fast_extension_get_a_bitfield() {
        let out = liar().claim(Features { fast: false, extended: false, v2: false });
        let (message, _) = Message::parse(&out).unwrap().unwrap();
        assert!(matches!(message, Message::Bitfield(&[0xff, 0b1100_0000])), "{message:?}");
    }

    #[test]
    fn absurd_requests_are_not_answered() {
        let mut out = Vec::new();
        answer(Block { piece: PieceIndex(0), begin: 0, length: u32::MAX }, &mut out);
        assert!(out.is_empty());
    }
}
