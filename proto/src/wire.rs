//! The peer wire: handshake and messages of BEP 3, 6 (fast extension), 10 (extension protocol) and 52
//! (hashes).
//!
//! Codecs are pure: `parse` looks at the front of a receive buffer and says how many bytes it used,
//! `encode` appends to a send buffer. Message bodies borrow from the input; nothing is copied here.

use crate::geometry::{BLOCK_LEN, Block, PieceIndex};
use crate::hash::{InfoHash, PeerId};
use crate::hash_range::HashRange;

/// Bytes of a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// Largest message body accepted: a bitfield of 1 Mi pieces, or a block with its header.
pub const MAX_MESSAGE_LEN: u32 = 160 * 1024;

/// Largest block that may be requested, in bytes. Others use 16 KiB; some ask for up to 128 KiB.
pub const MAX_REQUEST_LEN: u32 = 8 * BLOCK_LEN;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// Which optional protocols a peer offers in the reserved bytes of its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// BEP 6: have-all, have-none, reject, suggest, allowed-fast.
    pub fast: bool,
    /// BEP 10: extended messages.
    pub extended: bool,
    /// BEP 52: of a hybrid torrent it has both parts.
    pub v2: bool,
}

/// The first 68 bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Who speaks.
    pub peer_id: PeerId,
    /// What it offers.
    pub features: Features,
}

/// Why bytes from a peer are not the protocol. The connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first 20 bytes are something else.
    #[error("peer does not speak the BitTorrent protocol")]
    Protocol,
    /// A message longer than any we accept.
    #[error("message of {0} bytes is longer than {MAX_MESSAGE_LEN}")]
    TooLong(u32),
    /// A message whose body has the wrong length.
    #[error("message with id {id} has a body of {length} bytes")]
    BodyLength {
        /// Message id.
        id: u8,
        /// Bytes after the id.
        length: usize,
    },
}

impl Handshake {
    /// Encodes to the 68 bytes of the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut out = [0; HANDSHAKE_LEN];
        out[..20].copy_from_slice(PROTOCOL);
        if self.features.extended {
            out[25] |= 0x10;
        }
        if self.features.fast {
            out[27] |= 0x04;
        }
        if self.features.v2 {
            out[27] |= 0x10;
        }
        out[28..48].copy_from_slice(self.info_hash.as_bytes());
        out[48..].copy_from_slice(self.peer_id.as_bytes());
        out
    }

    /// Reads the 68 bytes of the wire.
    ///
    /// # Errors
    /// [`WireError::Protocol`] when they do not start as they must.
    pub fn parse(bytes: &[u8; HANDSHAKE_LEN]) -> Result<Self, WireError> {
        if &bytes[..20] != PROTOCOL {
            return Err(WireError::Protocol);
        }
        let mut info_hash = [0; 20];
        let mut peer_id = [0; 20];
        info_hash.copy_from_slice(&bytes[28..48]);
        peer_id.copy_from_slice(&bytes[48..]);
        Ok(Self {
            info_hash: InfoHash(info_hash),
            peer_id: PeerId(peer_id),
            features: Features {
                extended: bytes[25] & 0x10 != 0,
                fast: bytes[27] & 0x04 != 0,
                v2: bytes[27] & 0x10 != 0,
            },
        })
    }
}

/// Length of the message at the start of `buffer` with its prefix, in bytes, once that is known; the
/// message itself may be longer than the buffer. Unchecked: [`Message::parse`] refuses long ones.
#[must_use]
pub fn message_length(buffer: &[u8]) -> Option<usize> {
    let prefix = buffer.first_chunk::<4>()?;
    Some((u32::from_be_bytes(*prefix) as usize).saturating_add(4))
}

/// One message. Byte strings borrow from the receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Length 0: nothing to say, still there.
    KeepAlive,
    /// Requests will not be answered now.
    Choke,
    /// Requests are welcome.
    Unchoke,
    /// The sender wants pieces the receiver has.
    Interested,
    /// It does not, or no longer.
    NotInterested,
    /// The sender has verified one more piece.
    Have(PieceIndex),
    /// The pieces the sender has; first message only.
    Bitfield(&'a [u8]),
    /// Please send a block.
    Request(Block),
    /// A block. `begin` is the offset in the piece.
    Piece {
        /// The piece.
        piece: PieceIndex,
        /// Offset within it, in bytes.
        begin: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// A request is withdrawn.
    Cancel(Block),
    /// DHT port (BEP 5); read and ignored.
    Port(u16),
    /// BEP 6: the sender suggests a piece.
    Suggest(PieceIndex),
    /// BEP 6: every piece; first message only.
    HaveAll,
    /// BEP 6: no piece; first message only.
    HaveNone,
    /// BEP 6: this request will not be answered.
    Reject(Block),
    /// BEP 6: this piece may be requested while choked.
    AllowedFast(PieceIndex),
    /// BEP 10: an extended message; `id` 0 is its handshake.
    Extended {
        /// Extended message id, as the receiver assigned it.
        id: u8,
        /// Its body.
        payload: &'a [u8],
    },
    /// BEP 52: asks for nodes of a merkle tree.
    HashRequest(HashRange),
    /// BEP 52: the nodes asked for.
    Hashes {
        /// The question.
        range: HashRange,
        /// Nodes of the base layer, then the proof.
        nodes: &'a [[u8; 32]],
    },
    /// BEP 52: a question that is not answered.
    HashReject(HashRange),
    /// An id this crate does not know; skipped.
    Unknown {
        /// Message id.
        id: u8,
    },
}

/// A message at the front of a buffer, and the bytes it took.
pub type Parsed<'a> = (Message<'a>, usize);

impl<'a> Message<'a> {
    /// Reads the message at the front of `buffer`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`WireError`] when the connection must be closed.
    pub fn parse(buffer: &'a [u8]) -> Result<Option<Parsed<'a>>, WireError> {
        let Some((prefix, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix);
        if length > MAX_MESSAGE_LEN {
            return Err(WireError::TooLong(length));
        }
        let Some(frame) = rest.get(..length as usize) else { return Ok(None) };
        let message = match frame.split_first() {
            None => Self::KeepAlive,
            Some((&id, body)) => Self::parse_body(id, body)?,
        };
        Ok(Some((message, 4 + frame.len())))
    }

    fn parse_body(id: u8, body: &'a [u8]) -> Result<Self, WireError> {
        let wrong = WireError::BodyLength { id, length: body.len() };
        let nothing = |message| if body.is_empty() { Ok(message) } else { Err(wrong.clone()) };
        let index =
            || words::<1>(body).map(|[piece]| PieceIndex(piece)).ok_or_else(|| wrong.clone());
        let block = || {
            words::<3>(body)
                .map(|[piece, begin, length]| Block { piece: PieceIndex(piece), begin, length })
                .ok_or_else(|| wrong.clone())
        };
        match id {
            0 => nothing(Self::Choke),
            1 => nothing(Self::Unchoke),
            2 => nothing(Self::Interested),
            3 => nothing(Self::NotInterested),
            4 => index().map(Self::Have),
            5 => Ok(Self::Bitfield(body)),
            6 => block().map(Self::Request),
            7 => match body.split_at_checked(8) {
                Some((head, data)) => {
                    let [piece, begin] = words::<2>(head).ok_or_else(|| wrong.clone())?;
                    Ok(Self::Piece { piece: PieceIndex(piece), begin, data })
                }
                None => Err(wrong),
            },
            8 => block().map(Self::Cancel),
            9 => match *body {
                [high, low] => Ok(Self::Port(u16::from_be_bytes([high, low]))),
                _ => Err(wrong),
            },
            13 => index().map(Self::Suggest),
            14 => nothing(Self::HaveAll),
            15 => nothing(Self::HaveNone),
            16 => block().map(Self::Reject),
            17 => index().map(Self::AllowedFast),
            20 => match body.split_first() {
                Some((&id, payload)) => Ok(Self::Extended { id, payload }),
                None => Err(wrong),
            },
            21..=23 => {
                let (range, rest) = body.split_first_chunk().ok_or_else(|| wrong.clone())?;
                let range = HashRange::parse(range);
                match (id, rest.as_chunks()) {
                    (22, (nodes, [])) => Ok(Self::Hashes { range, nodes }),
                    (21, ([], [])) => Ok(Self::HashRequest(range)),
                    (23, ([], [])) => Ok(Self::HashReject(range)),
                    _ => Err(wrong),
                }
            }
            _ => Ok(Self::Unknown { id }),
        }
    }

    /// Appends the message to a send buffer. [`Message::Unknown`] is not sent.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::KeepAlive => out.extend([0; 4]),
            Self::Choke => frame(out, 0, &[], &[]),
            Self::Unchoke => frame(out, 1, &[], &[]),
            Self::Interested => frame(out, 2, &[], &[]),
            Self::NotInterested => frame(out, 3, &[], &[]),
            Self::Have(piece) => frame(out, 4, &[piece.0], &[]),
            Self::Bitfield(bytes) => frame(out, 5, &[], bytes),
            Self::Request(block) => block_frame(out, 6, block),
            Self::Piece { piece, begin, data } => frame(out, 7, &[piece.0, begin], data),
            Self::Cancel(block) => block_frame(out, 8, block),
            Self::Port(port) => frame(out, 9, &[], &port.to_be_bytes()),
            Self::Suggest(piece) => frame(out, 13, &[piece.0], &[]),
            Self::HaveAll => frame(out, 14, &[], &[]),
            Self::HaveNone => frame(out, 15, &[], &[]),
            Self::Reject(block) => block_frame(out, 16, block),
            Self::AllowedFast(piece) => frame(out, 17, &[piece.0], &[]),
            Self::Extended { id, payload } => {
                push_length(out, 2 + payload.len());
                out.extend([20, id]);
                out.extend(payload);
            }
            Self::HashRequest(range) => frame(out, 21, &[], &range.encode()),
            Self::Hashes { range, nodes } => {
                push_length(out, 1 + HashRange::LEN + nodes.as_flattened().len());
                out.push(22);
                out.extend(range.encode());
                out.extend(nodes.as_flattened());
            }
            Self::HashReject(range) => frame(out, 23, &[], &range.encode()),
            Self::Unknown { .. } => {}
        }
    }
}

/// The 13 bytes before the data of a piece message, for senders that write the data from elsewhere
/// (sendfile, a shared buffer).
#[must_use]
pub fn piece_header(block: Block) -> [u8; 13] {
    let mut header = [0; 13];
    header[..4].copy_from_slice(&block.length.saturating_add(9).to_be_bytes());
    header[4] = 7;
    header[5..9].copy_from_slice(&block.piece.0.to_be_bytes());
    header[9..].copy_from_slice(&block.begin.to_be_bytes());
    header
}

fn words<const N: usize>(body: &[u8]) -> Option<[u32; N]> {
    if body.len() != N * 4 {
        return None;
    }
    let mut out = [0; N];
    for (word, bytes) in out.iter_mut().zip(body.chunks_exact(4)) {
        *word = u32::from_be_bytes(bytes.try_into().ok()?);
    }
    Some(out)
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    // bodies are built here from bounded parts, so the length always fits
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn frame(out: &mut Vec<u8>, id: u8, words: &[u32], tail: &[u8]) {
    push_length(out, 1 + words.len() * 4 + tail.len());
    out.push(id);
    words.iter().for_each(|word| out.extend(word.to_be_bytes()));
    out.extend(tail);
}

fn block_frame(out: &mut Vec<u8>, id: u8, block: Block) {
    frame(out, id, &[block.piece.0, block.begin, block.length], &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Sha256Digest;
    use proptest::prelude::*;

    fn block() -> impl Strategy<Value = Block> {
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, length)| Block {
            piece: PieceIndex(piece),
            begin,
            length,
        })
    }

    fn check(message: Message<'_>) -> Result<(), TestCaseError> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        for cut in 0..bytes.len().min(40) {
            prop_assert_eq!(Message::parse(&bytes[..cut]).unwrap(), None);
        }
        let length = bytes.len();
        bytes.extend(b"next");
        prop_assert_eq!(Message::parse(&bytes).unwrap(), Some((message, length)));
        Ok(())
    }

    proptest! {
        #[test]
        fn messages_round_trip(b in block(), data in prop::collection::vec(any::<u8>(), 0..300), id in any::<u8>(), port in any::<u16>(), root in any::<[u8; 32]>()) {
            let range = HashRange { root: Sha256Digest(root), base_layer: b.begin, index: b.piece.0, length: b.length, proof_layers: port.into() };
            let nodes = vec![root; usize::from(id) % 40];
            for message in [
                Message::KeepAlive, Message::Choke, Message::Unchoke, Message::Interested, Message::NotInterested,
                Message::Have(b.piece), Message::Bitfield(&data), Message::Request(b),
                Message::Piece { piece: b.piece, begin: b.begin, data: &data }, Message::Cancel(b), Message::Port(port),
                Message::Suggest(b.piece), Message::HaveAll, Message::HaveNone, Message::Reject(b),
                Message::AllowedFast(b.piece), Message::Extended { id, payload: &data },
                Message::HashRequest(range), Message::Hashes { range, nodes: &nodes }, Message::HashReject(range),
            ] {
                check(message)?;
            }
        }

        #[test]
        fn handshake_round_trip(hash in any::<[u8; 20]>(), id in any::<[u8; 20]>(), fast in any::<bool>(), extended in any::<bool>(), v2 in any::<bool>()) {
            let handshake = Handshake { info_hash: InfoHash(hash), peer_id: PeerId(id), features: Features { fast, extended, v2 } };
            prop_assert_eq!(Handshake::parse(&handshake.encode()).unwrap(), handshake);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Message::parse(&bytes);
        }
    }

    #[test]
    fn piece_header_equals_encoding() {
        let block = Block { piece: PieceIndex(3), begin: 16_384, length: 5 };
        let mut bytes = Vec::new();
        Message::Piece { piece: block.piece, begin: block.begin, data: b"12345" }
            .encode(&mut bytes);
        assert_eq!(piece_header(block), bytes[..13]);
    }

    #[test]
    fn refuses_bad_frames() {
        assert_eq!(Message::parse(&[255, 255, 255, 255]), Err(WireError::TooLong(u32::MAX)));
        assert_eq!(
            Message::parse(&[0, 0, 0, 2, 0, 9]),
            Err(WireError::BodyLength { id: 0, length: 1 })
        );
        assert_eq!(
            Message::parse(&[0, 0, 0, 1, 20]),
            Err(WireError::BodyLength { id: 20, length: 0 })
        );
        for (id, length) in [(21u8, 47u8), (21, 49), (21, 80), (22, 47), (22, 79), (23, 80)] {
            let frame = [&[0, 0, 0, length + 1, id][..], &vec![0; length.into()]].concat();
            let wrong = WireError::BodyLength { id, length: length.into() };
            assert_eq!(Message::parse(&frame), Err(wrong));
        }
        assert_eq!(Message::parse(&[0, 0, 0, 1, 99]), Ok(Some((Message::Unknown { id: 99 }, 5))));
        assert_eq!(Handshake::parse(&[0; HANDSHAKE_LEN]), Err(WireError::Protocol));
    }
}
