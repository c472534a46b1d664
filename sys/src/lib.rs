//! Linux facilities that the programs need and the standard library lacks.
//!
//! This is the only crate of the workspace that contains `unsafe`, and only eight modules do:
//! [`loop_device`] (ioctls), [`priority`], [`socket`] and [`datagrams`] (calls that `nix` does not wrap),
//! [`inherited`] (a descriptor that comes as a number), [`sha1`] and [`sha256`] (instructions that
//! not every processor has) and `backtrace` (replaces a symbol of the C run-time). Each module stands
//! alone: take what you need, nothing here knows what an image or a torrent is.

#[cfg(without_backtraces)]
mod backtrace;
pub mod datagrams;
pub mod direct;
pub mod fs;
pub mod inherited;
pub mod kmsg;
pub mod limits;
pub mod loop_device;
pub mod memory;
pub mod mount;
pub mod notify;
pub mod pipe;
pub mod priority;
pub mod privileges;
pub mod sendfile;
pub mod sha1;
pub mod sha256;
mod sha_lanes;
pub mod socket;
