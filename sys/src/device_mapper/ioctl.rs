//! The ioctls of device-mapper, with the numbers and structures of `linux/dm-ioctl.h`, version 4.0.
#![expect(unsafe_code, reason = "nix has no wrapper for the ioctls of device-mapper")]

use std::fs::File;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;

/// Device-mapper's letter among the ioctls.
const LETTER: u8 = 0xfd;

/// Room for the target's parameters, in bytes: its terminator fits and its length is a multiple of eight.
const PARAMETERS: usize = 640;

/// `DM_READONLY_FLAG`.
pub(super) const READ_ONLY: u32 = 1;

/// `struct dm_ioctl`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_number: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Target {
    start: u64,
    length: u64,
    status: i32,
    next: u32,
    kind: [u8; 16],
}

/// A question with a table of one target; the others leave it out.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Request {
    header: Header,
    target: Target,
    parameters: [u8; PARAMETERS],
}

// A wrong layout would be read by the kernel without complaint.
const HEADER: u32 = 312;
const LENGTH: u32 = HEADER + 40 + 640;
const _: () = assert!(size_of::<Header>() == HEADER as usize && size_of::<Target>() == 40);
const _: () = assert!(size_of::<Request>() == LENGTH as usize);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Question {
    /// `DM_DEV_CREATE`
    Create = 3,
    /// `DM_DEV_REMOVE`
    Remove = 4,
    /// `DM_DEV_SUSPEND` without its flag: the table that was loaded is used from now on.
    Resume = 6,
    /// `DM_TABLE_LOAD`
    Load = 9,
}

impl Request {
    /// About the device of this name; `None` when it is too long.
    pub(super) fn new(name: &str, flags: u32) -> Option<Self> {
        let mut header = Header {
            version: [4, 0, 0],
            data_size: LENGTH,
            data_start: HEADER,
            target_count: 0,
            open_count: 0,
            flags,
            event_number: 0,
            padding: 0,
            device: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        put(&mut header.name, name)?;
        let target = Target { start: 0, length: 0, status: 0, next: 0, kind: [0; 16] };
        Some(Self { header, target, parameters: [0; PARAMETERS] })
    }

    /// With an id that tells who made the device.
    pub(super) fn uuid(mut self, uuid: &str) -> Option<Self> {
        put(&mut self.header.uuid, uuid)?;
        Some(self)
    }

    /// With a table of one target over so many sectors.
    pub(super) fn table(mut self, sectors: u64, kind: &str, parameters: &str) -> Option<Self> {
        self.header.target_count = 1;
        self.target.length = sectors;
        put(&mut self.target.kind, kind)?;
        put(&mut self.parameters, parameters)?;
        Some(self)
    }

    /// Asks; returns the device's number, as `struct dm_ioctl` has it.
    pub(super) fn ask(mut self, control: &File, question: Question) -> Result<u64, Errno> {
        let code = nix::request_code_readwrite!(LETTER, question as u8, size_of::<Header>());
        // SAFETY: `self` is a `struct dm_ioctl` with its data behind it, as long as `data_size` says,
        // and lives through the call; strings in it end with a zero. `control` keeps its descriptor
        // open. The kernel reads and writes no more than `data_size` bytes.
        let answer = unsafe { libc::ioctl(control.as_raw_fd(), code as _, &raw mut self) };
        Errno::result(answer).map(|_| self.header.device)
    }
}

/// Copies a text into a field, with at least one zero behind it.
fn put(field: &mut [u8], text: &str) -> Option<()> {
    let (_, room) = field.split_last_mut()?;
    room.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_header() {
        // DM_DEV_CREATE and DM_TABLE_LOAD, as strace shows them
        let code =
            |question| nix::request_code_readwrite!(LETTER, question as u8, size_of::<Header>());
        assert_eq!(code(Question::Create), 0xc138_fd03);
        assert_eq!(code(Question::Load), 0xc138_fd09);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Request::new(&"x".repeat(127), 0).is_some());
        assert!(Request::new(&"x".repeat(128), 0).is_none());
        let request = || Request::new("x", READ_ONLY).unwrap();
        assert!(request().uuid(&"u".repeat(128)).is_some());
        assert!(request().uuid(&"u".repeat(129)).is_none());
        let table = |length: usize| request().table(8, "verity", &"p".repeat(length));
        let fits = table(PARAMETERS - 1).unwrap();
        assert_eq!((fits.header.target_count, fits.target.length), (1, 8));
        assert_eq!(
            (fits.target.kind[..7].as_ref(), fits.parameters[PARAMETERS - 1]),
            (&b"verity\0"[..], 0)
        );
        assert!(table(PARAMETERS).is_none() && table(9000).is_none());
    }
}
