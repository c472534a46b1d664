//! Seeding: one torrent, a whole store, or the image a node runs from.
//!
//! [`seed`], [`watch`] and [`node`] are the commands of `bee-seeder` that seed; each takes its
//! settings, runs until it is told to stop, and says why it failed. [`http`] is the store over
//! HTTP, which `watch` runs beside the peer wire. [`record`] is for images of later: it notes which
//! files a boot opens.

pub mod cli;
pub mod config;
pub mod exit;
pub mod http;
pub mod listen;
pub mod node;
pub mod output;
pub mod record;
pub mod seed;
pub mod session;
pub mod storage;
pub mod torrent_file;
pub mod watch;
