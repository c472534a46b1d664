//! A file, or a part of it, into a connection.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes given to one sendfile(2). Reading them may wait for the disk, and that wait is on a thread
/// of the runtime: small enough not to hold up other connections, large enough to be cheap.
const CHUNK: usize = 1 << 20;

/// Sends `part` of `file`, telling `sent` after each step how many bytes went out.
///
/// # Errors
/// The connection broke, or nothing moved for `stall`; `UnexpectedEof` when the file is shorter
/// than it was when it was opened. The connection must be closed then: the client was promised
/// more.
pub(super) async fn send(
    stream: &TcpStream,
    file: &File,
    part: Range<u64>,
    stall: Duration,
    mut sent: impl FnMut(u64),
) -> io::Result<()> {
    let mut at = part.start;
    while at < part.end {
        let count = usize::try_from(part.end - at).unwrap_or(CHUNK).min(CHUNK);
        let step = stream
            .async_io(Interest::WRITABLE, || sys::sendfile::send_file(stream, file, at, count));
        let done = timeout(stall, step)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))??;
        if done == 0 {
            let text = "the file became shorter while it was sent";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let done = u64::try_from(done).unwrap_or(0);
        at += done;
        sent(done);
        // A fast client on a cached file would never be not writable: let others run.
        tokio::task::yield_now().await;
    }
    Ok(())
}
