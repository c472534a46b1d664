//! One node and the boot it is in.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::event::{EventBatch, EventKind, FetchProgress, Sources, Stall};
use proto::node_id::NodeId;
use store::RevisionRef;

use super::timeline::Timeline;

/// Stage of a node whose firmware asked for its boot script and was not heard since.
pub const NETBOOT: &str = "netboot";

/// Stages in the order a boot goes through them.
pub const STAGES: [&str; 9] =
    [NETBOOT, "discover", "fetch", "verify", "attach", "mount", "handover", "seeding", "failed"];

/// Boots whose late events are recognised as such.
const FORMER_BOOTS: usize = 4;

/// A node, as its last event left it.
#[derive(Debug)]
pub struct Node {
    /// Its MAC address.
    pub id: NodeId,
    /// Where its last message came from.
    pub addr: IpAddr,
    /// The boot it is in; `None` before its first event.
    pub boot_id: Option<String>,
    /// What it does; one of [`STAGES`], or `unknown`.
    pub stage: &'static str,
    /// Verified share of the image, 0 to 100.
    pub percent: f64,
    /// Its last progress report.
    pub progress: FetchProgress,
    /// Where its image came from.
    pub sources: Sources,
    /// Why nothing moves: a fixed word and a text for people.
    pub stall: Option<Stall>,
    /// Why it waits in its firmware.
    pub waits: Option<String>,
    /// Why it has given up.
    pub failed: Option<String>,
    /// What it was told to boot, or said it boots: image and revision.
    pub revision: Option<RevisionRef>,
    /// Its events.
    pub timeline: Timeline,
    /// How many boots were seen.
    pub boots: u32,
    /// When it was last heard.
    pub heard: Instant,
    former: Vec<String>,
}

impl Node {
    /// A node of which nothing is known yet.
    #[must_use]
    pub fn new(id: NodeId, addr: IpAddr, now: Instant) -> Self {
        Self {
            id,
            addr,
            boot_id: None,
            stage: "unknown",
            percent: 0.0,
            progress: FetchProgress::default(),
            sources: Sources::default(),
            stall: None,
            waits: None,
            failed: None,
            revision: None,
            timeline: Timeline::default(),
            boots: 0,
            heard: now,
            former: Vec::new(),
        }
    }

    /// How long it has said nothing, when that is longer than its stage explains. While the image is
    /// fetched a report is due every two seconds; the firmware and the system's own start say nothing.
    #[must_use]
    pub fn silent(&self, now: Instant) -> Option<Duration> {
        let seconds = match self.stage {
            "discover" | "fetch" => 15,
            "verify" | "attach" | "mount" => 60,
            NETBOOT | "handover" => 300,
            _ => return None,
        };
        let silence = now.saturating_duration_since(self.heard);
        (silence > Duration::from_secs(seconds)).then_some(silence)
    }

    /// Whether it needs somebody's eye.
    #[must_use]
    pub fn troubled(&self, now: Instant) -> bool {
        self.stall.is_some()
            || self.waits.is_some()
            || self.failed.is_some()
            || self.silent(now).is_some()
    }

    /// Bytes per second that it fetches now; a finished, stalled or silent node fetches nothing.
    #[must_use]
    pub fn rate(&self, now: Instant) -> u64 {
        let fetches = self.stage == "fetch" && self.stall.is_none() && self.silent(now).is_none();
        if fetches { self.progress.rate } else { 0 }
    }

    fn restart(&mut self, boot_id: Option<String>) {
        if let Some(former) = std::mem::replace(&mut self.boot_id, boot_id) {
            self.former.push(former);
            if self.former.len() > FORMER_BOOTS {
                self.former.remove(0);
            }
        }
        self.percent = 0.0;
        self.progress = FetchProgress::default();
        self.sources = Sources::default();
        (self.stall, self.waits, self.failed) = (None, None, None);
        self.timeline = Timeline::default();
    }

    /// The firmware asked for a boot script: a new boot begins.
    pub fn asked(&mut self, offer: Result<&RevisionRef, &str>) {
        self.restart(None);
        self.stage = NETBOOT;
        self.revision = offer.ok().cloned();
        self.waits = offer.err().map(str::to_owned);
    }

    /// Takes the events of a batch; returns how many were new.
    pub fn take(&mut self, batch: EventBatch, limit: usize, now: Instant) -> usize {
        if self.former.contains(&batch.boot_id) {
            return 0;
        }
        if self.boot_id.as_ref() != Some(&batch.boot_id) {
            if self.boot_id.is_some() || self.stage == "unknown" {
                self.restart(Some(batch.boot_id));
            } else {
                self.waits = None;
                self.boot_id = Some(batch.boot_id);
            }
            self.boots += 1;
        }
        let mut new = 0;
        for event in batch.events {
            // A batch that was delayed belongs into the history, but does not turn the node back.
            let current = self.timeline.last_uptime_ms().is_none_or(|at| event.uptime_ms >= at);
            let kind = event.kind.clone();
            if self.timeline.insert(event, limit, now) {
                new += 1;
                if current {
                    self.apply(kind);
                }
            }
        }
        new
    }

    fn apply(&mut self, kind: EventKind) {
        let stage = kind.stage();
        if !matches!(kind, EventKind::Stalled(_) | EventKind::Unknown) {
            self.stall = None;
            self.failed = None;
            self.stage = stage;
        }
        match kind {
            EventKind::Discover { source } => {
                if let Some(revision) = revision_in(&source) {
                    self.revision = Some(revision);
                }
            }
            EventKind::Fetch(progress) => {
                self.percent = progress.percent().clamp(0.0, 100.0);
                self.sources = progress.sources;
                self.progress = progress;
            }
            EventKind::Verify { sources, .. } => {
                self.percent = 100.0;
                self.sources = sources;
            }
            EventKind::Attach { .. } | EventKind::Mount { .. } | EventKind::Handover { .. } => {
                self.percent = 100.0;
            }
            EventKind::Seeding { .. } => self.percent = 100.0,
            EventKind::Stalled(stall) => self.stall = Some(stall),
            EventKind::Failed { message, .. } => self.failed = Some(message),
            _ => {}
        }
    }
}

/// The revision that a URL of the store names: `…/revisions/NAME/REV/…`.
fn revision_in(source: &str) -> Option<RevisionRef> {
    let (_, path) = source.split_once("/revisions/")?;
    let mut parts = path.split('/');
    format!("{}@{}", parts.next()?, parts.next()?).parse().ok()
}
