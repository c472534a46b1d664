//! The peer engine: fetches one image from many peers and hands it on to others.
//!
//! [`core`] decides, without any I/O: what to ask for, whom to serve, what to show. `net` runs it on
//! tokio: a [`Session`] listens and dials, a [`Torrent`] is the handle on one image. [`storage`] is
//! where the bytes lie: a file, memory, a block device (in the seeder).
//!
//! ```text
//!  Session ── listener, one port for all torrents
//!     └─ Torrent ── announce loop · dialer · peers (a reader and a writer task each) · hashing
//!            └─ core::Torrent ── picker, choker, reveal, peer state
//! ```
//!
//! Verified means: the SHA-1 of the piece, or the SHA-256 of its blocks, was compared with the torrent
//! before the piece was written. Bytes that were not verified never reach the storage.

#![cfg_attr(
    not(feature = "log"),
    allow(unused_variables, unused_imports, dead_code, reason = "what only logs would tell")
)]

pub mod config;
pub mod core;
pub mod http;
mod log;
mod net;
pub mod progress;
pub mod report;
mod sorted;
pub mod storage;

pub use config::{InitialHave, Role, SessionConfig, TorrentSpec, Verify};
pub use net::handle::Torrent;
pub use net::session::{Session, SessionError};
pub use progress::{Completed, PeerStat, Phase, Progress, TorrentError};
