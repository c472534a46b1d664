//! The tracker of a Beeswarm cluster: announce and scrape, boot scripts, boot events, status page.
//!
//! [`Server::bind`] starts it, `bee-tracker` is a thin program around it. The parts:
//!
//! | module | what it decides or keeps |
//! |---|---|
//! | [`policy`] | whom a peer is told about, and when it asks again |
//! | [`torrents`] | the peers of each torrent |
//! | [`catalog`] | what the store offers: tracked torrents, current revisions |
//! | [`boot`] | what iPXE is told |
//! | [`dhcp`] | what DHCP servers are told |
//! | [`nodes`] | what nodes told about their boots, and which machine is which |
//! | [`inventory`] | what the admin says of nodes |
//! | [`state`] | what outlives the process |
//! | [`terminal`] | the nodes of a running tracker, in a terminal |
//! | `client` | requests to the API of a tracker, also the packer's |
//! | `http` | routes, and the page |
//! | `udp` | announces over UDP |
//! | [`server`] | connections, deadlines, background work |
//!
//! Peers are kept in memory, all else also on disk when there is a state directory. The tracker can be
//! stopped, killed and started at any moment: peers are back with their next announce, and the store is read
//! again. Nodes that are fetching go on with the peers they know meanwhile.

mod announce;
mod app;
mod assignments;
pub mod boot;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod dhcp;
pub mod error;
mod fleet;
mod http;
pub mod inventory;
pub mod metrics;
mod neighbours;
pub mod nodes;
pub mod policy;
pub mod power;
mod rates;
mod rollout;
pub mod server;
pub mod state;
pub mod terminal;
pub mod tls;
mod tokens;
pub mod torrents;
mod udp;

pub use app::Notice;
pub use config::Config;
pub use server::{Handle, Server};
