//! Adjacent blocks in one message (`bee_run`), and with peers that do not know of it.

use std::net::SocketAddr;

use proto::extension::ExtendedHandshake;
use proto::geometry::{BLOCK_LEN, Block, PieceIndex};
use proto::hash::{PeerId, PeerRole};
use proto::metainfo::Metainfo;
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PATIENCE, image, leecher, seeder, torrent_of};

const PIECE: u32 = 256 * 1024;
const RUN: u32 = 128 * 1024;
const LENGTH: usize = 12 << 20;

/// A hand-made peer, after its greeting.
struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    /// Says what it is; `run` is what it says of runs.
    async fn greet(mut stream: TcpStream, metainfo: &Metainfo, run: Option<u32>) -> Self {
        let features = Features { fast: true, extended: true, v2: false };
        let peer_id = PeerId::new(PeerRole::Node, [if run.is_some() { 7 } else { 8 }; 12]);
        let hello = Handshake { info_hash: metainfo.info_hash, peer_id, features }.encode();
        stream.write_all(&hello).await.unwrap();
        stream.read_exact(&mut [0; HANDSHAKE_LEN]).await.unwrap();
        let mut peer = Self { stream, buffer: Vec::new() };
        let extended = ExtendedHandshake { run, ..ExtendedHandshake::default() }.encode().unwrap();
        peer.send(&[Message::Extended { id: 0, payload: &extended }]).await;
        peer
    }

    async fn dial(to: SocketAddr, metainfo: &Metainfo, run: Option<u32>) -> Self {
        let mut peer = Self::greet(TcpStream::connect(to).await.unwrap(), metainfo, run).await;
        peer.send(&[Message::HaveNone, Message::Interested]).await;
        peer.next(|message| (message == Message::Unchoke).then_some(())).await;
        peer
    }

    async fn send(&mut self, messages: &[Message<'_>]) {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut out));
        self.stream.write_all(&out).await.unwrap();
    }

    /// Reads until a message is what `pick` looks for.
    async fn next<T>(&mut self, mut pick: impl FnMut(Message<'_>) -> Option<T>) -> T {
        let found = async {
            loop {
                while let Some((message, used)) = Message::parse(&self.buffer).unwrap() {
                    let found = pick(message);
                    self.buffer.drain(..used);
                    if let Some(found) = found {
                        return found;
                    }
                }
                let count = self.stream.read_buf(&mut self.buffer).await.unwrap();
                assert!(count > 0, "the connection was closed");
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("a message")
    }

    /// Asks for a run; the lengths of the messages that bring it.
    async fn fetch(&mut self, run: Block, image: &[u8]) -> Vec<u32> {
        self.send(&[Message::Request(run)]).await;
        let (mut got, mut lengths) = (0, Vec::new());
        while got < run.length {
            let length = self
                .next(|message| {
                    let Message::Piece { piece, begin, data } = message else { return None };
                    assert_eq!((piece, begin), (run.piece, run.begin + got), "in order");
                    let at = (piece.0 * PIECE + begin) as usize;
                    assert!(data == &image[at..at + data.len()], "wrong bytes");
                    Some(u32::try_from(data.len()).unwrap())
                })
                .await;
            got += length;
            lengths.push(length);
        }
        lengths
    }
}

fn runs() -> impl Iterator<Item = Block> {
    let each = |piece| {
        (0..PIECE).step_by(RUN as usize).map(move |begin| Block {
            piece: PieceIndex(piece),
            begin,
            length: RUN,
        })
    };
    (0..u32::try_from(LENGTH).unwrap() / PIECE).flat_map(each)
}

#[tokio::test]
async fn who_takes_runs_gets_them_on_a_fast_link_and_others_what_they_asked_for() {
    let image = image(LENGTH, 81);
    let metainfo = torrent_of(&image, PIECE.into(), &[], &[]);
    let seeder = seeder(&metainfo, &image, false).await;
    let address = seeder.session.local_addr();
    let mut knows = Peer::dial(address, &metainfo, Some(RUN)).await;
    let mut longest = 0;
    for run in runs() {
        let lengths = knows.fetch(run, &image).await;
        assert!(lengths.iter().all(|length| length % BLOCK_LEN == 0), "{lengths:?}");
        longest = longest.max(lengths.into_iter().max().unwrap());
    }
    assert!((2 * BLOCK_LEN..=RUN).contains(&longest), "{longest}");

    let mut other = Peer::dial(address, &metainfo, None).await;
    for run in runs().take(8) {
        assert_eq!(other.fetch(run, &image).await, [RUN], "one message for one request");
    }
    seeder.session.shutdown().await;
}

/// Serves a node until it is interested no more; the lengths of its requests. Answers come in messages of
/// up to `most` bytes.
async fn serve(
    listener: &TcpListener,
    metainfo: &Metainfo,
    image: &[u8],
    most: Option<u32>,
) -> Vec<u32> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut peer = Peer::greet(stream, metainfo, most).await;
    peer.send(&[Message::HaveAll, Message::Unchoke]).await;
    let mut asked = Vec::new();
    loop {
        let request = peer.next(|message| match message {
            Message::Request(run) => Some(Some(run)),
            Message::NotInterested => Some(None),
            _ => None,
        });
        let Some(run) = request.await else { return asked };
        asked.push(run.length);
        let most = most.unwrap_or(BLOCK_LEN);
        for at in (0..run.length).step_by(most as usize) {
            let (begin, length) = (run.begin + at, most.min(run.length - at));
            let from = (run.piece.0 * PIECE + begin) as usize;
            let data = &image[from..from + length as usize];
            peer.send(&[Message::Piece { piece: run.piece, begin, data }]).await;
        }
    }
}

#[tokio::test]
async fn a_node_asks_for_runs_where_they_are_taken() {
    let image = image(LENGTH, 82);
    let metainfo = torrent_of(&image, PIECE.into(), &[], &[]);
    for most in [Some(RUN), Some(3 * BLOCK_LEN), None] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = leecher(&metainfo).await;
        node.torrent.add_peer(listener.local_addr().unwrap());
        let (asked, _) = tokio::join!(serve(&listener, &metainfo, &image, most), node.complete());
        assert!(node.storage.to_vec() == image, "wrong bytes");
        let longest = asked.into_iter().max().unwrap();
        assert_eq!(longest > BLOCK_LEN, most.is_some(), "{longest}");
        assert!(longest <= most.unwrap_or(BLOCK_LEN), "{longest}");
        node.session.shutdown().await;
    }
}
