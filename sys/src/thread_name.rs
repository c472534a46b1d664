//! Naming a thread without printf, in the program that goes into an initrd.
//!
//! musl's function names other threads too, by a file in `/proc` whose path it prints: that alone
//! brings printf with its floating point, 8 KB. The standard library names a thread only from
//! within.

#![expect(unsafe_code, reason = "a symbol takes the place of one of the C library")]

use std::ffi::{c_char, c_int};

/// Takes the place of the C library's function (pthread_setname_np(3)), for the calling thread.
// SAFETY: name and signature are those of the C library; the result is an error number, and a program
// that names another thread gets one.
#[unsafe(no_mangle)]
extern "C" fn pthread_setname_np(thread: libc::pthread_t, name: *const c_char) -> c_int {
    // SAFETY: takes nothing and cannot fail
    if thread != unsafe { libc::pthread_self() } {
        return libc::ENOTSUP;
    }
    // SAFETY: the caller's `name` ends with a zero byte; the kernel reads 16 bytes of it at most
    match unsafe { libc::prctl(libc::PR_SET_NAME, name) } {
        0 => 0,
        _ => libc::EINVAL,
    }
}
