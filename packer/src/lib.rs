//! From a root tree to a published revision.
//!
//! [`pack()`] takes a directory or tar, and writes image, torrent, kernel, initrd and manifest into
//! a [`store::Store`]; [`signing`] signs it; [`verify`] reads a revision back. Nothing half-written is ever visible:
//! everything is made in a [`store::Draft`] that is committed as a whole.
//!
//! The heavy lifting is done by the programs that distributions maintain for it: `mksquashfs`
//! or `mkfs.erofs`, `dracut` and `tar`. ARCHITECTURE.md says what was measured instead of them.

pub mod compare;
pub mod error;
pub mod event;
pub mod format;
pub mod kernel;
pub mod pack;
pub mod piece_length;
pub mod signing;
pub mod verify;

mod archive;
mod census;
mod digest;
mod dracut;
mod elf;
mod erofs;
mod image;
mod initrd;
mod inside;
mod locate;
mod log_tail;
mod meter;
mod source;
mod squashfs;
mod tool;
mod torrent;

pub use error::PackError;
pub use pack::{Options, Packed, pack};
