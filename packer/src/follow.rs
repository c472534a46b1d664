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
//! hashed for all lengths that are still likely. A dm-verity tree is made of the chunks' hashes in the end,
//! written behind the image, and hashed with its last chunk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use proto::merkle;
use proto::verity::Verity;
use sys::memory::MachineMemory;

use crate::chunk::{BLOCKS, CHUNK, Candidates, ChunkHashes};
use crate::hashes::Hashes;
use crate::piece_length;
use crate::verity::{self, Tree};

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

/// How many chunks are held, without the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room(usize);

impl Room {
    /// 16 MiB for who writes forward. Of an image to all parts of which its program comes back every chunk
    /// must be held until the end: that many as fit into half of the memory that is free, 256 MiB at least.
    /// What is beyond is read again.
    pub(crate) fn choose(order: Order) -> Self {
        const BACK_AT_LEAST: u64 = 256 << 20;
        let bytes = match order {
            Order::Forward => 16 << 20,
            Order::Back => {
                let free = MachineMemory::read().map_or(0, |memory| memory.available);
                BACK_AT_LEAST.max(free / 2)
            }
        };
        Self(usize::try_from(bytes).unwrap_or(usize::MAX) / CHUNK)
    }
}

/// What is known of an image before it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Order of writing.
    pub(crate) order: Order,
    /// What may be held of it.
    pub(crate) room: Room,
    /// It will hardly be longer, in bytes.
    pub(crate) most: u64,
    /// Nodes that fetch it: the length of a piece depends on that, too.
    pub(crate) nodes: u32,
    /// It gets a dm-verity tree behind it.
    pub(crate) verity: bool,
}

/// What is known of a part of [`CHUNK`] bytes.
#[derive(Debug)]
enum Chunk {
    /// Nothing was written: zeros.
    Empty,
    /// Its bytes, zeros past the end; and when it was written last.
    Held { bytes: Vec<u8>, touched: u64 },
    /// It is complete, and was given to the thread under this number.
    Hashed { job: usize, candidates: Candidates },
    /// It was hashed or let go before it was complete.
    Lost,
}

struct Job {
    bytes: Vec<u8>,
    candidates: Candidates,
    verity: bool,
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
    /// Of the complete image, its tree included.
    pub(crate) hashes: Hashes,
    /// The tree that was written behind it, if one was to be.
    pub(crate) verity: Option<Verity>,
    /// Bytes that were read from the file.
    pub(crate) read_back: u64,
}

fn hash(queue: &Receiver<Job>) -> Vec<ChunkHashes> {
    queue.iter().map(|job| ChunkHashes::of(&job.bytes, job.candidates, job.verity)).collect()
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

    /// Of a file of this length that is complete: all of it is read in the end.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(crate) fn too_late(expected: Expected, length: u64) -> io::Result<Self> {
        let mut this = Self::start(expected)?;
        this.set_length(length);
        this.chunks.fill_with(|| Chunk::Lost);
        Ok(this)
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
        while self.held.len() > self.expected.room.0 {
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
            {
                let candidates = self.candidates();
                if let Some(job) = self.give(bytes, candidates) {
                    self.chunks[number] = Chunk::Hashed { job, candidates };
                }
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

    /// Gives a chunk to the thread; its number, or `None` when the thread has ended.
    fn give(&mut self, bytes: Vec<u8>, candidates: Candidates) -> Option<usize> {
        let verity = self.expected.verity;
        self.to_hash.send(Job { bytes, candidates, verity }).ok()?;
        self.jobs += 1;
        Some(self.jobs - 1)
    }

    /// The hashes of the image, which is complete and lies in `file`, and its dm-verity tree, if it is to have
    /// one, written behind it. `progress` is told how many bytes are on their way.
    ///
    /// # Errors
    /// Those of reading, and of writing the tree; [`io::ErrorKind::InvalidData`] when the file has another
    /// length than it should, or none.
    pub(crate) fn finish(
        mut self,
        file: &File,
        mut progress: impl FnMut(u64),
    ) -> io::Result<Followed> {
        let length = self.length;
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        if file.metadata()?.len() != length {
            let text = format!("it should have {length} bytes: another program writes to it");
            return Err(invalid(text));
        }
        let total = match self.expected.verity {
            true => verity::length_with_tree(length).ok_or_else(|| {
                invalid("it is empty, or too long for a dm-verity tree".to_owned())
            })?,
            false => length,
        };
        let mut sum = Sum::new(total, piece_length::choose(total, self.expected.nodes));
        let only = Candidates::only(sum.hashes.piece_length);
        let (whole, rest) = split(length);
        let mut chunks = std::mem::take(&mut self.chunks);
        let tail = chunks.drain(whole..).next();
        let mut read_back = 0;
        let mut bytes_of = |number: usize, chunk: Chunk, size: usize| match chunk {
            Chunk::Empty => Ok(vec![0; size]),
            Chunk::Held { mut bytes, .. } => {
                bytes.truncate(size);
                Ok(bytes)
            }
            Chunk::Hashed { .. } | Chunk::Lost => {
                let mut bytes = vec![0; size];
                file.read_exact_at(&mut bytes, number as u64 * CHUNK as u64)?;
                read_back += size as u64;
                io::Result::Ok(bytes)
            }
        };
        let ended = || io::Error::other("hashing panicked");
        let mut jobs = Vec::with_capacity(whole);
        for (number, chunk) in chunks.into_iter().enumerate() {
            jobs.push(match chunk {
                Chunk::Hashed { job, candidates } if candidates.has(sum.hashes.piece_length) => job,
                other => {
                    let bytes = bytes_of(number, other, CHUNK)?;
                    self.give(bytes, only).ok_or_else(ended)?
                }
            });
            progress((number as u64 + 1) * CHUNK as u64);
        }
        let mut end = tail.map_or(Ok(Vec::new()), |tail| bytes_of(whole, tail, rest))?;
        drop(self.to_hash);
        let hashed = self.hashing.join().map_err(|_| ended())?;
        for job in jobs {
            sum.add(hashed.get(job).ok_or_else(ended)?);
        }
        let verity = if self.expected.verity {
            sum.leaves.extend(verity::leaves(&end));
            let tree = Tree::over(std::mem::take(&mut sum.leaves)).ok_or_else(ended)?;
            file.write_all_at(&tree.bytes, length)?;
            end.extend(tree.bytes);
            Some(tree.verity)
        } else {
            None
        };
        end.chunks(CHUNK).for_each(|part| sum.add(&ChunkHashes::of(part, only, false)));
        progress(total);
        Ok(Followed { hashes: sum.hashes, verity, read_back })
    }
}

/// What is known of the chunks so far, in their order.
struct Sum {
    hashes: Hashes,
    /// Level of the nodes that stand for pieces.
    level: u32,
    leaves: Vec<u8>,
}

impl Sum {
    fn new(length: u64, piece_length: u32) -> Self {
        let level = merkle::piece_level(length, piece_length);
        let hashes = Hashes { length, piece_length, pieces: Vec::new(), layer: Vec::new() };
        Self { hashes, level, leaves: Vec::new() }
    }

    fn add(&mut self, chunk: &ChunkHashes) {
        let pieces = chunk.pieces(self.hashes.piece_length);
        self.hashes.pieces.extend(pieces.unwrap_or_default());
        let blocks = chunk.blocks.chunks(1 << self.level.min(BLOCKS.ilog2()));
        self.hashes.layer.extend(blocks.map(|blocks| merkle::root(blocks, 0, self.level)));
        self.leaves.extend_from_slice(&chunk.leaves);
    }
}

#[cfg(test)]
mod tests;
