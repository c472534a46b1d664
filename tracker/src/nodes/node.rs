//! One node and the boot it is in.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::event::audit::{Audit, Verdict};
use proto::event::exchange::Exchange;
use proto::event::{EventBatch, EventKind, FetchProgress, Sources, Stall};
use proto::node_id::NodeId;
use store::RevisionRef;

pub use super::asked::{Asked, Told};
use super::log::Log;
use super::mirror::Mirror;
use super::timeline::{Entry, Inserted, Timeline};
use super::trouble::{Cause, Trouble};
pub use super::trust::Trust;
use crate::state::{PastBoot, StageTime};

/// Stage of a node whose firmware asked for its boot script and was not heard since.
pub const NETBOOT: &str = "netboot";

/// Stage of a node that was sent on to its disk: nothing more is to be heard of it.
pub const DISK: &str = "disk";

/// Stages in the order a boot goes through them.
pub const STAGES: [&str; 10] = [
    DISK, NETBOOT, "discover", "fetch", "verify", "attach", "mount", "handover", "seeding",
    "failed",
];

/// Boots whose late events are recognised as such.
const FORMER_BOOTS: usize = 4;

/// A seeder that was not heard for this long may be gone.
const OLD_SEEDER: Duration = Duration::from_secs(100);

/// A system takes no longer from the end of its initrd until its re-seeder reports, unless the settings say so.
pub const SEEDER_PATIENCE: Duration = Duration::from_secs(120);

/// A boot that is over, if it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    boot_id: String,
    /// When its last event happened, in milliseconds since its kernel started.
    uptime_ms: u64,
    pub(crate) revision: Option<RevisionRef>,
}

/// A node, as its last event left it.
#[derive(Debug)]
pub struct Node {
    /// The MAC address that it was first heard with.
    pub id: NodeId,
    /// All MAC addresses that are known to be its, in order; [`Node::id`] is one of them.
    pub macs: Vec<NodeId>,
    /// What its board calls itself (SMBIOS), if known.
    pub uuid: Option<String>,
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
    /// From whom its image came, and which pieces it has, as it said last.
    pub exchange: Option<Exchange>,
    /// Whether its hardware is sound, as it said last.
    pub audit: Option<Audit>,
    /// Bytes that its re-seeder gave to others.
    pub seeded: u64,
    /// Whether it serves kernel and initrd to others.
    pub mirror: Option<Mirror>,
    /// Why nothing moves: a fixed word and a text for people.
    pub stall: Option<Stall>,
    /// Why it waits in its firmware.
    pub waits: Option<String>,
    /// Why it has given up.
    pub failed: Option<Trouble>,
    /// What it was told to boot, or said it boots: image and revision.
    pub revision: Option<RevisionRef>,
    /// Its events.
    pub timeline: Timeline,
    /// How many boots were seen.
    pub boots: u32,
    /// Whether its events of this boot carry a token.
    pub trust: Trust,
    /// When it was last heard.
    pub heard: Instant,
    /// Number of the boot that it is in, with questions of the firmware.
    pub(crate) boot: u32,
    /// How the boot that it is in began.
    pub(crate) asked: Asked,
    /// Number of the newest token that it used.
    pub(crate) bound: Option<u64>,
    pub(crate) former: Vec<String>,
    /// What it ran until somebody who proved nothing said that it boots: its firmware, or another in its name.
    pub(crate) ran: Option<Ran>,
    /// How long its re-seeder may take.
    pub(crate) seeder_patience: Duration,
}

impl Node {
    /// A node of which nothing is known yet.
    #[must_use]
    pub fn new(id: NodeId, addr: IpAddr, now: Instant) -> Self {
        Self {
            id,
            macs: vec![id],
            uuid: None,
            addr,
            boot_id: None,
            stage: "unknown",
            percent: 0.0,
            progress: FetchProgress::default(),
            sources: Sources::default(),
            exchange: None,
            audit: None,
            seeded: 0,
            mirror: None,
            stall: None,
            waits: None,
            failed: None,
            revision: None,
            timeline: Timeline::default(),
            boots: 0,
            trust: Trust::Silent,
            heard: now,
            boot: 0,
            asked: Asked::No,
            bound: None,
            former: Vec::new(),
            ran: None,
            seeder_patience: SEEDER_PATIENCE,
        }
    }

    /// How long it has said nothing, when that is longer than its stage explains. While the image is
    /// fetched a report is due every two seconds; the firmware and the system's own start say nothing.
    #[must_use]
    pub fn silent(&self, now: Instant) -> Option<Duration> {
        let patience = match self.stage {
            "discover" | "fetch" => Duration::from_secs(15),
            "verify" | "attach" | "mount" => Duration::from_secs(60),
            "handover" => self.seeder_patience,
            NETBOOT => Duration::from_secs(300),
            _ => return None,
        };
        let silence = now.saturating_duration_since(self.heard);
        (silence > patience).then_some(silence)
    }

    /// Whether what is known of it is old, though nothing is wrong: a seeder reports every 30 s, and one that
    /// was switched off in order does not say so.
    #[must_use]
    pub fn old(&self, now: Instant) -> bool {
        self.stage == "seeding" && now.saturating_duration_since(self.heard) > OLD_SEEDER
    }

    /// Bytes that it gave to others in this boot, from its initrd and from its root.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.progress.uploaded.saturating_add(self.seeded)
    }

    /// Whether it needs somebody's eye.
    #[must_use]
    pub fn troubled(&self, now: Instant) -> bool {
        self.stall.is_some()
            || self.waits.is_some()
            || self.failed.is_some()
            || self.unsound().is_some()
            || self.silent(now).is_some()
    }

    /// What its audit found, when that is bad.
    #[must_use]
    pub fn unsound(&self) -> Option<&Audit> {
        self.audit.as_ref().filter(|audit| audit.verdict == Verdict::Fail)
    }

    /// Bytes per second that it fetches now; a finished, stalled or silent node fetches nothing.
    #[must_use]
    pub fn rate(&self, now: Instant) -> u64 {
        let fetches = self.stage == "fetch" && self.stall.is_none() && self.silent(now).is_none();
        if fetches { self.progress.rate } else { 0 }
    }

    /// Ends the boot that it is in.
    pub(super) fn restart(&mut self, boot_id: Option<String>, log: &mut Log) {
        if self.boot_id.is_some() {
            log.end_boot(self.id, || self.summary());
        }
        log.dead(self.timeline.rows());
        if let Some(former) = std::mem::replace(&mut self.boot_id, boot_id) {
            self.remember(former);
        }
        self.boot += 1;
        self.stage = "unknown";
        self.percent = 0.0;
        self.progress = FetchProgress::default();
        self.sources = Sources::default();
        self.exchange = None;
        self.audit = None;
        self.seeded = 0;
        self.mirror = None;
        (self.stall, self.waits, self.failed) = (None, None, None);
        (self.asked, self.trust) = (Asked::No, Trust::Silent);
        self.ran = None;
        self.timeline = Timeline::default();
    }

    /// Keeps a boot that is over, to tell its late events from a new boot.
    pub(super) fn remember(&mut self, boot_id: String) {
        self.former.push(boot_id);
        if self.former.len() > FORMER_BOOTS {
            self.former.remove(0);
        }
    }

    fn summary(&self) -> PastBoot {
        let failed = self.failed.as_ref().map(|failed| failed.detail.clone());
        let stall = self.stall.as_ref().map(|stall| stall.detail.clone());
        let times = self.timeline.stage_times();
        let trouble = failed.or(stall).or_else(|| self.waits.clone());
        // of a boot that ended well nobody reads it
        let console = self.timeline.console().filter(|_| trouble.is_some());
        PastBoot {
            boot_id: self.boot_id.clone(),
            stage: self.stage.to_owned(),
            percent: self.percent,
            revision: self.revision.clone(),
            trouble,
            audit: self.audit.as_ref().map(|audit| audit.verdict),
            console: console.map(|(console, _)| console.lines.clone()).unwrap_or_default(),
            authenticated: self.trust == Trust::Token,
            stage_times: times
                .into_iter()
                .map(|(stage, uptime_ms)| StageTime { stage: stage.to_owned(), uptime_ms })
                .collect(),
        }
    }

    /// The firmware asked for a boot script: a new boot begins.
    pub(super) fn asked(&mut self, told: Told<'_>, log: &mut Log) {
        let ran = self.runs().or(self.ran.take());
        self.restart(None, log);
        self.ran = ran;
        self.asked = if matches!(told, Told::Disk) { Asked::Disk } else { Asked::Netboot };
        self.stage = self.asked.stage();
        (self.revision, self.waits) = match told {
            Told::Boot(revision) => (Some(revision.clone()), None),
            Told::Wait(reason) => (None, Some(reason.to_owned())),
            Told::Disk => (None, None),
        };
    }

    /// Whether a token's number fits the boot: that of the current one, or newer than all before. So one
    /// that was read from a former boot's kernel arguments is worth nothing.
    #[must_use]
    pub(super) fn fits(&self, boot_id: &str, token: u64) -> bool {
        let current = self.trust == Trust::Token && self.boot_id.as_deref() == Some(boot_id);
        let ran = self.ran.as_ref().is_some_and(|ran| ran.boot_id == boot_id);
        let current = current || ran;
        match self.bound {
            Some(bound) if current => bound == token,
            Some(bound) => token > bound,
            None => true,
        }
    }

    fn runs(&self) -> Option<Ran> {
        Some(Ran {
            boot_id: self.boot_id.clone()?,
            uptime_ms: self.timeline.last_uptime_ms().unwrap_or(0),
            revision: self.revision.clone(),
        })
    }

    /// Whether events are to be refused: the boot has shown its token, and these do not.
    #[must_use]
    pub(super) fn refuses(&self, boot_id: &str, token: Option<u64>) -> bool {
        let proven = self.trust == Trust::Token && self.boot_id.as_deref() == Some(boot_id);
        proven && !token.is_some_and(|token| self.fits(boot_id, token))
    }

    /// Whether a boot that seemed to be over has something new to say.
    fn goes_on(&self, batch: &EventBatch, token: Option<u64>) -> bool {
        let unproven = self.trust != Trust::Token && (self.boot_id.is_none() || token.is_some());
        let later = |ran: &Ran| batch.events.iter().any(|event| event.uptime_ms > ran.uptime_ms);
        unproven && self.ran.as_ref().is_some_and(|ran| ran.boot_id == batch.boot_id && later(ran))
    }

    fn revive(&mut self, log: &mut Log) {
        let Some(Ran { boot_id, revision, .. }) = self.ran.take() else { return };
        self.former.retain(|former| *former != boot_id);
        self.restart(Some(boot_id), log);
        self.revision = revision;
    }

    /// Takes the events of a batch; returns how many were new. `token` is the number of a token that fits.
    pub(super) fn take(
        &mut self,
        batch: EventBatch,
        token: Option<u64>,
        limit: usize,
        now: Instant,
        log: &mut Log,
    ) -> usize {
        if self.goes_on(&batch, token) {
            self.revive(log);
        } else if self.former.contains(&batch.boot_id) {
            return 0;
        }
        if self.boot_id.as_ref() != Some(&batch.boot_id) {
            if self.boot_id.is_some() || self.stage == "unknown" {
                let ran = if token.is_none() { self.runs() } else { None };
                self.restart(Some(batch.boot_id), log);
                self.ran = ran;
            } else {
                (self.waits, self.ran) = (None, None);
                self.boot_id = Some(batch.boot_id);
            }
            self.boots += 1;
        }
        let trust = if token.is_some() { Trust::Token } else { Trust::Without };
        self.trust = self.trust.min(trust);
        self.bound = self.bound.max(token);
        let mut new = 0;
        for event in batch.events {
            if self.timeline.contains(&event) {
                continue;
            }
            let row = log.event(self.id, self.boot, &event);
            match self.put(Entry { event, received: now, row }, limit) {
                Inserted::Known => {}
                Inserted::New => new += 1,
                Inserted::Instead(victim) => {
                    new += usize::from(victim != row || row == 0);
                    log.dead([victim]);
                }
            }
        }
        new
    }

    /// Adds an event and does what it says.
    pub(super) fn put(&mut self, entry: Entry, limit: usize) -> Inserted {
        // A batch that was delayed belongs into the history, but does not turn the node back.
        let at = entry.event.uptime_ms;
        let current = self.timeline.last_uptime_ms().is_none_or(|last| at >= last);
        let kind = entry.event.kind.clone();
        let inserted = self.timeline.insert(entry, limit);
        if matches!(kind, EventKind::Audit(_)) {
            // who audits is another program than who seeds: neither waits for the other's events
            self.audit = self.timeline.audit().cloned();
        } else if current && inserted != Inserted::Known {
            self.apply(kind);
        }
        inserted
    }

    fn apply(&mut self, kind: EventKind) {
        let stage = kind.stage();
        if !kind.is_report() && !matches!(kind, EventKind::Stalled(_) | EventKind::Unknown) {
            // a client that is stuck goes on to report its progress, and that is none
            let stuck = matches!(&kind, EventKind::Fetch(progress)
                if self.stage == "fetch" && progress.bytes <= self.progress.bytes);
            if !stuck {
                self.stall = None;
            }
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
            EventKind::Exchange(exchange) => self.exchange = Some(exchange),
            EventKind::Verify { sources, .. } => {
                self.percent = 100.0;
                self.sources = sources;
            }
            EventKind::Attach { .. } | EventKind::Mount { .. } | EventKind::Handover { .. } => {
                self.percent = 100.0;
            }
            EventKind::Seeding { uploaded, http, .. } => {
                self.percent = 100.0;
                self.seeded = uploaded;
                let named = self.mirror.map_or(0, |mirror| mirror.named);
                self.mirror = http.filter(|port| *port != 0).map(|port| Mirror { port, named });
            }
            EventKind::Stalled(stall) => self.stall = Some(stall),
            EventKind::Failed { message: detail, refused, cause } => {
                let told = cause.map_or(Cause::GaveUp, Cause::Told);
                let cause = refused.map_or(told, Cause::Refused);
                self.failed = Some(Trouble { cause, detail });
            }
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
