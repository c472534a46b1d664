//! Events as sentences for people.

use std::time::Duration;

use proto::event::{EventKind, Sources, StallCause, VerityUse};
use proto::units::{ByteRate, ByteSize};
use swarm::{Phase, Progress};
use sys::kmsg::Level;

/// A step of the boot in one line, and how important it is.
#[must_use]
pub fn describe(kind: &EventKind) -> (Level, String) {
    let text = match kind {
        EventKind::Discover { source } => format!("looking for {source}"),
        EventKind::Fetch(fetch) => format!(
            "{} % of {} at {}",
            percent(fetch.bytes, fetch.total),
            ByteSize(fetch.total),
            ByteRate(fetch.rate)
        ),
        EventKind::Verify { bytes, seconds, sources, hash_failures } => {
            let failures = match hash_failures {
                0 => String::new(),
                count => format!("; {count} corrupt pieces were thrown away"),
            };
            format!(
                "{} complete and verified after {} s ({}{failures})",
                ByteSize(*bytes),
                tenths(*seconds),
                shares(sources)
            )
        }
        EventKind::Attach { device } => format!("image attached to {device}"),
        EventKind::Mount { root, verity: None } => format!("root mounted on {root}"),
        EventKind::Mount { root, verity: Some(VerityUse::Active(device)) } => {
            format!("root mounted on {root}; dm-verity ({device}) checks each block of the image")
        }
        EventKind::Mount { root, verity: Some(VerityUse::Inactive(reason)) } => {
            let text = format!("root mounted on {root}, without dm-verity: {reason}");
            return (Level::Warning, text);
        }
        EventKind::Handover { peak_memory } => {
            format!("handing over to the image (client took {} at most)", ByteSize(*peak_memory))
        }
        EventKind::Seeding { device, uploaded, .. } => {
            format!("seeding {device}, {} sent", ByteSize(*uploaded))
        }
        EventKind::Stalled(stall) => {
            return (Level::Warning, format!("waiting: {}", stall.detail));
        }
        EventKind::Failed { message, .. } => return (Level::Error, format!("FAILED: {message}")),
        other => other.stage().to_owned(),
    };
    (Level::Notice, text)
}

/// The line that moves.
#[must_use]
pub fn progress(progress: &Progress) -> String {
    let percent = percent(progress.bytes_verified, progress.bytes_total);
    let mut line = format!("{percent:3} % of {}", ByteSize(progress.bytes_total));
    if progress.phase == Phase::Checking {
        line.push_str(", checking what is there");
        return line;
    }
    line.push_str(&format!(
        "  {}  {} peers  {}",
        ByteRate(progress.down_rate),
        progress.peers_connected,
        shares(&progress.sources)
    ));
    let left = progress.bytes_total.saturating_sub(progress.bytes_verified);
    if let Some(seconds) = left.checked_div(progress.down_rate) {
        line.push_str(&format!("  {seconds} s left"));
    }
    if progress.bytes_uploaded > 0 {
        line.push_str(&format!("  {} handed on", ByteSize(progress.bytes_uploaded)));
    }
    line
}

/// Where the bytes came from, in percent.
fn shares(sources: &Sources) -> String {
    let percent = |bytes: u64| percent(bytes, sources.total());
    format!(
        "admin {} %, peers {} %, web {} %",
        percent(sources.admin),
        percent(sources.peers),
        percent(sources.web)
    )
}

/// A share in percent, rounded. Whole numbers, because printing others would make the client larger.
fn percent(part: u64, total: u64) -> u128 {
    let total = u128::from(total.max(1));
    (u128::from(part) * 100 + total / 2) / total
}

/// Seconds with one decimal place.
fn tenths(seconds: f64) -> String {
    let millis = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_millis();
    let tenths = (millis + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The phase as a word for JSON.
#[must_use]
pub fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Checking => "checking",
        Phase::Fetching => "fetching",
        Phase::Seeding => "seeding",
        Phase::Failed(_) => "failed",
    }
}

/// What a person can do about a cause that the client found itself.
#[must_use]
pub fn remedy(cause: StallCause) -> &'static str {
    match cause {
        StallCause::NameResolution => {
            "; check the name, or use an address (name servers come with DHCP)"
        }
        StallCause::NoAddress => "; is a DHCP server in this network?",
        StallCause::NoRoute => "; check gateway and firewall",
        StallCause::SourceUnreachable => {
            "; is bee-seeder running there, is the revision published?"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let sources = Sources { admin: 1, peers: 2, web: 1 };
        assert_eq!(shares(&sources), "admin 25 %, peers 50 %, web 25 %");
        assert_eq!(shares(&Sources::default()), "admin 0 %, peers 0 %, web 0 %");
    }

    #[test]
    fn numbers_are_rounded() {
        let tenth =
            [(0.0, "0.0"), (1.04, "1.0"), (1.05, "1.1"), (59.96, "60.0"), (f64::NAN, "0.0")];
        for (seconds, text) in tenth {
            assert_eq!(tenths(seconds), text);
        }
        assert_eq!((percent(1, 3), percent(2, 3), percent(0, 0)), (33, 67, 0));
    }

    #[test]
    fn progress_names_rate_and_time_left() {
        let line = progress(&Progress {
            phase: Phase::Fetching,
            bytes_verified: 25 << 20,
            bytes_total: 100 << 20,
            down_rate: 25 << 20,
            peers_connected: 12,
            bytes_uploaded: 1 << 20,
            sources: Sources { admin: 5 << 20, peers: 20 << 20, web: 0 },
            ..Progress::default()
        });
        for part in [
            " 25 % of 100 MiB",
            "25 MiB/s",
            "12 peers",
            "admin 20 %, peers 80 %",
            "3 s left",
            "1 MiB handed on",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        // nothing arrives: no division by zero, no time
        assert!(!progress(&Progress::default()).contains("left"));
    }
}
