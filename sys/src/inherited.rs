//! Descriptors handed over by the service manager (sd_listen_fds(3)): `OpenFile=` of systemd 253
//! opens a device for a service that may not open it itself.
#![expect(unsafe_code, reason = "a descriptor that comes as a number must be taken on trust")]

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// First descriptor of the protocol (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The first descriptor that the service manager handed to this very process, at most once.
/// `None`: it handed over nothing.
pub fn take_first() -> Option<File> {
    let ours = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if ours("LISTEN_PID") != Some(std::process::id()) || ours("LISTEN_FDS").is_none_or(|n| n == 0) {
        return None;
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // Refuse a promise without a descriptor behind it.
    std::fs::metadata(format!("/proc/self/fd/{FIRST}")).ok()?;
    // SAFETY: the service manager passed descriptor 3 to this process (LISTEN_PID names it), so
    // nothing in this program opened it; it exists, and TAKEN makes us its only owner.
    Some(File::from(unsafe { OwnedFd::from_raw_fd(FIRST) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_from_a_process_that_was_given_nothing() {
        // The test runner is not started by a service manager with descriptors.
        assert!(take_first().is_none());
    }
}
