//! The engine over real TCP on the loopback interface.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod basic;
mod discovery;
mod disk;
mod files;
mod hostile;
mod http;
mod hybrid;
mod runs;
mod siege;
mod support;
mod tiers;
mod trouble;
mod udp;
