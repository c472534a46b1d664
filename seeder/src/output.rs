//! `--json`: one event per line on standard output, for scripts and tests.

use std::io::Write;
use std::net::SocketAddr;

use serde::Serialize;

/// What is told. The names are part of the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A port is open.
    Listening {
        /// `swarm` (peer wire) or `http`.
        service: &'static str,
        /// Address, with the real port.
        address: SocketAddr,
    },
    /// An image is seeded (or, without the swarm, served) from now on.
    Seeding {
        /// `NAME@REV`, in `watch`.
        #[serde(skip_serializing_if = "Option::is_none")]
        revision: Option<String>,
        /// Info-hash, in hex.
        info_hash: String,
        /// Length of the image in bytes.
        bytes: u64,
    },
    /// A revision is not seeded, and why. It is tried again when its files change.
    Refused {
        /// `NAME@REV`
        revision: String,
        /// Cause and remedy.
        reason: String,
    },
    /// A revision is no longer seeded.
    Removed {
        /// `NAME@REV`
        revision: String,
        /// Why.
        reason: String,
    },
    /// Every second: what went out since the start.
    Uploaded(Uploaded),
    /// The end.
    Stopped {
        /// Bytes of images sent, in all.
        image_bytes: u64,
    },
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Uploaded {
    /// Bytes of images sent over the peer wire.
    pub swarm_bytes: u64,
    /// Bytes of images sent over HTTP.
    pub http_image_bytes: u64,
    /// Both together.
    pub image_bytes: u64,
    /// Bytes of everything sent over HTTP (kernels and initrds too).
    pub http_bytes: u64,
    /// Bytes per second over the peer wire, at this moment.
    pub rate: u64,
    /// Connected peers, over all torrents.
    pub peers: u32,
    /// Torrents that are seeded.
    pub torrents: usize,
}

/// Writes events, or nothing.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// With `json` false nothing is written.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Writes one event. A reader that is gone does not stop the seeder.
    pub fn emit(&self, event: &Event) {
        if !self.json {
            return;
        }
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        if let Err(e) = out.write_all(&line).and_then(|()| out.flush()) {
            tracing::debug!(err = %e, "cannot write an event");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_promised_names() {
        let address = "127.0.0.1:6881".parse().unwrap();
        for (event, line) in [
            (
                Event::Listening { service: "swarm", address },
                r#"{"event":"listening","service":"swarm","address":"127.0.0.1:6881"}"#,
            ),
            (
                Event::Seeding { revision: None, info_hash: "ab".into(), bytes: 5 },
                r#"{"event":"seeding","info_hash":"ab","bytes":5}"#,
            ),
            (
                Event::Uploaded(Uploaded { swarm_bytes: 1, image_bytes: 1, ..Uploaded::default() }),
                r#"{"event":"uploaded","swarm_bytes":1,"http_image_bytes":0,"image_bytes":1,"http_bytes":0,"rate":0,"peers":0,"torrents":0}"#,
            ),
            (Event::Stopped { image_bytes: 7 }, r#"{"event":"stopped","image_bytes":7}"#),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), line);
        }
    }
}
