//! File to socket inside the kernel (sendfile(2)).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::sys::sendfile::sendfile64;

/// Sends up to `count` bytes of `file`, from `offset` on, into `socket`; returns how many went.
///
/// Made for `tokio::net::TcpStream::try_io`: on a non-blocking socket that is full it returns
/// [`io::ErrorKind::WouldBlock`]. The file's own position is not used. 0 means the end of the
/// file: it is shorter than the caller thought.
///
/// # Errors
/// Those of sendfile(2); `InvalidInput` for an offset beyond 2^63.
pub fn send_file(socket: impl AsFd, file: &File, offset: u64, count: usize) -> io::Result<usize> {
    let mut offset = i64::try_from(offset)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "offset beyond 2^63"))?;
    Ok(sendfile64(socket, file, Some(&mut offset), count)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_arrive_and_a_full_socket_would_block() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=255_u8).cycle().take(4 << 20).collect();
        file.write_all(&bytes).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (mut sent, mut received, mut blocked) = (1000_usize, Vec::new(), 0);
        while sent < bytes.len() {
            match send_file(&ours, &file, sent as u64, bytes.len() - sent) {
                Ok(0) => panic!("end of file before its length"),
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    blocked += 1;
                    let mut buf = [0; 65536];
                    let n = theirs.read(&mut buf).unwrap();
                    received.extend_from_slice(&buf[..n]);
                }
                Err(e) => panic!("{e}"),
            }
        }
        drop(ours);
        theirs.read_to_end(&mut received).unwrap();
        assert!(blocked > 0, "4 MiB do not fit into a socket");
        assert!(received == bytes[1000..]);
    }

    #[test]
    fn end_of_file_is_zero() {
        let file = tempfile::tempfile().unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(send_file(&ours, &file, 5, 10).unwrap(), 0);
        assert!(send_file(&ours, &file, u64::MAX, 10).is_err());
    }
}
