//! What travels on a connection: wire messages, cut down to what the core is told.

use proto::bitfield::Bitfield;
use proto::geometry::{BLOCK_LEN, Block, Geometry, PieceIndex};
use swarm::core::Control;

/// One wire message. Small, since a large swarm has millions of them under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// The handshake's second half and the extension handshake.
    Hello {
        upload_only: bool,
    },
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    HaveAll,
    HaveNone,
    Request {
        piece: u32,
        number: u32,
    },
    Cancel {
        piece: u32,
        number: u32,
    },
    Reject {
        piece: u32,
        number: u32,
    },
    /// A block as the geometry has it; `wrong` when its bytes are not the image's.
    Data {
        piece: u32,
        number: u32,
        wrong: bool,
    },
    /// What does not fit above.
    Other(Box<Other>),
    /// The sender closed the connection.
    End,
}

/// Rare messages: of any shape, also of ones that no honest peer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Other {
    Control(Control),
    /// A block of any coordinates, with wrong bytes.
    Block(Block),
    /// The digests of a piece's blocks, or that they are not told; nobody can send wrong ones, since they
    /// must lead to the piece's own.
    Hashes {
        piece: PieceIndex,
        told: bool,
    },
}

/// What an [`Item`] is to the receiving core.
pub(crate) enum Meaning {
    Hello { upload_only: bool },
    Control(Control),
    Block { block: Block, wrong: bool },
    Question(PieceIndex),
    Hashes { piece: PieceIndex, told: bool },
    End,
}

impl Item {
    /// The message of a core.
    pub(crate) fn of(message: Control, geometry: &Geometry) -> Self {
        let plain = |block: &Block| geometry.block(block.piece, block.begin / BLOCK_LEN);
        match message {
            Control::Choke => Self::Choke,
            Control::Unchoke => Self::Unchoke,
            Control::Interested => Self::Interested,
            Control::NotInterested => Self::NotInterested,
            Control::Have(piece) => Self::Have(piece.0),
            Control::HaveAll => Self::HaveAll,
            Control::HaveNone => Self::HaveNone,
            Control::Request(block) if plain(&block) == Some(block) => {
                Self::Request { piece: block.piece.0, number: block.begin / BLOCK_LEN }
            }
            Control::Cancel(block) if plain(&block) == Some(block) => {
                Self::Cancel { piece: block.piece.0, number: block.begin / BLOCK_LEN }
            }
            Control::Reject(block) if plain(&block) == Some(block) => {
                Self::Reject { piece: block.piece.0, number: block.begin / BLOCK_LEN }
            }
            other => Self::Other(Box::new(Other::Control(other))),
        }
    }

    /// Bytes on the wire (BEP 3, 6 and 10).
    pub(crate) fn size(&self, geometry: &Geometry) -> u32 {
        match self {
            // 68 of the handshake, about 110 of the extension handshake
            Self::Hello { .. } => 178,
            Self::Choke | Self::Unchoke | Self::Interested | Self::NotInterested => 5,
            Self::HaveAll | Self::HaveNone => 5,
            Self::Have(_) => 9,
            Self::Request { .. } | Self::Cancel { .. } | Self::Reject { .. } => 17,
            Self::Data { piece, number, .. } => {
                13 + geometry.block(PieceIndex(*piece), *number).map_or(0, |b| b.length)
            }
            Self::Other(other) => match &**other {
                Other::Control(Control::Bitfield(field)) => bitfield_size(field),
                Other::Control(Control::AskHashes(_)) => 53,
                Other::Control(_) => 17,
                Other::Hashes { piece, told } => {
                    53 + if *told { 32 * geometry.blocks_in(*piece) } else { 0 }
                }
                Other::Block(block) => 13 + block.length,
            },
            // a FIN rides on the last segment; one byte stands for it
            Self::End => 1,
        }
    }

    /// As the receiver's core takes it.
    pub(crate) fn meaning(self, geometry: &Geometry) -> Meaning {
        let block = |piece, number| {
            let piece = PieceIndex(piece);
            let nothing = Block { piece, begin: 0, length: 0 };
            geometry.block(piece, number).unwrap_or(nothing)
        };
        Meaning::Control(match self {
            Self::Hello { upload_only } => return Meaning::Hello { upload_only },
            Self::End => return Meaning::End,
            Self::Data { piece, number, wrong } => {
                return Meaning::Block { block: block(piece, number), wrong };
            }
            Self::Other(other) => match *other {
                Other::Control(Control::AskHashes(piece)) => return Meaning::Question(piece),
                Other::Control(control) => control,
                Other::Hashes { piece, told } => return Meaning::Hashes { piece, told },
                Other::Block(block) => return Meaning::Block { block, wrong: true },
            },
            Self::Choke => Control::Choke,
            Self::Unchoke => Control::Unchoke,
            Self::Interested => Control::Interested,
            Self::NotInterested => Control::NotInterested,
            Self::Have(piece) => Control::Have(PieceIndex(piece)),
            Self::HaveAll => Control::HaveAll,
            Self::HaveNone => Control::HaveNone,
            Self::Request { piece, number } => Control::Request(block(piece, number)),
            Self::Cancel { piece, number } => Control::Cancel(block(piece, number)),
            Self::Reject { piece, number } => Control::Reject(block(piece, number)),
        })
    }
}

fn bitfield_size(field: &Bitfield) -> u32 {
    5 + field.pieces().div_ceil(8)
}
