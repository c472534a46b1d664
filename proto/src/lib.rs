//! Pure types and codecs of Beeswarm.
//!
//! Everything here turns bytes or text into checked types and back. There is no I/O, no clock, no
//! async and no randomness in this crate, so each parser can be fuzzed and each codec has a
//! round-trip property test. Bytes from the network, from kernel arguments and from disk are all
//! hostile: every length is bounded before anything is allocated for it, and nothing panics.

pub mod announce;
pub mod assign;
pub mod bencode;
pub mod bitfield;
pub mod boot_record;
pub mod event;
pub mod extension;
pub mod geometry;
pub mod hash;
pub mod hash_range;
pub mod host_list;
pub mod kernel_args;
pub mod lsd;
pub mod manifest;
pub mod merkle;
pub mod metainfo;
pub mod mirrors;
pub mod node_id;
pub mod peers;
pub mod pex;
pub mod priority;
pub mod query;
pub mod rollout;
pub mod signature;
pub mod trust_policy;
pub mod udp_tracker;
pub mod units;
pub mod unix_time;
pub mod usage;
pub mod verity;
mod versioned;
pub mod wire;
