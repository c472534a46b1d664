//! The seeder from outside: HTTP of the store, and the program in its three modes.
#![expect(clippy::unwrap_used, reason = "tests: a failed step ends the test")]

mod client;
mod ending;
mod http;
mod leecher;
mod node;
mod program;
mod seed;
mod support;
mod watch;
