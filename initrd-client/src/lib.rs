//! From kernel arguments to a mounted root, and the same fetch as a command for anyone.
//!
//! ```text
//!             ┌── boot ──────────────────────────────────────────────────────────────┐
//!  cmdline ──▶│ Discover ─▶ Fetch ─▶ Verify ─▶ Attach ─▶ Mount ─▶ Handover           │──▶ switch_root
//!             └───┬───────────┬──────────────────────────────────────────────────────┘
//!                 │           │        (network trouble: say why, try again, for ever)
//!             discover    download ◀── fetch (command)
//! ```
//!
//! The program runs where nothing else runs yet: memory is short, there may be no network for
//! minutes, and nobody is logged in. So it has few dependencies and one thread, it never gives up
//! on the network, and everything it waits for is named on the console.

pub mod boot;
pub mod cli;
pub mod cmdline;
pub mod discover;
pub mod download;
pub mod exit;
pub mod fetch;
mod folder;
pub mod image;
pub mod narrator;
pub mod network;
pub mod policy;
pub mod preflight;
pub mod resolver;
pub mod retry;
pub mod trust;
