//! From a root tree to a published revision.
//!
//! [`pack()`] takes a directory, a tar, a container image or a recipe, and writes image, torrent, kernel, initrd and manifest into
//! a [`store::Store`]; [`signing`] signs it; [`verify`] reads a revision back. Nothing half-written is ever visible:
//! everything is made in a [`store::Draft`] that is committed as a whole.
//!
//! The heavy lifting is done by the programs that distributions maintain for it: `mksquashfs`
//! and `dracut`. ARCHITECTURE.md says what was measured instead of them.

pub mod error;
pub mod event;
pub mod kernel;
pub mod pack;
pub mod piece_length;
pub mod signing;
pub mod verify;

mod archive;
mod digest;
mod dracut;
mod elf;
mod initrd;
mod inside;
mod locate;
mod log_tail;
mod oci;
mod recipe;
mod source;
mod squashfs;
mod tool;
mod torrent;

pub use error::PackError;
pub use pack::{Options, Packed, pack};
