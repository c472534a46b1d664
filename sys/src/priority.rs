//! Politeness towards the work of the machine: CPU and disk priority.
//!
//! Linux keeps both per thread, and new threads inherit them: call these before any thread is
//! started.
#![expect(unsafe_code, reason = "nix wraps neither setpriority(2) nor ioprio_set(2)")]

use std::io;

use thiserror::Error;

/// A priority could not be set.
#[derive(Debug, Error)]
pub enum PriorityError {
    /// setpriority(2) refused.
    #[error("cannot set nice value {nice}")]
    Nice {
        /// The value asked for.
        nice: i32,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// ioprio_set(2) refused.
    #[error("cannot set the idle I/O class")]
    Io {
        /// What the system call said.
        #[source]
        source: io::Error,
    },
}

/// Sets the nice value of this thread (−20 first … 19 last). Raising it needs no privilege.
///
/// # Errors
/// [`PriorityError::Nice`].
pub fn set_nice(nice: i32) -> Result<(), PriorityError> {
    // SAFETY: setpriority(2) takes only integers; `who` 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if result == 0 {
        return Ok(());
    }
    Err(PriorityError::Nice { nice, source: io::Error::last_os_error() })
}

/// Lets this thread's disk requests wait for everybody else's (class idle).
///
/// # Errors
/// [`PriorityError::Io`].
pub fn set_io_idle() -> Result<(), PriorityError> {
    const WHO_PROCESS: libc::c_long = 1;
    const CLASS_IDLE: libc::c_long = 3;
    const CLASS_SHIFT: u32 = 13;
    let class: libc::c_long = CLASS_IDLE << CLASS_SHIFT;
    let this: libc::c_long = 0;
    // SAFETY: ioprio_set(2) takes three integers and has no wrapper in libc.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, this, class) };
    if result == 0 { Ok(()) } else { Err(PriorityError::Io { source: io::Error::last_os_error() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nice_value_and_io_class_take_effect_in_this_thread() {
        std::thread::spawn(|| {
            set_nice(7).unwrap();
            set_io_idle().unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // Field 19 of proc_pid_stat(5), counted after the parenthesised name (field 2).
            let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap();
            assert_eq!(nice, "7");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn out_of_range_values_are_clamped_by_the_kernel() {
        std::thread::spawn(|| set_nice(100).unwrap()).join().unwrap();
    }
}
