//! The program as a process, against a tracker, a file server and seeders of these tests.
//!
//! Everything listens on loopback. The tests of `boot` mount: they need root, and they do it in a
//! mount namespace of their own.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod boot;
mod ending;
mod fetch;
mod image;
mod key_argument;
mod peers;
mod process;
mod server;
mod signed;
mod told;
mod trouble;
mod verity;
