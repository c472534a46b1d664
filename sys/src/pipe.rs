//! A pipe as a basket: bytes from memory and parts of a file are collected in it, and go to a socket
//! together, without being copied (splice(2)).
//!
//! sendfile(2) can do that for one part of a file; but each call ends with the kernel sending what it
//! has, so that many short parts become many small packets.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::{pipe2, write};

/// A pipe that holds what is on its way from a file to a socket.
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

impl Pipe {
    /// The longest text that [`Self::put`] takes.
    pub const MAX_PUT: usize = 4096;

    /// An empty one, with room for `pages` parts of a file or of memory, each of a page at most, if
    /// the system allows so many.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new(pages: u32) -> io::Result<Self> {
        let (out, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let bytes = i32::try_from(u64::from(pages) * 4096).unwrap_or(i32::MAX);
        // with less room it takes more rounds
        let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(bytes));
        Ok(Self { out, into, held: 0 })
    }

    /// Bytes in it.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Adds all of `bytes`, a page at most.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when they do not fit: nothing is added then.
    /// `InvalidInput` when they never will.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > Self::MAX_PUT {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "longer than a page"));
        }
        // up to PIPE_BUF bytes are written together or not at all, pipe(7)
        self.held += write(&self.into, bytes)?;
        Ok(())
    }

    /// Adds up to `count` bytes of `file`, from `offset` on; returns how many. 0 means the end of the
    /// file: it is shorter than the caller thought. Changing the file now changes what is sent.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the pipe is full, or what splice(2) says of the file.
    pub fn fill(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        let mut offset = i64::try_from(offset)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "offset beyond 2^63"))?;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        let count = splice(file, Some(&mut offset), &self.into, None, count, flags)?;
        self.held += count;
        Ok(count)
    }

    /// Sends what it holds into `socket`; returns how many bytes went. `more` says that more follows
    /// at once, so that a packet that is not full may wait for it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when a non-blocking socket is full, or what splice(2) says of the
    /// socket.
    pub fn drain(&mut self, socket: impl AsFd, more: bool) -> io::Result<usize> {
        if self.held == 0 {
            return Ok(0);
        }
        let mut flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        flags.set(SpliceFFlags::SPLICE_F_MORE, more);
        let count = splice(&self.out, None, socket, None, self.held, flags)?;
        self.held -= count.min(self.held);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn memory_and_file_arrive_in_order() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(200_000).collect();
        file.write_all(&bytes).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut pipe = Pipe::new(64).unwrap();
        pipe.put(b"head").unwrap();
        assert_eq!(pipe.fill(&file, 100, 16_384).unwrap(), 16_384);
        pipe.put(b"next").unwrap();
        assert_eq!(pipe.fill(&file, 3, 5).unwrap(), 5);
        assert_eq!(pipe.held(), 16_397);
        let mut received = Vec::new();
        while pipe.held() > 0 {
            pipe.drain(&ours, false).unwrap();
        }
        drop(ours);
        theirs.read_to_end(&mut received).unwrap();
        let wanted = [b"head", &bytes[100..16_484], b"next", &bytes[3..8]].concat();
        assert!(received == wanted);
    }

    #[test]
    fn a_full_pipe_and_a_full_socket_would_block_and_lose_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(4 << 20).collect();
        file.write_all(&bytes).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut pipe = Pipe::new(16).unwrap();
        let (mut taken, mut received) = (0, Vec::new());
        let (mut pipe_full, mut socket_full) = (0, 0);
        while received.len() < bytes.len() {
            match pipe.fill(&file, taken as u64, bytes.len() - taken) {
                Ok(count) => taken += count,
                Err(e) => {
                    assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                    pipe_full += 1;
                }
            }
            match pipe.drain(&ours, taken < bytes.len()) {
                Ok(_) if taken < bytes.len() => {}
                Ok(_) | Err(_) => {
                    socket_full += 1;
                    let mut buf = [0; 65_536];
                    let count = theirs.read(&mut buf).unwrap();
                    received.extend_from_slice(&buf[..count]);
                }
            }
        }
        assert!(received == bytes);
        assert!(pipe_full > 0 && socket_full > 0);
    }

    #[test]
    fn the_end_of_the_file_is_zero_and_too_much_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let mut pipe = Pipe::new(16).unwrap();
        assert_eq!(pipe.fill(&file, 5, 10).unwrap(), 0);
        assert!(pipe.fill(&file, u64::MAX, 10).is_err());
        assert!(pipe.put(&[0; 5000]).is_err());
        assert_eq!(pipe.held(), 0);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(pipe.drain(&ours, false).unwrap(), 0);
    }
}
