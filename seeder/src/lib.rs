//! Seeding: one torrent, a whole store, or the image a node runs from.
//!
//! [`seed`], [`watch`] and [`node`] are the three commands of `bee-seeder`; each takes its
//! settings, runs until it is told to stop, and says why it failed. [`http`] is the store over
//! HTTP, which `watch` runs beside the peer wire.

pub mod cli;
pub mod config;
pub mod exit;
pub mod http;
pub mod listen;
pub mod node;
pub mod output;
pub mod seed;
pub mod session;
pub mod storage;
pub mod torrent_file;
pub mod watch;
