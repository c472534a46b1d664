//! The hashes of an image while a program writes it: every write and every cut is told, in order.
//!
//! ```text
//!  Empty ──write──▶ Held ──(room is needed)──▶ Hashed ──write or cut──▶ Lost ──(the end)──▶ read back
//!    ▲                └──(room, and order is Back)─────────────────────────▲
//!    └──────────────────── cut off as a whole: from each of them ──────────┘
//! ```
//!
//! A chunk is held in memory from its first write on, and hashed when newer ones need the room, on a
//! thread. One that changes later must be read again in the end; so the first chunk, whose superblock is
//! written last, is held to the end. How long a piece is follows from the length of the image: a chunk is
//! hashed for all lengths that are still likely.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use proto::merkle;

use crate::chunk::{BLOCKS, CHUNK, Candidates, ChunkHashes};
use crate::hashes::Hashes;
use crate::piece_length;

/// Chunks that may wait for the thread: 8 MiB.
const QUEUE: usize = 4;

/// How often the image may become shorter by a half and still have pieces of a length that was hashed
/// from its start on. Each costs SHA-1 of all that is written while it is too short to be the length.
const HALVINGS: u32 = 2;

/// In which order a program writes an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Forward, except for the superblock and what it takes back (mksquashfs).
    Forward,
    /// It comes back to all parts of the image in the end (mkfs.erofs: metadata lies between the files).
    Back,
}

impl Order {
    /// Chunks that are held: 16 MiB, or 256 MiB, up to which an image that is written like that need
    /// not be read.
    fn held(self) -> usize {
        match self {
            Self::Forward => 8,
            Self::Back => 128,
        }
    }
}

/// What is known of an image before it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Order of writing.
    pub(crate) order: Order,
    /// It will hardly be longer, in bytes.
    pub(crate) most: u64,
    /// Nodes that fetch it: the length of a piece depends on that, too.
    pub(crate) nodes: u32,
}

/// What is known of a part of [`CHUNK`] bytes.
#[derive(Debug)]
enum Chunk {
    /// Nothing was written: zeros.
    Empty,
    /// Its bytes, zeros past the end; and when it was written last.
    Held { bytes: Vec<u8>, touched: u64 },
    /// It is complete, and was given to the thread under this number.
    Hashed(usize),
    /// It was hashed or let go before it was complete.
    Lost,
}

struct Job {
    bytes: Vec<u8>,
    candidates: Candidates,
}

/// Hashes an image that is being written.
#[derive(Debug)]
pub(crate) struct Follower {
    expected: Expected,
    chunks: Vec<Chunk>,
    /// Numbers of those that are held, without the first.
    held: Vec<usize>,
    length: u64,
    /// Counts the writes.
    clock: u64,
    jobs: usize,
    to_hash: SyncSender<Job>,
    hashing: JoinHandle<Vec<ChunkHashes>>,
}

/// What came of following.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    /// Of the complete image.
    pub(crate) hashes: Hashes,
    /// Bytes that were read from the file.
    pub(crate) read_back: u64,
}

fn hash(queue: &Receiver<Job>) -> Vec<ChunkHashes> {
    queue.iter().map(|job| ChunkHashes::of(&job.bytes, job.candidates)).collect()
}

/// The chunks of a write at `offset`: number, where in it, and which bytes.
fn parts(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (usize, usize, &[u8])> {
    let (mut at, mut rest) = (offset, bytes);
    std::iter::from_fn(move || {
        let (number, within) = split(at);
        let (part, others) = rest.split_at(rest.len().min(CHUNK - within));
        (at, rest) = (at + part.len() as u64, others);
        (!part.is_empty()).then_some((number, within, part))
    })
}

/// The chunk of an offset, and the offset in it.
fn split(offset: u64) -> (usize, usize) {
    let (number, within) = (offset / CHUNK as u64, offset % CHUNK as u64);
    // a write that did not fail lies in a file, whose chunks fit into memory as numbers
    (usize::try_from(number).unwrap_or(usize::MAX), usize::try_from(within).unwrap_or(0))
}

impl Follower {
    /// Of an empty file.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(crate) fn start(expected: Expected) -> io::Result<Self> {
        let (to_hash, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("hash".to_owned());
        let hashing = thread.spawn(move || hash(&queue))?;
        let (chunks, held, length, clock, jobs) = (Vec::new(), Vec::new(), 0, 0, 0);
        Ok(Self { expected, chunks, held, length, clock, jobs, to_hash, hashing })
    }

    /// `bytes` were written at `offset`.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.clock += 1;
        self.set_length(self.length.max(offset + bytes.len() as u64));
        for (number, within, part) in parts(offset, bytes) {
            let chunk = &mut self.chunks[number];
            if matches!(chunk, Chunk::Empty) {
                *chunk = Chunk::Held { bytes: vec![0; CHUNK], touched: 0 };
                self.held.extend((number > 0).then_some(number));
            }
            match chunk {
                Chunk::Held { bytes, touched } => {
                    bytes[within..within + part.len()].copy_from_slice(part);
                    *touched = self.clock;
                }
                lost => *lost = Chunk::Lost,
            }
        }
        self.make_room();
    }

    /// The file has this length now: it was cut, or zeros were added.
    pub(crate) fn set_length(&mut self, length: u64) {
        let (last, within) = split(length);
        let count = last + usize::from(within > 0);
        self.chunks.resize_with(count, || Chunk::Empty);
        self.held.retain(|number| *number < count);
        if length < self.length && within > 0 {
            match &mut self.chunks[last] {
                Chunk::Empty => {}
                Chunk::Held { bytes, .. } => bytes[within..].fill(0),
                lost => *lost = Chunk::Lost,
            }
        }
        self.length = length;
    }

    /// Lets go of what was written longest ago, but not of the first chunk.
    fn make_room(&mut self) {
        while self.held.len() > self.expected.order.held() {
            let age = |(place, number): (usize, &usize)| match &self.chunks[*number] {
                Chunk::Held { touched, .. } => (*touched, *number, place),
                _ => (0, *number, place),
            };
            let Some((_, number, place)) = self.held.iter().enumerate().map(age).min() else {
                return;
            };
            self.held.swap_remove(place);
            let is_whole = (number as u64 + 1) * CHUNK as u64 <= self.length;
            let old = std::mem::replace(&mut self.chunks[number], Chunk::Lost);
            if let (Chunk::Held { bytes, .. }, Order::Forward, true) =
                (old, self.expected.order, is_whole)
                && self.give(bytes, self.candidates())
            {
                self.chunks[number] = Chunk::Hashed(self.jobs - 1);
            }
        }
    }

    /// Lengths that a piece may have in the end.
    fn candidates(&self) -> Candidates {
        let Expected { most, nodes, .. } = self.expected;
        let from = piece_length::choose(self.length >> HALVINGS, nodes);
        let to = piece_length::choose(self.length.max(most), nodes);
        Candidates { from, to }
    }

    /// Gives a chunk to the thread; false when that has ended.
    fn give(&mut self, bytes: Vec<u8>, candidates: Candidates) -> bool {
        let given = self.to_hash.send(Job { bytes, candidates }).is_ok();
        self.jobs += usize::from(given);
        given
    }

    /// The hashes of the image, which is complete and lies in `file`.
    ///
    /// # Errors
    /// Those of reading; [`io::ErrorKind::InvalidData`] when the file has another length than it should.
    pub(crate) fn finish(mut self, file: &File) -> io::Result<Followed> {
        let length = self.length;
        if file.metadata()?.len() != length {
            let text = format!("it should have {length} bytes: another program writes to it");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let piece_length = piece_length::choose(length, self.expected.nodes);
        let only = Candidates::only(piece_length);
        let of = |number: usize| {
            let start = number as u64 * CHUNK as u64;
            (start, usize::try_from(length - start).map_or(CHUNK, |left| left.min(CHUNK)))
        };
        let mut sources = Vec::new();
        for (number, chunk) in std::mem::take(&mut self.chunks).into_iter().enumerate() {
            let (_, size) = of(number);
            let bytes = match chunk {
                Chunk::Hashed(job) => {
                    sources.push(Some(job));
                    continue;
                }
                Chunk::Lost => {
                    sources.push(None);
                    continue;
                }
                Chunk::Empty => vec![0; size],
                Chunk::Held { mut bytes, .. } => {
                    bytes.truncate(size);
                    bytes
                }
            };
            let given = self.give(bytes, only);
            sources.push(given.then(|| self.jobs - 1));
        }
        drop(self.to_hash);
        let hashed = self.hashing.join().map_err(|_| io::Error::other("hashing panicked"))?;
        let level = merkle::piece_level(length, piece_length);
        let mut hashes = Hashes { length, piece_length, pieces: Vec::new(), layer: Vec::new() };
        let mut read_back = 0;
        for (number, source) in sources.into_iter().enumerate() {
            let (start, size) = of(number);
            let known = source.and_then(|job| hashed.get(job));
            let known = known.and_then(|chunk| Some((chunk.pieces(piece_length)?, &chunk.blocks)));
            let read;
            let (pieces, blocks) = if let Some(known) = known {
                known
            } else {
                let mut bytes = vec![0; size];
                file.read_exact_at(&mut bytes, start)?;
                read_back += size as u64;
                read = ChunkHashes::of(&bytes, only);
                (read.pieces(piece_length).unwrap_or_default(), &read.blocks)
            };
            hashes.pieces.extend(pieces);
            let blocks = blocks.chunks(1 << level.min(BLOCKS.ilog2()));
            hashes.layer.extend(blocks.map(|blocks| merkle::root(blocks, 0, level)));
        }
        Ok(Followed { hashes, read_back })
    }
}

#[cfg(test)]
mod tests;
