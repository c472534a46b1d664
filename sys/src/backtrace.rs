//! No backtraces and no unwinder in the program that goes into an initrd.
//!
//! It has no unwind tables, so there is nothing to walk; a panic prints its message and aborts. The
//! standard library links an unwinder and a reader of debug information all the same, a fifth of
//! the program: `RUST_BACKTRACE` might ask for them, and it was compiled for programs that unwind.
//! With the walk known to end at once, the optimiser finds that nothing calls the reader; with every
//! function of the unwinder that is named anywhere here, the linker does not take it in.

#![expect(unsafe_code, reason = "symbols take the place of some of the C run-time")]

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

/// Functions that only a stack being unwound would call; nothing begins to unwind one here, because
/// a panic aborts.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        // SAFETY: the name is one of the C++ ABI (level I); whatever is passed is not looked at, and
        // nobody sees a result, because it does not return
        #[unsafe(no_mangle)]
        extern "C" fn $name(_context: *mut c_void) -> ! {
            std::process::abort()
        }
    )*};
}

never_called! {
    _Unwind_DeleteException
    _Unwind_GetDataRelBase
    _Unwind_GetIP
    _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData
    _Unwind_GetRegionStart
    _Unwind_GetTextRelBase
    _Unwind_RaiseException
    _Unwind_Resume
    _Unwind_SetGR
    _Unwind_SetIP
}
