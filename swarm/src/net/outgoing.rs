//! What one write to a peer consists of: messages from memory, and blocks that the kernel takes
//! straight from the image's file, by way of a pipe.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use sys::pipe::Pipe;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::core::Moment;

/// Unsent bytes the kernel keeps per connection at least. With more, every peer's turn would be over
/// at once and all would be sent to at the same time: simulated, 64 KiB made 100 nodes a fifth
/// slower at 25 Mbit/s.
pub(crate) const UNSENT: u32 = 16 * 1024;

/// … and at most, on links where even this is gone in less than a millisecond.
const MOST_UNSENT: u32 = 512 * 1024;

/// After this much the rate of a connection is looked at again, or after this long.
const MEASURED: u64 = 1024 * 1024;
const MEASURED_FOR: Duration = Duration::from_secs(1);

/// Memory that an empty one keeps.
const KEPT: usize = 128 * 1024;

/// Bytes from memory that go into the pipe, too; more are sent by themselves.
const WORTH_COPYING: usize = 512;

/// Room of a pipe: 20 blocks with their headers, more than a peer's turn.
const BASKET_PAGES: u32 = 128;

/// Pipes kept: two descriptors each.
const SPARE_BASKETS: usize = 8;

/// A part of the image, sent after the first `at` bytes from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Insert {
    at: usize,
    offset: u64,
    length: usize,
}

/// Bytes to send, in order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// What comes from memory.
    pub(crate) bytes: Vec<u8>,
    inserts: Vec<Insert>,
}

/// Why a write ended early.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The connection is gone.
    Connection,
    /// The file ends before this offset, or cannot be read there, or the connection is gone: the
    /// system does not say which.
    Image { offset: u64 },
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.inserts.is_empty()
    }

    /// Appends `length` bytes of the image.
    pub(crate) fn insert(&mut self, offset: u64, length: usize) {
        self.inserts.push(Insert { at: self.bytes.len(), offset, length });
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.inserts.clear();
    }

    /// Sends everything. `image` is the file that [`Self::insert`] means.
    pub(crate) async fn send(
        &self,
        stream: &TcpStream,
        image: Option<(&File, &Baskets)>,
    ) -> Result<(), SendError> {
        let mut from = 0;
        if let (false, Some((image, baskets))) = (self.inserts.is_empty(), image) {
            // without a descriptor for a pipe each part goes by itself
            let mut basket = baskets.take();
            for insert in &self.inserts {
                let bytes = self.bytes.get(from..insert.at).unwrap_or_default();
                if let Some(basket) = &mut basket {
                    send_before(stream, basket, bytes).await?;
                    collect(stream, basket, image, *insert).await?;
                } else {
                    send_bytes(stream, bytes, true).await?;
                    send_part(stream, image, *insert).await?;
                }
                from = insert.at;
            }
            if let Some(mut basket) = basket {
                drain_all(stream, &mut basket, from < self.bytes.len()).await?;
                baskets.put_back(basket);
            }
        }
        send_bytes(stream, self.bytes.get(from..).unwrap_or_default(), false).await
    }
}

/// What comes from memory before a part of the image: most often the header of a block.
async fn send_before(stream: &TcpStream, basket: &mut Pipe, bytes: &[u8]) -> Result<(), SendError> {
    if bytes.len() > WORTH_COPYING {
        drain_all(stream, basket, true).await?;
        return send_bytes(stream, bytes, true).await;
    }
    loop {
        match basket.put(bytes) {
            Ok(()) => return Ok(()),
            Err(error) if is_full(&error, basket) => drain(stream, basket, true).await?,
            Err(_) => return Err(SendError::Connection),
        }
    }
}

fn is_full(error: &io::Error, basket: &Pipe) -> bool {
    error.kind() == io::ErrorKind::WouldBlock && basket.held() > 0
}

async fn send_bytes(stream: &TcpStream, bytes: &[u8], more: bool) -> Result<(), SendError> {
    let flags = if more { nix::libc::MSG_MORE } else { 0 };
    let mut rest = bytes;
    while !rest.is_empty() {
        let step = || SockRef::from(stream).send_with_flags(rest, flags);
        match stream.async_io(Interest::WRITABLE, step).await {
            Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
            _ => return Err(SendError::Connection),
        }
    }
    Ok(())
}

/// Adds a part of the image to what is in the basket.
async fn collect(
    stream: &TcpStream,
    basket: &mut Pipe,
    image: &File,
    part: Insert,
) -> Result<(), SendError> {
    let (mut offset, mut left) = (part.offset, part.length);
    while left > 0 {
        match basket.fill(image, offset, left) {
            Ok(count) if count > 0 => {
                left = left.saturating_sub(count);
                offset += count as u64;
            }
            Err(error) if is_full(&error, basket) => drain(stream, basket, true).await?,
            _ => return Err(SendError::Image { offset }),
        }
    }
    Ok(())
}

/// A part of the image by itself.
async fn send_part(stream: &TcpStream, image: &File, part: Insert) -> Result<(), SendError> {
    let (mut offset, mut left) = (part.offset, part.length);
    while left > 0 {
        let step = || sys::sendfile::send_file(stream, image, offset, left);
        match stream.async_io(Interest::WRITABLE, step).await {
            Ok(count) if count > 0 => {
                left = left.saturating_sub(count);
                offset += count as u64;
            }
            _ => return Err(SendError::Image { offset }),
        }
    }
    Ok(())
}

async fn drain_all(stream: &TcpStream, basket: &mut Pipe, more: bool) -> Result<(), SendError> {
    while basket.held() > 0 {
        drain(stream, basket, more).await?;
    }
    Ok(())
}

/// Sends some of what is in the basket.
async fn drain(stream: &TcpStream, basket: &mut Pipe, more: bool) -> Result<(), SendError> {
    let step = || basket.drain(stream, more);
    stream.async_io(Interest::WRITABLE, step).await.map_err(|_| SendError::Connection)?;
    Ok(())
}

/// Pipes for parts of the image on their way to a socket. Few peers are sent to at a time, so few are
/// needed, however many are connected.
#[derive(Debug, Default)]
pub(crate) struct Baskets {
    spare: Mutex<Vec<Pipe>>,
}

impl Baskets {
    /// `None` when no descriptor is left.
    fn take(&self) -> Option<Pipe> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.or_else(|| Pipe::new(BASKET_PAGES).ok())
    }

    /// Only an empty one: what is left in it was meant for somebody else.
    fn put_back(&self, basket: Pipe) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if basket.held() == 0 && spare.len() < SPARE_BASKETS {
            spare.push(basket);
        }
    }
}

/// How much a connection may leave unsent in the kernel: what it sends in a millisecond.
///
/// A fixed amount would be a wake-up for every 16 KiB on a fast link, and too much of a queue on a
/// slow one.
#[derive(Debug)]
pub(crate) struct Unsent {
    bound: u32,
    bytes: u64,
    since: Moment,
}

impl Unsent {
    pub(crate) fn new(now: Moment) -> Self {
        Self { bound: UNSENT, bytes: 0, since: now }
    }

    /// The bound, in bytes.
    pub(crate) fn bound(&self) -> u32 {
        self.bound
    }

    /// So much was sent; the new bound, if it changed.
    pub(crate) fn sent(&mut self, bytes: u64, now: Moment) -> Option<u32> {
        self.bytes += bytes;
        let took = now.saturating_sub(self.since);
        if self.bytes < MEASURED && took < MEASURED_FOR {
            return None;
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let in_a_millisecond = self.bytes.saturating_mul(1000) / micros;
        (self.bytes, self.since) = (0, now);
        let unsent = u32::try_from(in_a_millisecond).unwrap_or(MOST_UNSENT);
        // in steps, so that it is not set again each time
        let bound = unsent.clamp(UNSENT, MOST_UNSENT).next_power_of_two();
        (std::mem::replace(&mut self.bound, bound) != bound).then_some(bound)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (ours, listener.accept().await.unwrap().0)
    }

    fn image() -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(1 << 20).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }

    #[tokio::test]
    async fn memory_and_image_go_out_in_order_and_pipes_are_used_again() {
        let (file, bytes) = image();
        let baskets = Baskets::default();
        let mut out = Outgoing::default();
        let mut wanted = Vec::new();
        // more than a pipe holds, and a text that does not go through it
        for number in 0..40_u8 {
            let head = vec![number; if number == 7 { 9_000 } else { 13 }];
            out.bytes.extend(&head);
            out.insert(u64::from(number) * 20_000, 16_384);
            wanted.extend(head);
            let from = usize::from(number) * 20_000;
            wanted.extend(&bytes[from..from + 16_384]);
        }
        out.bytes.extend(b"end");
        wanted.extend(b"end");
        for _ in 0..2 {
            let (ours, mut theirs) = pair().await;
            let mut received = vec![0; wanted.len()];
            let (sent, read) = tokio::join!(
                out.send(&ours, Some((&file, &baskets))),
                theirs.read_exact(&mut received)
            );
            sent.unwrap();
            read.unwrap();
            assert!(received == wanted);
            assert_eq!(baskets.spare.lock().unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn without_a_pipe_it_goes_out_part_by_part() {
        let (file, bytes) = image();
        let (ours, mut theirs) = pair().await;
        let part = Insert { at: 0, offset: 5_000, length: 100_000 };
        let mut received = vec![0; 100_000];
        let (sent, read) =
            tokio::join!(send_part(&ours, &file, part), theirs.read_exact(&mut received));
        sent.unwrap();
        read.unwrap();
        assert!(received == bytes[5_000..105_000]);
    }

    #[tokio::test]
    async fn the_end_of_the_file_is_named_and_what_is_left_is_thrown_away() {
        let (file, _) = image();
        let baskets = Baskets::default();
        let (ours, theirs) = pair().await;
        let mut out = Outgoing::default();
        out.bytes.extend(b"header");
        out.insert((1 << 20) - 100, 200);
        let end = out.send(&ours, Some((&file, &baskets))).await;
        assert!(matches!(end, Err(SendError::Image { offset }) if offset == 1 << 20), "{end:?}");
        assert!(baskets.spare.lock().unwrap().is_empty(), "its bytes were meant for this peer");
        // and a peer that is gone is not the file's fault
        drop(theirs);
        out.clear();
        (0..64).for_each(|_| out.insert(0, 1 << 20));
        let end = out.send(&ours, Some((&file, &baskets))).await;
        assert!(matches!(end, Err(SendError::Connection)), "{end:?}");
        assert!(baskets.spare.lock().unwrap().is_empty());
    }

    #[test]
    fn the_kernel_keeps_more_on_fast_links_only() {
        let at = Duration::from_millis;
        let mut unsent = Unsent::new(at(0));
        // 25 Mbit/s
        for second in 1..5 {
            assert_eq!(unsent.sent(3_125_000, at(1000 * second)), None);
        }
        // 1 GB/s
        assert_eq!(unsent.sent(1 << 20, at(4001)), Some(MOST_UNSENT));
        assert_eq!(unsent.sent(500_000, at(4002)), None, "not looked at yet");
        // and then little
        assert_eq!(unsent.sent(500_000, at(6000)), Some(UNSENT));
    }
}
