//! A terminal for a program that tells only terminals how far it is.
//!
//! Into a pipe mksquashfs prints its count when a look at it, four times a second, happens to find a multiple of
//! 100 blocks: once in 25 seconds. To a terminal it prints it each time.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

/// Lines of 80 characters: none are left for a count where a terminal has no width.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Our end, and that of the program, which changes no byte.
///
/// # Errors
/// Those of openpty(3), as where there is no `/dev/pts`.
pub(crate) fn open() -> io::Result<(File, OwnedFd)> {
    let OpenptyResult { master, slave } = openpty(&SIZE, None)?;
    // a program that held our end would outlive us unnoticed
    for end in [&master, &slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    let mut mode = tcgetattr(&slave)?;
    cfmakeraw(&mut mode);
    tcsetattr(&slave, SetArg::TCSANOW, &mode)?;
    Ok((File::from(master), slave))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_takes_it_for_a_terminal_and_its_bytes_come_as_they_are() {
        let (mut ours, theirs) = open().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "test -t 1 && stty size < /dev/stdout && printf 'a\\nb'"]);
        let mut child = command.stdout(theirs).spawn().unwrap();
        drop(command);
        let mut said = Vec::new();
        // the end is an error, EIO
        let _ = ours.read_to_end(&mut said);
        assert!(child.wait().unwrap().success());
        assert_eq!(String::from_utf8_lossy(&said), "24 80\na\nb");
    }
}
