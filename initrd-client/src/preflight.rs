//! Is there memory for the image? Asked before the first byte is fetched.
//!
//! A node that runs out of memory in the middle of its boot is killed at a random place and says
//! nothing useful. The kernel's own estimate (`MemAvailable`) is compared with what the boot takes.

use proto::units::ByteSize;
use sys::memory::MachineMemory;

/// What the fetch takes beside the image, in bytes: the client's promised maximum.
pub const CLIENT_MEMORY: u64 = 64 << 20;

/// What the first moments of the real root take, in bytes: its writable layer and PID 1.
pub const START_MEMORY: u64 = 32 << 20;

/// Room in the image's tmpfs beside the image, in bytes.
const TMPFS_SPARE: u64 = 1 << 20;

/// Page size that tmpfs counts in, in bytes (a multiple of it is right on every machine).
const PAGE: u64 = 64 << 10;

/// Too little memory. The text says how much is needed and how much there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "too little memory: the image takes {} and the boot {} beside it, {} together, but only {} of {} are free; \
     give the node more memory or boot a smaller image",
    ByteSize(*image), ByteSize(CLIENT_MEMORY + START_MEMORY), ByteSize(*needed), ByteSize(*available), ByteSize(*total)
)]
pub struct MemoryShort {
    /// Bytes of the image.
    pub image: u64,
    /// Bytes that must be free.
    pub needed: u64,
    /// Bytes that are free.
    pub available: u64,
    /// Bytes that the machine has.
    pub total: u64,
}

/// Size limit for the tmpfs that holds an image of `image` bytes.
#[must_use]
pub fn tmpfs_size(image: u64) -> u64 {
    image.next_multiple_of(PAGE).saturating_add(TMPFS_SPARE)
}

/// Checks that an image of `image` bytes, of which `present` lie in memory already, fits.
///
/// # Errors
/// [`MemoryShort`] with all the figures.
pub fn check(image: u64, present: u64, memory: MachineMemory) -> Result<(), MemoryShort> {
    let needed =
        tmpfs_size(image).saturating_sub(present).saturating_add(CLIENT_MEMORY + START_MEMORY);
    if needed <= memory.available {
        return Ok(());
    }
    Err(MemoryShort { image, needed, available: memory.available, total: memory.total })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn says_what_is_needed_and_what_there_is() {
        let memory = MachineMemory { total: 2 * GIB, available: GIB };
        check(512 << 20, 0, memory).unwrap();
        let error = check(GIB, 0, memory).unwrap_err();
        assert_eq!(error.needed, GIB + (97 << 20));
        let text = error.to_string();
        for part in ["takes 1 GiB", "96 MiB beside", "1.0 GiB together", "only 1 GiB of 2 GiB"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // a resumed boot has part of it already
        check(GIB, 512 << 20, memory).unwrap();
    }

    #[test]
    fn no_length_overflows() {
        let memory = MachineMemory { total: GIB, available: GIB };
        assert!(check(u64::MAX - PAGE, 0, memory).is_err());
    }

    #[test]
    fn tmpfs_holds_the_image() {
        for image in [1, 4096, 100_000_000] {
            assert!(tmpfs_size(image) >= image + TMPFS_SPARE);
            assert_eq!(tmpfs_size(image) % 4096, 0);
        }
    }
}
