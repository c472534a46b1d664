//! Reading a file or block device without leaving a copy of it in the page cache (O_DIRECT,
//! open(2)).
//!
//! A node re-seeds from the loop device its root is mounted from. Read in the ordinary way, the
//! device would get a second copy of the whole image in memory, for as long as it is mounted.
//! Direct reads add none, and are the faster ones from 64 KiB on; smaller ones are much slower.
//! So every read is served by aligned units of at least [`UNIT`], and the few units touched last
//! are kept for the peer that asks for the next 16 KiB.

mod unit;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, PosixFadviseAdvice, fcntl, posix_fadvise};
use thiserror::Error;

use unit::{AlignedBuffer, UnitCache};

/// Smallest read given to the kernel, in bytes.
pub const UNIT: usize = 64 << 10;

/// Largest read given to the kernel, in bytes.
const BULK: usize = 1 << 20;

/// Alignment of offsets, lengths and memory: a multiple of every logical block size in use.
const ALIGN: usize = 4096;

/// Units kept: 4 MiB at most.
const CACHED_UNITS: usize = 64;

/// Bulk buffers kept for the next read: 4 MiB at most.
const SPARE_BUFFERS: usize = 4;

/// A file or device could not be prepared for direct reads.
#[derive(Debug, Error)]
pub enum DirectError {
    /// It cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file or device.
        path: PathBuf,
        /// What open(2) said.
        #[source]
        source: io::Error,
    },
    /// Its length cannot be found out.
    #[error("cannot tell the length of {}", path.display())]
    Length {
        /// The file or device.
        path: PathBuf,
        /// What lseek(2) said.
        #[source]
        source: io::Error,
    },
}

/// Positional reader. Safe to use from many threads at once.
#[derive(Debug)]
pub struct DirectReader {
    file: File,
    len: u64,
    direct: AtomicBool,
    cache: Mutex<UnitCache>,
    spare: Mutex<Vec<AlignedBuffer>>,
}

impl DirectReader {
    /// Opens `path` for reading.
    ///
    /// # Errors
    /// [`DirectError`]. That direct I/O is refused is not an error.
    pub fn open(path: &Path) -> Result<Self, DirectError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(|e| DirectError::Open { path: path.into(), source: e })?;
        Self::from_file(file, path)
    }

    /// Takes a file that is open already, for example one opened before privileges were dropped.
    /// `path` is only named in errors.
    ///
    /// # Errors
    /// [`DirectError::Length`].
    pub fn from_file(file: File, path: &Path) -> Result<Self, DirectError> {
        let len = (&file)
            .seek(SeekFrom::End(0))
            .map_err(|e| DirectError::Length { path: path.into(), source: e })?;
        let direct = set_direct(&file, true).is_ok();
        if !direct {
            tracing::debug!(path = %path.display(), "no direct i/o here: reading buffered");
        }
        Ok(Self {
            file,
            len,
            direct: AtomicBool::new(direct),
            cache: Mutex::new(UnitCache::new(CACHED_UNITS)),
            spare: Mutex::new(Vec::new()),
        })
    }

    /// Length in bytes, as it was when the reader was made.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether reads bypass the page cache. `false`: they are buffered, and each is followed by
    /// the advice to drop its pages.
    pub fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when the range goes beyond the end; else what pread(2) said.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= self.len);
        let Some(end) = end else { return Err(beyond(offset, buf.len(), self.len)) };
        let (mut at, mut rest) = (offset, buf);
        while at < end {
            let chunk = if rest.len() < UNIT {
                self.read_cached(at, rest)?
            } else {
                self.read_bulk(at, rest)?
            };
            at += chunk as u64;
            rest = &mut rest[chunk..];
        }
        Ok(())
    }

    /// Copies what the unit around `at` has of `buf`; returns how much that was.
    fn read_cached(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let index = at / UNIT as u64;
        let skip = usize::try_from(at % UNIT as u64).expect("less than UNIT");
        if let Some(copied) = lock(&self.cache).copy(index, skip, buf) {
            return Ok(copied);
        }
        // Read without the lock: other readers go on meanwhile.
        let mut unit = lock(&self.cache).take_oldest().unwrap_or_else(|| AlignedBuffer::new(UNIT));
        let filled = self.fill(index * UNIT as u64, unit.as_mut_slice())?;
        let mut cache = lock(&self.cache);
        cache.insert(index, unit, filled);
        cache.copy(index, skip, buf).ok_or_else(|| beyond(at, buf.len(), self.len))
    }

    /// Copies up to [`BULK`] bytes by one large read.
    fn read_bulk(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let skip = usize::try_from(at % ALIGN as u64).expect("less than ALIGN");
        let wanted = (skip + buf.len()).next_multiple_of(ALIGN).min(BULK);
        let mut bulk = lock(&self.spare).pop().unwrap_or_else(|| AlignedBuffer::new(BULK));
        let filled = self.fill(at - skip as u64, &mut bulk.as_mut_slice()[..wanted]);
        let copied = filled.and_then(|filled| {
            let have = filled.saturating_sub(skip).min(buf.len());
            if have == 0 {
                return Err(beyond(at, buf.len(), self.len));
            }
            buf[..have].copy_from_slice(&bulk.as_mut_slice()[skip..skip + have]);
            Ok(have)
        });
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE_BUFFERS {
            spare.push(bulk);
        }
        copied
    }

    /// Reads aligned bytes until `buf` is full or the end is reached; returns how many there are.
    fn fill(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // Some file systems take the flag and refuse the read.
                Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32) && self.is_direct() => {
                    set_direct(&self.file, false)?;
                    self.direct.store(false, Ordering::Relaxed);
                    continue;
                }
                Err(e) => return Err(e),
            }
            // A direct read of an odd length met the end; asking again from there would be an
            // unaligned read.
            if filled % ALIGN != 0 && self.is_direct() {
                break;
            }
        }
        if !self.is_direct() {
            self.drop_cached_pages(offset, filled);
        }
        Ok(filled)
    }

    fn drop_cached_pages(&self, offset: u64, len: usize) {
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
        // Advice only: where it is refused the pages stay until the kernel needs them.
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        let _ = posix_fadvise(&self.file, offset, len, advice);
    }
}

fn set_direct(file: &File, on: bool) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    let mut wanted = flags - OFlag::O_NONBLOCK;
    wanted.set(OFlag::O_DIRECT, on);
    fcntl(file, FcntlArg::F_SETFL(wanted)).map(drop).inspect_err(|e| {
        tracing::trace!(fd = file.as_raw_fd(), err = %e, "cannot change direct i/o");
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Buffers are valid whatever happened to the thread that held them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn beyond(offset: u64, wanted: usize, len: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("{wanted} bytes at {offset} asked of {len} bytes: the file or device is too short"),
    )
}

#[cfg(test)]
mod tests;
