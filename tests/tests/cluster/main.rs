//! Whole clusters of our real programs, and of others, in network namespaces. Needs root.
//!
//! Every test has a lab of its own: an admin host with tracker, seeder and store, and nodes behind
//! shaped links. Logs stay in cargo's `target/tmp/cluster/NAME`.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails here fails the test")]

mod crowd;
mod discovery;
mod fixture;
mod hashes;
mod interop;
mod key_override;
mod kills;
mod meeting;
mod mirrors;
mod netboot;
mod page;
mod reimage;
mod reseed;
mod revisions;
mod rollout;
mod signed;
mod stalls;
mod trackers;
mod unplugged;
