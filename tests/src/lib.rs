//! The lab: clusters of network namespaces and QEMU machines on one host, for tests, benchmarks
//! and the demo.
//!
//! ```text
//!  caller's process                 the holder's namespaces (mount, PID, network)
//!  Lab ── spawner thread ─────────▶ switch namespace: bridge `lan`
//!   │     (has entered them)           ├─ veth ─ [namespace admin]
//!   └ Node::spawn, Node::connect …     ├─ veth ─ [namespace node01]  tbf both ways, netem delay
//!                                      └─ veth ─ [namespace vm1: bridge ─ tap ─ QEMU]
//! ```
//!
//! Everything in a lab hangs on one process, the *holder*: PID 1 of a PID namespace of its own, with
//! private mounts. When it dies, every process, mount and namespace of the lab goes with it, and it
//! dies with its lab: on drop, and when the process that made the lab is killed.
//!
//! A lab has no route to anywhere else, and needs root (network namespaces, QEMU taps).
//!
//! ```no_run
//! use lab::{BitRate, Cmd, Lab, LabConfig, Link};
//! # fn main() -> Result<(), lab::LabError> {
//! let lab = Lab::start(LabConfig::new("/tmp/lab-logs"))?;
//! let admin = lab.add_node("admin", Link::rate(BitRate::mbit(1000)))?;
//! let node = lab.add_node("node01", Link::rate(BitRate::mbit(50)))?;
//! let route = node.run(&Cmd::new("ip").args(["route", "get", &admin.ip().to_string()]))?;
//! assert!(route.status.success());
//! # Ok(()) }
//! ```

pub mod client;
mod contain;
mod counters;
pub mod dnsmasq;
mod error;
mod firmware;
mod holder;
pub mod http;
mod inside;
mod kvm;
mod lab;
mod link;
mod logs;
mod neighbours;
mod node;
mod process;
mod program;
mod relay;
pub mod root;
mod serial;
pub mod tool;
mod usage;
mod vm;

pub use contain::contained;
pub use counters::{Counters, neighbour_overflows};
pub use error::LabError;
pub use firmware::{Firmware, OVMF};
pub use kvm::Accelerator;
pub use lab::{Lab, LabConfig, Scratch, Stopper};
pub use link::{BitRate, Link, Loss, ParseLossError, ParseRateError};
pub use node::Node;
pub use process::{Cmd, Proc};
pub use program::program;
pub use relay::Relay;
pub use serial::{Milestone, Milestones};
pub use usage::Usage;
pub use vm::{QEMU, Vm, VmConfig};
