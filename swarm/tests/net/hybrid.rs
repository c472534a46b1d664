//! Hybrid torrents (BEP 52): SHA-256 of blocks, the upgrade of handshakes, and hashes on the wire.

use std::net::SocketAddr;
use std::sync::Arc;

use proto::geometry::{BLOCK_LEN, Block, PieceIndex};
use proto::hash::{InfoHash, PeerId, PeerRole, Sha256Digest};
use proto::hash_range::HashRange;
use proto::merkle::{self, BlockTree, Node as Hash};
use proto::metainfo::{Info, Metainfo};
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PATIENCE, image, leecher, seeder, torrent_of};

fn hybrid(image: &[u8], piece: u32) -> Arc<Metainfo> {
    let plain = torrent_of(image, piece.into(), &[], &[]);
    let info = plain.info.clone().with_tree(merkle::layer(image, piece)).unwrap();
    Arc::new(Metainfo::new(info, Vec::new(), Vec::new(), None).unwrap())
}

fn tree(metainfo: &Metainfo) -> &BlockTree {
    metainfo.info.tree().unwrap()
}

fn short(metainfo: &Metainfo) -> InfoHash {
    metainfo.info_hash_v2.unwrap().truncated()
}

/// A hand-made peer, after the handshakes.
struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    theirs: Handshake,
}

fn hello(info_hash: InfoHash, id: u8, v2: bool) -> [u8; HANDSHAKE_LEN] {
    let features = Features { fast: true, extended: false, v2 };
    Handshake { info_hash, peer_id: PeerId::new(PeerRole::Node, [id; 12]), features }.encode()
}

async fn handshake(stream: &mut TcpStream) -> Handshake {
    let mut theirs = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut theirs).await.unwrap();
    Handshake::parse(&theirs).unwrap()
}

impl Peer {
    async fn dial(address: SocketAddr, hello: [u8; HANDSHAKE_LEN]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let theirs = handshake(&mut stream).await;
        Self { stream, buffer: Vec::new(), theirs }
    }

    /// Waits to be dialled for this torrent, and answers that it speaks BEP 52.
    async fn accept(listener: &TcpListener, metainfo: &Metainfo, id: u8) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        let theirs = handshake(&mut stream).await;
        assert_eq!(
            theirs.info_hash, metainfo.info_hash,
            "dialled by the hash that everybody knows"
        );
        assert!(theirs.features.v2, "and offers more");
        stream.write_all(&hello(short(metainfo), id, true)).await.unwrap();
        Self { stream, buffer: Vec::new(), theirs }
    }

    async fn send(&mut self, messages: &[Message<'_>]) {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut out));
        self.stream.write_all(&out).await.unwrap();
    }

    /// Reads until a message is what `pick` looks for; `None` when the connection was closed.
    async fn next<T>(&mut self, mut pick: impl FnMut(Message<'_>) -> Option<T>) -> Option<T> {
        let found = async {
            loop {
                while let Some((message, used)) = Message::parse(&self.buffer).unwrap() {
                    let found = pick(message);
                    self.buffer.drain(..used);
                    if found.is_some() {
                        return found;
                    }
                }
                if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("a message, or the end")
    }

    async fn answer(&mut self, range: HashRange) -> Option<Vec<Hash>> {
        self.send(&[Message::HashRequest(range)]).await;
        let answer = self.next(|message| match message {
            Message::Hashes { range: of, nodes } if of == range => {
                Some(Some(nodes.iter().copied().map(Sha256Digest).collect()))
            }
            Message::HashReject(of) if of == range => Some(None),
            _ => None,
        });
        answer.await.expect("an answer")
    }
}

/// Serves what is asked for from `image`; `wrong` is the number of a block that is not.
async fn serve(peer: &mut Peer, image: &[u8], wrong: Option<u32>) -> Vec<Block> {
    let mut asked = Vec::new();
    while let Some(block) = peer
        .next(|message| match message {
            Message::Request(block) => Some(block),
            _ => None,
        })
        .await
    {
        asked.push(block);
        let mut data = image[block.begin as usize..][..block.length as usize].to_vec();
        if wrong == Some(block.begin / BLOCK_LEN) {
            data[5] ^= 1;
        }
        let (piece, begin) = (block.piece, block.begin);
        let mut out = Vec::new();
        Message::Piece { piece, begin, data: &data }.encode(&mut out);
        if peer.stream.write_all(&out).await.is_err() {
            break;
        }
    }
    asked
}

#[tokio::test]
async fn a_wrong_block_is_named_its_sender_banned_and_the_others_kept() {
    let image = image(8 * 16_384 - 100, 70);
    let metainfo = hybrid(&image, 128 * 1024);
    let victim = leecher(&metainfo).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // one that knows and lets nobody ask for data
    victim.torrent.add_peer(address);
    let mut witness = Peer::accept(&listener, &metainfo, 1).await;
    witness.send(&[Message::HaveAll]).await;
    witness.next(|message| (message == Message::Interested).then_some(())).await.unwrap();
    // and one that lies in one block
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    victim.torrent.add_peer(other.local_addr().unwrap());
    let mut liar = Peer::accept(&other, &metainfo, 2).await;
    liar.send(&[Message::HaveAll, Message::Unchoke]).await;
    let lying = {
        let image = image.clone();
        tokio::spawn(async move { serve(&mut liar, &image, Some(3)).await })
    };
    let asked = witness.next(|message| match message {
        Message::HashRequest(range) => Some(range),
        _ => None,
    });
    let range = asked.await.unwrap();
    assert_eq!(Some(range), tree(&metainfo).blocks_of(PieceIndex(0)));
    let answer = tree(&metainfo).answer(&range, &merkle::blocks(&image)).unwrap();
    let nodes: Vec<[u8; 32]> = answer.iter().map(|node| node.0).collect();
    witness.send(&[Message::Hashes { range, nodes: &nodes }]).await;
    // the connection ends, after one wrong block
    assert_eq!(lying.await.unwrap().len(), 8);
    witness.send(&[Message::Unchoke]).await;
    let honest = {
        let image = image.clone();
        tokio::spawn(async move { serve(&mut witness, &image, None).await })
    };
    let done = victim.complete().await;
    assert_eq!(done.hash_failures, 1);
    assert!(victim.storage.to_vec() == image);
    assert_eq!(victim.torrent.progress().borrow().bytes_wasted, 16_384);
    victim.session.shutdown().await;
    let asked = honest.await.unwrap();
    let again = Block { piece: PieceIndex(0), begin: 3 * BLOCK_LEN, length: BLOCK_LEN };
    assert_eq!(asked, [again], "only the wrong block is fetched again");
}

#[tokio::test]
async fn a_wrong_piece_of_one_block_bans_at_once() {
    let image = image(16_384, 71);
    let metainfo = hybrid(&image, 16_384);
    let victim = leecher(&metainfo).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    victim.torrent.add_peer(listener.local_addr().unwrap());
    let mut liar = Peer::accept(&listener, &metainfo, 2).await;
    liar.send(&[Message::HaveAll, Message::Unchoke]).await;
    assert_eq!(serve(&mut liar, &image, Some(0)).await.len(), 1, "and then the end");
    let seeder = seeder(&metainfo, &image, false).await;
    victim.torrent.add_peer(seeder.session.local_addr());
    assert_eq!(victim.complete().await.hash_failures, 1);
    victim.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn hashes_are_told_to_who_asks() {
    let image = image(1_000_000, 72);
    let metainfo = hybrid(&image, 65_536);
    let tree = tree(&metainfo);
    let seeder = seeder(&metainfo, &image, true).await;
    let address = seeder.session.local_addr();
    let mut peer = Peer::dial(address, hello(metainfo.info_hash, 1, true)).await;
    assert_eq!(peer.theirs.info_hash, short(&metainfo), "upgraded");
    assert!(peer.theirs.features.v2);
    for piece in [0, 7, 15] {
        let blocks: Vec<Hash> =
            merkle::blocks(&image[piece * 65_536..((piece + 1) * 65_536).min(image.len())]);
        let range = tree.blocks_of(PieceIndex(u32::try_from(piece).unwrap())).unwrap();
        let range = HashRange { proof_layers: 5, ..range };
        let answer = peer.answer(range).await.expect("of blocks");
        assert_eq!(Some(answer), tree.answer(&range, &blocks));
    }
    let root = tree.root();
    let pieces = HashRange { root, base_layer: 2, index: 0, length: 16, proof_layers: 0 };
    let answer = peer.answer(pieces).await.expect("of pieces");
    assert_eq!(answer, tree.layer());
    for bad in [
        HashRange { root: Hash::ZERO, ..pieces },
        HashRange { base_layer: 0, length: 8, ..pieces },
        HashRange { base_layer: 0, index: 1 << 20, length: 4, ..pieces },
        HashRange { index: u32::MAX, ..pieces },
    ] {
        assert_eq!(peer.answer(bad).await, None, "{bad:?}");
    }
    // by the short hash of BEP 52; and who speaks BEP 3 alone is answered as ever
    let named = Peer::dial(address, hello(short(&metainfo), 2, true)).await;
    assert_eq!(named.theirs.info_hash, short(&metainfo));
    let old = Peer::dial(address, hello(metainfo.info_hash, 3, false)).await;
    assert_eq!(old.theirs.info_hash, metainfo.info_hash);
    // too many questions at once
    let flood = vec![Message::HashRequest(pieces); 1000];
    peer.send(&flood).await;
    assert!(peer.next(|_| None::<()>).await.is_none(), "closed");
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn nobody_has_hashes_of_what_is_not_there() {
    let image = image(300_000, 73);
    let metainfo = hybrid(&image, 65_536);
    let empty = leecher(&metainfo).await;
    let hello = hello(metainfo.info_hash, 1, true);
    let mut peer = Peer::dial(empty.session.local_addr(), hello).await;
    let range = tree(&metainfo).blocks_of(PieceIndex(1)).unwrap();
    assert_eq!(peer.answer(range).await, None);
    let pieces = HashRange { base_layer: 2, index: 0, length: 8, ..range };
    assert!(peer.answer(pieces).await.is_some(), "the torrent has these");
    empty.session.shutdown().await;
}

/// What a program that knows BEP 3 alone makes of the same file: it ignores the rest.
fn as_read_before(metainfo: &Metainfo) -> Arc<Metainfo> {
    let info = &metainfo.info;
    let hashes = info.geometry.indices().filter_map(|piece| info.piece_hash(piece)).collect();
    let plain = Info::new(&info.name, info.geometry, info.private, hashes).unwrap();
    let mut plain = Metainfo::new(plain, Vec::new(), Vec::new(), None).unwrap();
    plain.info_hash = metainfo.info_hash;
    Arc::new(plain)
}

#[tokio::test]
async fn old_and_new_nodes_share_a_swarm() {
    let image = image(2_000_000, 74);
    let metainfo = hybrid(&image, 65_536);
    let before = as_read_before(&metainfo);
    let seeder = seeder(&metainfo, &image, true).await;
    let (new, old) = (leecher(&metainfo).await, leecher(&before).await);
    let all = [&seeder, &new, &old].map(|node| node.session.local_addr());
    for node in [&new, &old] {
        all.iter().for_each(|address| node.torrent.add_peer(*address));
    }
    for node in [&new, &old] {
        assert_eq!(node.complete().await.hash_failures, 0);
        assert!(node.storage.to_vec() == image);
    }
    for node in [new, old, seeder] {
        node.session.shutdown().await;
    }
}
