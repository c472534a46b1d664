//! The ioctls of loop(4), with the numbers and structures of `linux/loop.h`.
#![expect(unsafe_code, reason = "nix has no wrapper for the ioctls of the loop driver")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::AttachOptions;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Info64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` (Linux 5.8).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Config {
    /// `__u32` in the header; descriptors are never negative.
    fd: i32,
    block_size: u32,
    info: Info64,
    reserved: [u64; 8],
}

// A wrong layout would be read by the kernel without complaint.
const _: () = assert!(size_of::<Info64>() == 232 && size_of::<Config>() == 304);

nix::ioctl_write_int_bad!(loop_set_fd, 0x4C00);
nix::ioctl_none_bad!(loop_clr_fd, 0x4C01);
nix::ioctl_write_ptr_bad!(loop_set_status64, 0x4C04, Info64);
nix::ioctl_write_int_bad!(loop_set_direct_io, 0x4C08);
nix::ioctl_write_int_bad!(loop_set_block_size, 0x4C09);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, Config);
nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);

/// Number of a device that is free at this moment; the kernel makes one when none is.
pub(super) fn get_free(control: &File) -> Result<i32, Errno> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and `control` keeps the descriptor open.
    unsafe { loop_ctl_get_free(control.as_raw_fd()) }
}

/// Detaches the backing file.
pub(super) fn clear(device: &File) -> Result<(), Errno> {
    // SAFETY: LOOP_CLR_FD takes no argument and `device` keeps the descriptor open.
    unsafe { loop_clr_fd(device.as_raw_fd()) }.map(drop)
}

/// Attaches `backing` to `device`, in one step where the kernel can (LOOP_CONFIGURE, 5.8): in the
/// older two steps others see the device writable and with the wrong size for a moment.
pub(super) fn configure(
    device: &File,
    backing: &File,
    name: &Path,
    options: &AttachOptions,
) -> Result<(), Errno> {
    let info = info(name, options);
    let fd = backing.as_raw_fd();
    let config = Config { fd, block_size: options.block_size.unwrap_or(0), info, reserved: [0; 8] };
    // SAFETY: `config` is a `struct loop_config` (size checked above) that lives through the call;
    // the kernel only reads it. Both descriptors are kept open by their `File`s.
    match unsafe { loop_configure(device.as_raw_fd(), &raw const config) } {
        Ok(_) => Ok(()),
        // Old kernel, or a flag it does not know: take the older way, which says more exactly
        // what is wrong.
        Err(Errno::EINVAL | Errno::ENOTTY | Errno::ENOSYS) => {
            configure_in_steps(device, backing, name, options)
        }
        Err(e) => Err(e),
    }
}

/// LOOP_SET_FD, then LOOP_SET_STATUS64: the way before 5.8.
pub(super) fn configure_in_steps(
    device: &File,
    backing: &File,
    name: &Path,
    options: &AttachOptions,
) -> Result<(), Errno> {
    let mut info = info(name, options);
    info.flags &= !DIRECT_IO;
    let loop_fd = device.as_raw_fd();
    // SAFETY: LOOP_SET_FD takes a descriptor by value; both `File`s keep theirs open.
    unsafe { loop_set_fd(loop_fd, backing.as_raw_fd()) }?;
    // SAFETY: `info` is a `struct loop_info64` (size checked above) that lives through the call.
    let mut done = unsafe { loop_set_status64(loop_fd, &raw const info) };
    if let (Ok(_), Some(size)) = (&done, options.block_size) {
        done = i32::try_from(size).map_err(|_| Errno::EINVAL).and_then(|size| {
            // SAFETY: LOOP_SET_BLOCK_SIZE takes an integer by value.
            unsafe { loop_set_block_size(loop_fd, size) }
        });
    }
    if let Err(e) = done {
        // The first error is what the caller must hear; a failing detach adds nothing.
        let _ = clear(device);
        return Err(e);
    }
    if options.direct_io {
        // SAFETY: LOOP_SET_DIRECT_IO takes an integer by value. It is an optimisation: a file
        // system without direct I/O refuses, and the device works all the same.
        let _ = unsafe { loop_set_direct_io(loop_fd, 1) };
    }
    Ok(())
}

fn info(name: &Path, options: &AttachOptions) -> Info64 {
    let mut flags = 0;
    for (wanted, flag) in [
        (options.read_only, READ_ONLY),
        (options.autoclear, AUTOCLEAR),
        (options.direct_io, DIRECT_IO),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    // Only shown by losetup on old kernels; the last byte stays zero.
    let mut file_name = [0; 64];
    let bytes = name.as_os_str().as_bytes();
    let len = bytes.len().min(63);
    file_name[..len].copy_from_slice(&bytes[..len]);
    Info64 {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    }
}
