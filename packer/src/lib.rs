//! From a root tree to a published revision.
//!
//! [`pack()`] takes a directory, a tar, a container image or a recipe, and writes image, torrent, kernel, initrd and manifest into
//! a [`store::Store`]; [`signing`] signs it; [`verify`] reads a revision back. Nothing half-written is ever visible:
//! everything is made in a [`store::Draft`] that is committed as a whole.
//!
//! The heavy lifting is done by the programs that distributions maintain for it: `mksquashfs`
//! or `mkfs.erofs`, and `dracut`. ARCHITECTURE.md says what was measured instead of them.

mod category;
pub mod compare;
pub mod contents;
pub mod error;
pub mod event;
pub mod format;
pub mod initrd_contents;
pub mod initrd_error;
pub mod kernel;
pub mod pack;
pub mod piece_length;
pub mod secrets;
pub mod signing;
pub mod verify;

mod archive;
mod authorized_keys;
mod boot;
mod census;
mod chunk;
mod cpio;
mod digest;
mod dracut;
mod drivers;
mod elf;
mod erofs;
mod exclude;
mod facts;
mod file_stamp;
mod follow;
mod fuse_mount;
mod hardware;
mod hashes;
mod image;
mod initramfs_tools;
mod initrd;
mod initrd_compression;
mod initrd_files;
mod initrd_weight;
mod inside;
mod io_counts;
mod kernel_files;
mod locate;
mod log_tail;
mod meter;
mod microcode;
mod oci;
mod options;
mod order;
mod overlay;
mod pattern;
mod recipe;
mod snapshot;
mod source;
mod squashfs;
mod steps;
mod terminal;
mod tool;
mod torrent;
mod tree;
mod verity;
mod view;
mod watched;

pub use error::PackError;
pub use pack::{Options, Packed, make_initrd, pack};
