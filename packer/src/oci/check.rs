//! Hashing what is read, while it is read.

use std::io::{self, Read};

use proto::hash::{Sha256Digest, Sha256Stream};

/// A reader and the digest of all that was read.
#[derive(Debug)]
pub(super) struct Checked<R> {
    input: R,
    digest: Sha256Stream,
}

impl<R: Read> Checked<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, digest: Sha256Stream::default() }
    }

    /// Reads what is left.
    pub(super) fn read_to_end(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }

    /// The reader, and the digest of what was read of it.
    pub(super) fn finish(self) -> (R, Sha256Digest) {
        (self.input, self.digest.finish())
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}
