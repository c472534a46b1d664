//! Simulated power cuts for the tests: every changing system call of the store passes [`step`].
//!
//! Outside tests [`step`] is a no-op that the compiler removes.

use crate::error::StoreError;

/// Called before each system call that changes the disk.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "under test it fails")]
pub(crate) const fn step() -> Result<(), StoreError> {
    Ok(())
}

/// True when nothing may be cleaned up any more, because the process is taken to be dead.
#[cfg(not(test))]
pub(crate) const fn dead() -> bool {
    false
}

#[cfg(test)]
pub(crate) use armed::{arm, dead, disarm, step};

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    use super::StoreError;

    thread_local! {
        /// Steps until the crash; `None` when no crash is wanted.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// The `steps`-th step from now (at least 1) fails, and so does every later one of this thread.
    pub(crate) fn arm(steps: u32) {
        LEFT.set(Some(steps));
    }

    /// Back to life.
    pub(crate) fn disarm() {
        LEFT.set(None);
    }

    pub(crate) fn dead() -> bool {
        LEFT.get() == Some(0)
    }

    pub(crate) fn step() -> Result<(), StoreError> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(StoreError::Crash),
            Some(left) => {
                LEFT.set(Some(left - 1));
                if left == 1 { Err(StoreError::Crash) } else { Ok(()) }
            }
        }
    }
}
