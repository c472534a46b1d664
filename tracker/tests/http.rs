//! The tracker over real HTTP on loopback, port 0.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends the test")]

#[path = "http/access.rs"]
mod access;
#[path = "http/announce.rs"]
mod announce;
#[path = "http/bed.rs"]
mod bed;
#[path = "http/boot.rs"]
mod boot;
#[path = "http/disk.rs"]
mod disk;
#[path = "http/events.rs"]
mod events;
#[path = "http/hostile.rs"]
mod hostile;
#[path = "http/kill.rs"]
mod kill;
#[path = "http/lasting.rs"]
mod lasting;
#[path = "http/machines.rs"]
mod machines;
#[path = "http/page.rs"]
mod page;
#[path = "http/reimage.rs"]
mod reimage;
#[path = "http/reports.rs"]
mod reports;
#[path = "http/shown.rs"]
mod shown;
#[path = "http/store.rs"]
mod store_follow;
#[path = "http/udp.rs"]
mod udp;
