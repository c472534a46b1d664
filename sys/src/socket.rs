//! Socket options that no safe wrapper has.
#![expect(unsafe_code, reason = "neither nix nor socket2 wraps SO_RCVLOWAT")]

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
    fn a_pipe_is_no_socket() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(set_receive_low_water(reader.as_fd(), 1).is_err());
    }
}
