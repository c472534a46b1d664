//! From a root tree to a published revision.
//!
//! [`pack()`] takes a directory or tar, and writes image, torrent, kernel, initrd and manifest into
//! a [`store::Store`]; [`signing`] signs it; [`verify`] reads a revision back. Nothing half-written is ever visible:
//! everything is made in a [`store::Draft`] that is committed as a whole.
//!
//! The heavy lifting is done by the programs that distributions maintain for it: `mksquashfs`,
//! `dracut` and `tar`. ARCHITECTURE.md says what was measured instead of them.

pub mod error;
pub mod event;
pub mod initrd_contents;
pub mod initrd_error;
pub mod kernel;
pub mod pack;
pub mod piece_length;
pub mod signing;
pub mod verify;

mod archive;
mod cpio;
mod digest;
mod dracut;
mod drivers;
mod elf;
mod hardware;
mod initramfs_tools;
mod initrd;
mod initrd_compression;
mod inside;
mod kernel_files;
mod locate;
mod log_tail;
mod microcode;
mod source;
mod squashfs;
mod tool;
mod torrent;

pub use error::PackError;
pub use pack::{Options, Packed, make_initrd, pack};
