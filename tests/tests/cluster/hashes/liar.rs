//! A peer that has one piece, and lies about one block of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;

use lab::Node;
use proto::bitfield::Bitfield;
use proto::geometry::{BLOCK_LEN, Geometry, PieceIndex};
use proto::hash::{InfoHash, PeerId, PeerRole};
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, Message};

use super::{Content, at};

/// The block that it sends wrong, counted in its piece.
pub(crate) const WRONG: u32 = 3;

/// The numbers of the blocks that a liar was asked for, one list for each connection, and whether that
/// has ended.
pub(crate) type Asked = Arc<Mutex<Vec<(Vec<u32>, bool)>>>;

/// A peer that speaks BEP 3 and 6 alone, has one piece, and sends one block of it wrong. It gives nothing
/// before `ready` returns.
pub(crate) fn start(
    node: &Node,
    content: &Content,
    piece: PieceIndex,
    ready: impl Fn() + Send + 'static,
) -> Asked {
    let listener = node.listen(at(node)).unwrap();
    let (hash, image) = (content.metainfo.info_hash, content.image.clone());
    let geometry = content.metainfo.info.geometry;
    let asked = Asked::default();
    let notes = asked.clone();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            notes.lock().unwrap().push((Vec::new(), false));
            let note = |block| notes.lock().unwrap()[number].0.push(block);
            // that it ends is all that matters
            let _ = lie(stream, hash, &geometry, &image, piece, (&ready, note));
            notes.lock().unwrap()[number].1 = true;
        }
    });
    asked
}

fn lie(
    mut stream: TcpStream,
    info_hash: InfoHash,
    geometry: &Geometry,
    image: &[u8],
    piece: PieceIndex,
    (ready, note): (impl Fn(), impl Fn(u32)),
) -> std::io::Result<()> {
    stream.read_exact(&mut [0; HANDSHAKE_LEN])?;
    let features = Features { fast: true, extended: false, v2: false };
    let hello = Handshake { info_hash, peer_id: PeerId::new(PeerRole::Node, [7; 12]), features };
    let mut out = hello.encode().to_vec();
    let mut has = Bitfield::empty(geometry.pieces());
    has.insert(piece);
    Message::Bitfield(has.as_bytes()).encode(&mut out);
    stream.write_all(&out)?;
    ready();
    out.clear();
    Message::Unchoke.encode(&mut out);
    stream.write_all(&out)?;
    let (mut buffer, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        while let Some((message, used)) = Message::parse(&buffer).unwrap() {
            if let Message::Request(block) = message {
                let number = block.begin / BLOCK_LEN;
                note(number);
                let offset = usize::try_from(geometry.block_offset(block)).unwrap();
                let mut data = image[offset..][..block.length as usize].to_vec();
                data[5] ^= u8::from(number == WRONG);
                let mut out = Vec::new();
                Message::Piece { piece, begin: block.begin, data: &data }.encode(&mut out);
                stream.write_all(&out)?;
            }
            buffer.drain(..used);
        }
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            count => buffer.extend(&bytes[..count]),
        }
    }
}
