//! Runs the core on tokio: sockets, timers, trackers, disks.

pub(crate) mod session;
pub(crate) mod torrent;
