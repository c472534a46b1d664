//! Whole swarms of the real [`swarm::core`] on simulated links, repeatable from a seed.
//!
//! The engine's core is sans-I/O. Here it is driven by events of a simulated network instead of
//! sockets and a clock, so swarms of thousands run on one machine, faster than their links would,
//! and a failure is replayed from its seed.
//!
//! # The model
//!
//! ```text
//!  core ─ writer ─ kernel ─┐                                        ┌─ kernel ─ reader ─ core
//!  core ─ writer ─ kernel ─┼ uplink ── latency ── queue ─ downlink ─┼─ kernel ─ reader ─ core
//!                 in turn, in bursts          first in, first out, bounded
//! ```
//!
//! * A node has an uplink and a downlink, each with a rate in bytes per second. Each pair of nodes
//!   has a latency.
//! * The connections of a node share its uplink in turn, one burst (a millisecond worth of packets, at
//!   most four) at a time, as fair TCP flows do. A short message so waits for a burst of each
//!   busy connection, and behind what its own connection has sent before.
//! * The kernel takes bytes of a connection while at most 64 KiB of it are unsent, like the engine's
//!   `TCP_NOTSENT_LOWAT`. Only then does the writer take more blocks from the core, and only when the
//!   last byte is with the kernel is the core told that they are `uploaded`.
//! * In front of a downlink is a queue for 20 ms, first in, first out. What is on the way to it counts as
//!   in it. When it is full, senders wait in turn: nothing is dropped. TCP would overshoot, lose and
//!   repeat, so this is the behaviour of a good congestion control, not of every one.
//! * Two segments may be joined by a link that all who cross it share ([`World::set_segments`]): a queue
//!   of its own, as long as that of a downlink, between uplink and downlink.
//! * Each packet of 1448 bytes carries 66 bytes of headers, and every second one is acknowledged with
//!   66 bytes the other way. Both can be left out.
//! * A lost burst arrives late and holds up its connection, not others.
//! * Computing takes no time, and a receiver reads at once.
//!
//! Around the core everything follows `swarm::net`: a tick of 50 ms, writers that take what waits and
//! about 50 ms worth of blocks, announces, dials and admission with the engine's numbers. Bytes are not
//! simulated; each block carries whether it is wrong, and a piece with a wrong block fails its hash.

mod book;
mod conduct;
mod dial;
mod disk;
mod driver;
mod flow;
mod item;
mod knob;
mod node;
mod queue;
mod report;
mod sample;
mod setup;
mod trace;
mod tracker;
mod transport;
mod trunk;
mod world;

pub use conduct::Conduct;
pub use knob::{KnobError, set};
pub use node::{Counts, Node, NodeId};
pub use report::{Report, Seconds};
pub use sample::{Down, Up};
pub use setup::{Network, Setup, SetupError};
pub use trace::{Hop, Spread};
pub use world::{Stop, World};
