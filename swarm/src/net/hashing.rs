//! Hashing and disk I/O, off the reactor and bounded.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use proto::bitfield::Bitfield;
use proto::geometry::{BLOCK_LEN, Block, PieceIndex};
use proto::merkle::Node;
use proto::metainfo::Metainfo;
use proto::wire::piece_header;
use tokio::sync::{OnceCell, Semaphore};

use super::backlog::{Queue, Whole};
use super::digests::{self, Digests};
use super::outgoing::{Baskets, Outgoing};
use super::tasks;
use crate::progress::TorrentError;
use crate::storage::Storage;

/// Jobs on threads for blocking work at once, per torrent.
const JOBS: usize = 4;

/// Largest piece that is hashed where it arrives when the storage is memory: about 0.1 ms.
const INLINE: u32 = 128 * 1024;

/// The same while many come: of smaller ones one read brings several.
const INLINE_OF_MANY: u32 = 32 * 1024;

/// Most memory for pieces read ahead of the blocks asked for.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// So much that was read last is taken to be in the system's page cache still.
const WARM_BYTES: u64 = 256 * 1024 * 1024;

type Loaded = Arc<OnceCell<Arc<Vec<u8>>>>;

/// Reads, writes and hashes one image.
pub(crate) struct Disk {
    metainfo: Arc<Metainfo>,
    digests: Digests,
    storage: Arc<dyn Storage>,
    jobs: Semaphore,
    /// Pieces that must be hashed before their first byte is sent.
    doubtful: Mutex<Bitfield>,
    cache: Mutex<VecDeque<(PieceIndex, Loaded)>>,
    cache_pieces: usize,
    /// Complete pieces to be hashed and stored.
    pub(crate) queue: Queue,
    baskets: Baskets,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("length", &self.storage.len()).finish_non_exhaustive()
    }
}

impl Disk {
    /// `sha256` as in [`Digests::new`].
    pub(crate) fn new(
        metainfo: Arc<Metainfo>,
        storage: Arc<dyn Storage>,
        doubtful: bool,
        sha256: bool,
    ) -> Self {
        let digests = Digests::new(metainfo.clone(), sha256);
        let geometry = metainfo.info.geometry;
        let pieces = geometry.pieces();
        let bytes = if storage.file().is_some() { WARM_BYTES } else { CACHE_BYTES };
        let fit = bytes / u64::from(geometry.piece_length());
        Self {
            jobs: Semaphore::new(JOBS),
            doubtful: Mutex::new(if doubtful {
                Bitfield::full(pieces)
            } else {
                Bitfield::empty(pieces)
            }),
            cache: Mutex::new(VecDeque::new()),
            cache_pieces: usize::try_from(fit).unwrap_or(4).clamp(4, 1024),
            queue: Queue::new(JOBS, digests.batch(), geometry.piece_length()),
            baskets: Baskets::default(),
            digests,
            metainfo,
            storage,
        }
    }

    /// Whether checking and storing a piece is quick enough for the reactor; `more_soon` says that
    /// they come so fast that several at once, on another thread, are quicker.
    pub(crate) fn is_quick(&self, more_soon: bool) -> bool {
        let most = if more_soon { INLINE_OF_MANY } else { INLINE };
        self.storage.in_memory() && self.metainfo.info.geometry.piece_length() <= most
    }

    /// Compares pieces with their hashes and writes those that are good.
    ///
    /// # Errors
    /// [`TorrentError::Write`], for each piece by itself.
    pub(crate) fn check_and_write(&self, pieces: &[Whole]) -> Vec<Result<bool, TorrentError>> {
        let data: Vec<_> = pieces.iter().map(|whole| (whole.piece, &*whole.data)).collect();
        let good = self.digests.compare(&data);
        pieces.iter().zip(good).map(|(whole, good)| self.write_if(whole, good)).collect()
    }

    fn write_if(&self, whole: &Whole, good: bool) -> Result<bool, TorrentError> {
        if !good {
            return Ok(false);
        }
        let offset = self.metainfo.info.geometry.piece_offset(whole.piece);
        self.storage
            .write_at(offset, &whole.data)
            .map_err(|e| TorrentError::Write { offset, source: Arc::new(e) })?;
        Ok(true)
    }

    /// Whether a piece that is wrong is one wrong block, as BEP 52 sees it.
    pub(crate) fn one_block_each(&self) -> bool {
        let info = &self.metainfo.info;
        info.tree().is_some() && info.geometry.piece_length() == BLOCK_LEN
    }

    /// The digests of a piece's blocks, read from the storage. `None` when it cannot be read or is not
    /// what the torrent says.
    pub(crate) async fn block_digests(self: &Arc<Self>, piece: PieceIndex) -> Option<Vec<Node>> {
        let disk = self.clone();
        let data = self.blocking(move || disk.read_piece(piece).ok()).await??;
        let nodes = digests::blocks(&[&data]).pop()?;
        self.metainfo.info.tree()?.piece_is(piece, &nodes).then_some(nodes)
    }

    /// Waits until the pieces to be hashed are few enough.
    pub(crate) async fn room(&self) {
        self.queue.room().await;
    }

    /// Runs a blocking job; at most [`JOBS`] at once. `None` when the runtime is going down.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _permit = self.jobs.acquire().await.ok()?;
        tasks::on_thread(job).await.ok()
    }

    /// Hashes a piece of the storage. `Ok(false)` when it differs.
    fn piece_is_good(&self, piece: PieceIndex) -> io::Result<bool> {
        let data = self.read_piece(piece)?;
        Ok(self.digests.compare(&[(piece, &data)]) == [true])
    }

    fn read_piece(&self, piece: PieceIndex) -> io::Result<Vec<u8>> {
        let geometry = &self.metainfo.info.geometry;
        let mut data = vec![0; geometry.piece_size(piece) as usize];
        self.storage.read_at(geometry.piece_offset(piece), &mut data)?;
        Ok(data)
    }

    /// Hashes everything in the storage; `report` gets the results in order. What cannot be read
    /// counts as missing.
    pub(crate) async fn check_all(self: &Arc<Self>, mut report: impl FnMut(PieceIndex, bool)) {
        let mut pieces = self.metainfo.info.geometry.indices();
        let mut running = VecDeque::new();
        loop {
            for piece in pieces.by_ref().take(JOBS - running.len()) {
                let disk = self.clone();
                let check = move || disk.piece_is_good(piece).unwrap_or(false);
                running.push_back((piece, tasks::on_thread(check)));
            }
            let Some((piece, good)) = running.pop_front() else { return };
            if let Ok(good) = good.await {
                report(piece, good);
            }
        }
    }

    /// The file that blocks are sent from, if the storage has one, and what they are sent with.
    pub(crate) fn file(&self) -> Option<(&File, &Baskets)> {
        self.storage.file().map(|file| (file, &self.baskets))
    }

    /// Appends a block with its wire header to `out`. What is in a file stays there until it is
    /// sent; it was hashed once, and lay in memory a moment ago.
    ///
    /// # Errors
    /// [`TorrentError`] when the storage cannot be read, is too short, or differs from the torrent.
    pub(crate) async fn append_block(
        self: &Arc<Self>,
        block: Block,
        out: &mut Outgoing,
    ) -> Result<(), TorrentError> {
        let offset = self.metainfo.info.geometry.block_offset(block);
        let doubtful =
            self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).has(block.piece);
        let ready = self.storage.in_memory() && !doubtful;
        let data = if ready { None } else { Some(self.piece(block.piece).await?) };
        out.bytes.extend(piece_header(block));
        if self.storage.file().is_some() {
            out.insert(offset, block.length as usize);
            return Ok(());
        }
        let start = out.bytes.len();
        let Some(data) = data else {
            out.bytes.resize(start + block.length as usize, 0);
            return self
                .storage
                .read_at(offset, &mut out.bytes[start..])
                .map_err(|e| self.read_error(offset, e));
        };
        let range = block.begin as usize..(block.begin + block.length) as usize;
        match data.get(range) {
            Some(bytes) => out.bytes.extend_from_slice(bytes),
            None => return Err(self.read_error(offset, io::ErrorKind::UnexpectedEof.into())),
        }
        Ok(())
    }

    /// Reads the byte at `offset`: says why it could not be sent, if that was the storage's fault.
    ///
    /// # Errors
    /// [`TorrentError`] when it cannot be read.
    pub(crate) async fn probe(self: &Arc<Self>, offset: u64) -> Result<(), TorrentError> {
        let disk = self.clone();
        let read =
            move || disk.storage.read_at(offset, &mut [0]).map_err(|e| disk.read_error(offset, e));
        self.blocking(read).await.unwrap_or(Err(TorrentError::Stopped))
    }

    /// A whole piece, from the cache or the storage; hashed if that was not done yet.
    async fn piece(self: &Arc<Self>, piece: PieceIndex) -> Result<Arc<Vec<u8>>, TorrentError> {
        let cell = self.cell(piece);
        let loaded = cell.get_or_try_init(|| async {
            let disk = self.clone();
            let load = move || {
                let mut data = disk.load(piece)?;
                if disk.storage.file().is_some() {
                    // that it was read lately is all that counts
                    data = Vec::new();
                }
                Ok(data)
            };
            self.blocking(load).await.unwrap_or(Err(TorrentError::Stopped)).map(Arc::new)
        });
        loaded.await.cloned()
    }

    fn cell(&self, piece: PieceIndex) -> Loaded {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = match cache.iter().position(|(cached, _)| *cached == piece) {
            Some(at) => cache.remove(at).map(|(_, cell)| cell).unwrap_or_default(),
            None => Loaded::default(),
        };
        cache.push_back((piece, cell.clone()));
        if cache.len() > self.cache_pieces {
            cache.pop_front();
        }
        cell
    }

    fn load(&self, piece: PieceIndex) -> Result<Vec<u8>, TorrentError> {
        let pieces = self.doubtful_from(piece);
        let read = |piece: &PieceIndex| {
            let offset = self.metainfo.info.geometry.piece_offset(*piece);
            self.read_piece(*piece).map_err(|e| self.read_error(offset, e))
        };
        if pieces.is_empty() {
            return read(&piece);
        }
        let mut data = pieces.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let both: Vec<_> = pieces.iter().zip(&data).map(|(p, data)| (*p, &**data)).collect();
        let good = self.digests.compare(&both);
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        for (piece, good) in pieces.into_iter().zip(good) {
            if !good {
                return Err(TorrentError::WrongData { piece: piece.0 });
            }
            doubtful.remove(piece);
        }
        Ok(data.swap_remove(0))
    }

    /// A piece that must be hashed, and those after it that are hashed in the same go: from a file
    /// everything will be sent some day. None when it need not be.
    fn doubtful_from(&self, piece: PieceIndex) -> Vec<PieceIndex> {
        let count = if self.storage.file().is_some() { self.queue.batch() } else { 1 };
        let last = self.metainfo.info.geometry.pieces();
        let doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (piece.0..last).map(PieceIndex);
        next.take(count).take_while(|piece| doubtful.has(*piece)).collect()
    }

    fn read_error(&self, offset: u64, source: io::Error) -> TorrentError {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            // the length of an open file may have changed since: find where it ends
            let expected = self.metainfo.info.geometry.total();
            let (mut low, mut high) = (0, expected);
            while low < high {
                let middle = low + (high - low) / 2;
                match self.storage.read_at(middle, &mut [0]) {
                    Ok(()) => low = middle + 1,
                    Err(_) => high = middle,
                }
            }
            return TorrentError::Truncated { length: low, expected };
        }
        TorrentError::Read { offset, source: Arc::new(source) }
    }
}

#[cfg(test)]
mod tests {
    use proto::geometry::Geometry;
    use proto::hash::PieceHash;
    use proto::metainfo::Info;

    use super::*;
    use crate::storage::{FileStorage, MemoryStorage};

    #[test]
    fn what_a_file_holds_is_hashed_a_few_pieces_at_a_time() {
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(6 * 16_384).collect();
        let hashes = bytes.chunks(16_384).map(PieceHash::of).collect();
        let geometry = Geometry::new(6 * 16_384, 16_384).unwrap();
        let info = Info::new("image", geometry, true, hashes).unwrap();
        let metainfo = Arc::new(Metainfo::new(info, Vec::new(), Vec::new(), None).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, &bytes).unwrap();
        let left = |disk: &Disk| -> Vec<u32> {
            disk.doubtful.lock().unwrap().iter().map(|p| p.0).collect()
        };
        let file = FileStorage::open_read_only(&path).unwrap();
        let disk = Disk::new(metainfo.clone(), Arc::new(file), true, false);
        assert_eq!(disk.load(PieceIndex(1)).unwrap(), bytes[16_384..2 * 16_384]);
        assert_eq!(left(&disk), [0, 5], "in one go");
        disk.load(PieceIndex(0)).unwrap();
        assert_eq!(left(&disk), [5], "and no piece twice");
        let memory = MemoryStorage::zeroed(6 * 16_384);
        memory.write_at(0, &bytes).unwrap();
        let disk = Disk::new(metainfo, Arc::new(memory), true, false);
        assert_eq!(disk.load(PieceIndex(1)).unwrap(), bytes[16_384..2 * 16_384]);
        assert_eq!(left(&disk), [0, 2, 3, 4, 5], "only what is asked for");
    }
}
