//! Why nothing moves.

use std::net::IpAddr;
use std::time::Duration;

use proto::event::{Stall, StallCause};

use crate::core::Moment;
use crate::http::HttpError;

/// Without a block for this long, something is wrong.
const QUIET: Duration = Duration::from_secs(5);

/// The last trouble of each kind.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// From the last announce; `None` when it went well.
    pub(crate) announce: Option<Stall>,
    /// The last failed dial.
    pub(crate) dial: Option<String>,
    /// The last peer that was banned for wrong data.
    pub(crate) liar: Option<IpAddr>,
    /// When the last block came, or the fetch began.
    pub(crate) last_data: Moment,
    /// Bytes that had come when this was looked at last.
    pub(crate) downloaded: u64,
}

/// What the swarm looks like from here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) known: usize,
    pub(crate) connected: usize,
    pub(crate) useful: usize,
    pub(crate) hash_failures: u32,
}

impl Trouble {
    /// The reason to show for a fetch that does not move.
    pub(crate) fn stall(&self, now: Moment, view: View) -> Option<Stall> {
        let quiet = now.saturating_sub(self.last_data);
        if quiet < QUIET {
            return None;
        }
        let seconds = quiet.as_secs();
        let say = |cause, detail: String| Some(Stall { cause, detail });
        if view.connected == 0 {
            if let Some(stall) = &self.announce {
                return Some(stall.clone());
            }
            if self.liar.is_some() {
                return say(
                    StallCause::HashFailures,
                    format!("{}; nobody else is connected", self.wrong_data(view)),
                );
            }
            if view.known == 0 {
                return say(
                    StallCause::NoPeers,
                    "the tracker names no peers; is a seeder running?".to_owned(),
                );
            }
            let dial = self.dial.as_deref().unwrap_or("connections are under way");
            return say(
                StallCause::PeersUnreachable,
                format!("{} peers are known, none can be connected: {dial}", view.known),
            );
        }
        if view.hash_failures > 0 && view.useful > 0 {
            return say(
                StallCause::HashFailures,
                format!("{}; no good data for {seconds} s", self.wrong_data(view)),
            );
        }
        let what =
            if view.useful == 0 { "none has a piece that is missing here" } else { "none sends" };
        say(
            StallCause::NoData,
            format!("{} peers are connected, {what} for {seconds} s", view.connected),
        )
    }

    fn wrong_data(&self, view: View) -> String {
        let banned = self.liar.map(|liar| format!("; peer {liar} is banned for it"));
        let banned = banned.unwrap_or_default();
        format!("{} pieces came with wrong data{banned}", view.hash_failures)
    }
}

/// Puts a failed announce into words.
pub(crate) fn of_http(url: &str, error: &HttpError) -> Stall {
    let cause = match error {
        HttpError::Dns { .. } => StallCause::NameResolution,
        HttpError::Connect { source, .. } if no_route(source) => StallCause::NoRoute,
        HttpError::Connect { .. } | HttpError::Timeout { .. } => StallCause::TrackerUnreachable,
        _ => StallCause::TrackerRefuses,
    };
    let detail = match std::error::Error::source(error) {
        Some(source) => format!("announce to {url}: {error}: {source}"),
        None => format!("announce to {url}: {error}"),
    };
    Stall { cause, detail }
}

pub(crate) fn no_route(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), HostUnreachable | NetworkDown | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_thing_to_look_at() {
        let refused = Stall { cause: StallCause::TrackerUnreachable, detail: "refused".into() };
        let bad = Trouble { announce: Some(refused.clone()), ..Trouble::default() };
        let fine = Trouble::default();
        let view = |known, connected, useful, hash_failures| View {
            known,
            connected,
            useful,
            hash_failures,
        };
        let now = Duration::from_secs(9);
        let cause = |trouble: &Trouble, v| trouble.stall(now, v).map(|s| s.cause);
        assert_eq!(bad.stall(now, view(0, 0, 0, 0)), Some(refused));
        assert_eq!(
            cause(&bad, view(3, 1, 1, 0)),
            Some(StallCause::NoData),
            "tracker trouble does not matter then"
        );
        assert_eq!(cause(&fine, view(0, 0, 0, 0)), Some(StallCause::NoPeers));
        assert_eq!(cause(&fine, view(3, 0, 0, 0)), Some(StallCause::PeersUnreachable));
        assert_eq!(cause(&fine, view(3, 2, 1, 4)), Some(StallCause::HashFailures));
        let lied = Trouble { liar: Some([192, 0, 2, 7].into()), ..Trouble::default() };
        for view in [view(3, 0, 0, 4), view(3, 2, 1, 4)] {
            let stall = lied.stall(now, view).unwrap();
            assert_eq!(stall.cause, StallCause::HashFailures);
            assert!(stall.detail.contains("4 pieces") && stall.detail.contains("peer 192.0.2.7"));
        }
        assert_eq!(fine.stall(Duration::from_secs(4), view(0, 0, 0, 0)), None);
    }
}
