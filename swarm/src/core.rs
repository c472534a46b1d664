//! The sans-I/O heart of the engine: events and a clock in, actions out.
//!
//! Nothing here reads a clock, a socket, a file or a random device. A [`Torrent`] is driven by calls
//! that carry the time since some start ([`Moment`]), it draws randomness from a seed given to it,
//! and it answers with [`Action`]s. The same sequence of calls always gives the same actions, so a
//! simulator can run thousands of them and replay a failure from its seed.
//!
//! Payload never enters the core: it decides on blocks by their coordinates, the caller keeps the
//! bytes.
//!
//! ```text
//!  connected / message / block / tick          Action::{Send, Verify, Discard, Disconnect, …}
//!  ───────────────────────────────▶  Torrent  ───────────────────────────────▶
//!                                      │
//!       Picker (what to ask for) · Choker (whom to serve) · Reveal (what a seeder shows)
//!       Peer (state of one connection) · Blame (who sent bad bytes)
//! ```

mod across;
pub mod action;
mod blame;
mod choker;
mod config;
mod downlink;
mod givers;
mod partial;
mod peer;
mod peers;
mod picker;
mod rarity;
mod rate;
mod requests;
mod reveal;
mod torrent;
mod turns;
mod uplink;

pub use action::{Action, Check, CloseReason, Control, Identity, PeerKey, Receipt, Violation};
pub use config::CoreConfig;
pub use downlink::{DownCause, Downlink, Spell};
pub use picker::Priority;
pub use rate::Rate;
pub use torrent::{PeerSetup, PeerView, Torrent, Totals};

/// Time since the start of the session, from a clock that never goes back.
pub type Moment = std::time::Duration;
