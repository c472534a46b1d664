//! Socket options that no safe wrapper has.
#![expect(unsafe_code, reason = "neither nix nor socket2 wraps SO_RCVLOWAT and SIOCOUTQ")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Lets a reader sleep until `bytes` bytes can be read, or the connection ends (`SO_RCVLOWAT` of
/// socket(7)). The kernel takes at most half of the receive buffer.
///
/// # Errors
/// What setsockopt(2) said.
pub fn set_receive_low_water(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(4);
    // SAFETY: the descriptor is open for the length of the borrow, and the option's value is an
    // integer that lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes in the send queue of a TCP socket that the peer has not acknowledged, sent or not
/// (`SIOCOUTQ` of tcp(7)).
///
/// # Errors
/// What ioctl(2) said.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the length of the borrow, and the kernel writes one integer
    // to where `bytes` lives.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, (&raw mut bytes).cast::<()>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    #[test]
    fn a_reader_sleeps_until_enough_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        set_receive_low_water(receiver.as_fd(), 1000).unwrap();
        let ready = |timeout: u8| {
            use nix::poll::{PollFd, PollFlags, poll};
            let mut fds = [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, timeout).unwrap() == 1
        };
        sender.write_all(&[1; 999]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!ready(50), "999 of 1000 bytes");
        sender.write_all(&[1]).unwrap();
        assert!(ready(250));
        let mut bytes = [0; 1000];
        receiver.read_exact(&mut bytes).unwrap();
        set_receive_low_water(receiver.as_fd(), 1).unwrap();
        drop(sender);
        assert_eq!(receiver.read(&mut bytes).unwrap(), 0, "the end wakes the reader");
    }

    #[test]
    fn bytes_are_counted_until_they_are_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sender.set_nonblocking(true).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(sender.as_fd()).unwrap(), 0);
        let mut written = 0;
        while let Ok(count) = sender.write(&[7; 65_536]) {
            written += count;
        }
        let queued = unacknowledged(sender.as_fd()).unwrap();
        assert!(queued > 0, "the receiver takes nothing, so its buffer is full");
        receiver.read_exact(&mut vec![0; written]).unwrap();
        let emptied = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            unacknowledged(sender.as_fd()).unwrap() == 0
        });
        assert!(emptied, "all was read");
    }

    #[test]
    fn a_pipe_is_no_socket() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(unacknowledged(writer.as_fd()).is_err());
        assert!(set_receive_low_water(reader.as_fd(), 1).is_err());
    }
}
