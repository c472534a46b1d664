//! Runs the core on tokio: sockets, timers, trackers, disks.
//!
//! Each torrent has one [`state::State`] behind a mutex that is never held across an await. The
//! reader task of a peer takes it once for everything that arrived in one read; the writer tasks
//! pull what they may send. So an event passes through no channel, and a message costs no wake-up
//! of a central task.

mod announce;
mod backlog;
mod book;
mod dial;
mod digests;
mod door;
pub(crate) mod handle;
mod handshake;
mod hashing;
mod intake;
mod limiter;
mod link;
mod lsd;
mod outgoing;
mod pex;
mod pieces;
mod runs;
mod segment;
pub(crate) mod session;
mod stall;
mod state;
pub(crate) mod tasks;
pub(crate) mod tiers;
mod torrent;
mod udp_tracker;
mod webseed;
mod writer;
