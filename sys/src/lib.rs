//! Linux facilities that the programs need and the standard library lacks.
//!
//! This is the only crate of the workspace that contains `unsafe`, and only eleven modules do:
//! [`loop_device`] and [`device_mapper`] (ioctls), [`priority`], [`socket`] and [`datagrams`] (calls
//! that `nix` does not wrap), [`inherited`] (a descriptor that comes as a number), [`sha1`],
//! [`sha256`] and `sha_lanes` (instructions that not every processor has), `backtrace` and
//! `thread_name` (replace symbols of the C run-time). Each module stands alone: take what you need,
//! nothing here knows what an image or a torrent is.

#[cfg(for_initrd)]
mod backtrace;
pub mod datagrams;
pub mod device_mapper;
pub mod direct;
pub mod fs;
pub mod inherited;
pub mod kmsg;
pub mod limits;
pub mod loop_device;
pub mod memory;
pub mod mount;
pub mod notify;
pub mod opened;
pub mod pipe;
pub mod priority;
pub mod privileges;
pub mod sendfile;
pub mod sha1;
pub mod sha256;
mod sha_lanes;
pub mod socket;
#[cfg(for_initrd)]
mod thread_name;
