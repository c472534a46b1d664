//! No backtraces in the program that goes into an initrd.
//!
//! It has no unwind tables, so there is nothing to walk; a panic prints its message and aborts. The
//! standard library links an unwinder and a reader of debug information all the same, a fifth of
//! the program, because `RUST_BACKTRACE` might ask for them. With the walk known to end at once,
//! the optimiser finds that nothing calls them.

#![expect(unsafe_code, reason = "a symbol takes the place of one of the C run-time")]

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK` of the C++ ABI for exception handling, level I.
const END_OF_STACK: c_int = 5;

/// Takes the place of the unwinder's function: the walk over the stack ends before its first frame.
// SAFETY: name and signature are those of the C++ ABI (level I), whose result for a stack without
// frames this is; `visit` may stay uncalled.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(
    _visit: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
    _argument: *mut c_void,
) -> c_int {
    END_OF_STACK
}
