//! Boot events: what a node tells about its boot, to the console and to the tracker.
//!
//! A batch is idempotent: `(boot_id, uptime_ms, seq)` names an event, so a client may send it again until
//! it is acknowledged. Two programs report during one boot and each counts `seq` from the start. Readers skip stages they do not know.

use serde::{Deserialize, Serialize};

use crate::node_id::NodeId;

pub mod audit;
pub mod console;
pub mod exchange;

use audit::Audit;
use console::Console;
use exchange::Exchange;

/// Version of the batch format.
pub const EVENT_VERSION: u32 = 1;

/// Largest batch accepted over HTTP, in bytes.
pub const MAX_BATCH_LEN: usize = 64 * 1024;

/// Most events in one batch.
pub const MAX_BATCH_EVENTS: usize = 256;

/// Most addresses of one node that are kept from a batch.
pub const MAX_MACS: usize = 16;

/// Longest token, in bytes.
pub const MAX_TOKEN_LEN: usize = 128;

/// Longest text kept from an event, in characters.
pub const MAX_TEXT_LEN: usize = 500;

/// Body of `POST /api/v1/nodes/{id}/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventBatch {
    /// [`EVENT_VERSION`].
    pub version: u32,
    /// Names one boot of the node (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// `beeswarm.token=` of this boot, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Addresses of the node's network cards, the one in the URL or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<NodeId>,
    /// What the board calls itself (SMBIOS), as `/sys/class/dmi/id/product_uuid` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// In the order they happened.
    pub events: Vec<Event>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with each event of a boot and program.
    pub seq: u64,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened, by stage of the boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// Looking for the manifest and the torrent.
    Discover {
        /// URL or path that `root=` names.
        source: String,
    },
    /// Fetching the image; sent about every two seconds.
    Fetch(FetchProgress),
    /// What it got from whom, and what it has: a report, no stage of the boot.
    Exchange(Exchange),
    /// What its console showed last: a report, no stage of the boot.
    Console(Console),
    /// Whether its hardware is sound: a report, no stage of the boot.
    Audit(Audit),
    /// Every piece is verified.
    Verify {
        /// Bytes of the image.
        bytes: u64,
        /// Seconds from first request to last verified piece.
        seconds: f64,
        /// Where they came from.
        sources: Sources,
        /// Pieces that failed their hash on the way.
        hash_failures: u32,
    },
    /// The loop device is set up.
    Attach {
        /// `/dev/loopN`
        device: String,
    },
    /// Image and overlay are mounted.
    Mount {
        /// Where the new root is.
        root: String,
        /// Whether dm-verity checks what is read of the image; `None`: the image has no tree.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verity: Option<VerityUse>,
    },
    /// The initrd's part is done.
    Handover {
        /// Peak resident memory of the client beyond the image, in bytes.
        peak_memory: u64,
    },
    /// The running node re-seeds.
    Seeding {
        /// Block device it reads.
        device: String,
        /// User it runs as.
        user: String,
        /// Bytes sent to others so far.
        uploaded: u64,
        /// TCP port where it serves kernel and initrd over HTTP, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        http: Option<u16>,
    },
    /// Nothing moves, and why.
    Stalled(Stall),
    /// The boot cannot go on by itself.
    Failed {
        /// Cause and remedy, for people.
        message: String,
        /// What was refused, when something was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<Refusal>,
        /// What the machine lacks, when it is that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<StallCause>,
    },
    /// A stage that this version does not know.
    #[serde(other)]
    Unknown,
}

impl EventKind {
    /// The stage's name, as in JSON.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Discover { .. } => "discover",
            Self::Fetch(_) => "fetch",
            Self::Exchange(_) => "exchange",
            Self::Console(_) => "console",
            Self::Audit(_) => "audit",
            Self::Verify { .. } => "verify",
            Self::Attach { .. } => "attach",
            Self::Mount { .. } => "mount",
            Self::Handover { .. } => "handover",
            Self::Seeding { .. } => "seeding",
            Self::Stalled(_) => "stalled",
            Self::Failed { .. } => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it is a report and no stage of the boot: the newest of a kind says all that is kept of it.
    #[must_use]
    pub fn is_report(&self) -> bool {
        matches!(self, Self::Exchange(_) | Self::Console(_) | Self::Audit(_))
    }
}

/// What became of an image's dm-verity tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerityUse {
    /// Each block is checked: the device that does it.
    Active(String),
    /// Nothing is checked, and why.
    Inactive(String),
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct FetchProgress {
    /// Verified bytes.
    pub bytes: u64,
    /// Bytes of the image.
    pub total: u64,
    /// Bytes per second, received and useful.
    pub rate: u64,
    /// Bytes per second, sent to others.
    pub upload_rate: u64,
    /// Bytes sent to others so far.
    #[serde(default)]
    pub uploaded: u64,
    /// Connected peers.
    pub peers: u32,
    /// Where the bytes came from.
    pub sources: Sources,
}

impl FetchProgress {
    /// Verified share of the image, 0 to 100.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let share = self.bytes as f64 / self.total as f64;
        share * 100.0
    }
}

/// Verified bytes by where they came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sources {
    /// The admin host's seeder, over the peer wire.
    pub admin: u64,
    /// Other nodes (and foreign clients), over the peer wire.
    pub peers: u64,
    /// HTTP (BEP 19).
    pub web: u64,
}

impl Sources {
    /// Bytes in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.admin.saturating_add(self.peers).saturating_add(self.web)
    }
}

impl std::ops::AddAssign for Sources {
    fn add_assign(&mut self, more: Self) {
        self.admin = self.admin.saturating_add(more.admin);
        self.peers = self.peers.saturating_add(more.peers);
        self.web = self.web.saturating_add(more.web);
    }
}

/// Why nothing moves: the cause as a fixed word, the detail for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// What kind of trouble.
    pub cause: StallCause,
    /// Address, error text, remedy.
    pub detail: String,
}

/// Causes of a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StallCause {
    /// No interface has a carrier.
    NoCarrier,
    /// No address yet.
    NoAddress,
    /// No route to the host.
    NoRoute,
    /// The name does not resolve.
    NameResolution,
    /// The server of manifest or torrent does not answer, or answers with an error.
    SourceUnreachable,
    /// The tracker does not answer.
    TrackerUnreachable,
    /// The tracker answers with a failure reason, or with something else than an announce reply.
    TrackerRefuses,
    /// The tracker knows no peers.
    NoPeers,
    /// Peers are known but none can be connected.
    PeersUnreachable,
    /// Peers are connected but send nothing.
    NoData,
    /// Pieces fail their hash.
    HashFailures,
    /// Too little memory.
    Memory,
    /// Device or file system trouble.
    Storage,
    /// The image cannot be mounted.
    Mount,
    /// A cause that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Content that a node did not take, as a fixed word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Refusal {
    /// It is not what `beeswarm.pin=` demands, or no image at all.
    Content,
    /// Nobody signed it.
    Unsigned,
    /// Signed by a key that the node does not trust.
    WrongKey,
    /// The manifest is not what was signed.
    AlteredManifest,
    /// The torrent is not the one that the manifest names.
    WrongTorrent,
    /// The image is not the one that the manifest names.
    WrongImage,
    /// Signed before the time that the node's policy names.
    TooOld,
    /// The node's trust policy cannot be used.
    Policy,
    /// It cannot be checked by dm-verity, which the node demands.
    Unchecked,
    /// A word that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Larger than [`MAX_BATCH_LEN`], or more than [`MAX_BATCH_EVENTS`] events.
    #[error(
        "event batch is too large (at most {MAX_BATCH_LEN} bytes and {MAX_BATCH_EVENTS} events)"
    )]
    TooLarge,
    /// Not JSON of this shape.
    #[error("not a valid event batch: {0}")]
    Json(String),
    /// Another version.
    #[error("event batch has version {0}; this program reads {EVENT_VERSION}")]
    Version(u32),
    /// `boot_id` is empty or longer than 64 characters.
    #[error("event batch has no usable boot_id")]
    BootId,
}

impl EventBatch {
    /// A batch of one boot without events, and without anything else that may be left out.
    #[must_use]
    pub fn new(boot_id: String) -> Self {
        Self {
            version: EVENT_VERSION,
            boot_id,
            token: None,
            macs: Vec::new(),
            uuid: None,
            events: Vec::new(),
        }
    }

    /// Reads a batch and cuts its texts to [`MAX_TEXT_LEN`].
    ///
    /// # Errors
    /// [`EventError`] when it is too large, not JSON, or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, EventError> {
        if bytes.len() > MAX_BATCH_LEN {
            return Err(EventError::TooLarge);
        }
        let mut batch: Self =
            serde_json::from_slice(bytes).map_err(|error| EventError::Json(error.to_string()))?;
        if batch.version != EVENT_VERSION {
            return Err(EventError::Version(batch.version));
        }
        if batch.events.len() > MAX_BATCH_EVENTS {
            return Err(EventError::TooLarge);
        }
        if batch.boot_id.is_empty() || batch.boot_id.len() > 64 {
            return Err(EventError::BootId);
        }
        batch.token = batch.token.filter(|token| token.len() <= MAX_TOKEN_LEN);
        batch.macs.truncate(MAX_MACS);
        batch.uuid = batch.uuid.as_deref().and_then(uuid);
        for event in &mut batch.events {
            match &mut event.kind {
                EventKind::Discover { source: text }
                | EventKind::Attach { device: text }
                | EventKind::Mount { root: text, verity: None }
                | EventKind::Failed { message: text, .. } => cut(text, MAX_TEXT_LEN),
                EventKind::Mount { root, verity: Some(verity) } => {
                    let (VerityUse::Active(text) | VerityUse::Inactive(text)) = verity;
                    cut(root, MAX_TEXT_LEN);
                    cut(text, MAX_TEXT_LEN);
                }
                EventKind::Stalled(stall) => cut(&mut stall.detail, MAX_TEXT_LEN),
                EventKind::Exchange(exchange) => exchange.bound(),
                EventKind::Console(console) => console.bound(),
                EventKind::Audit(audit) => audit.bound(),
                EventKind::Seeding { device, user, .. } => {
                    cut(device, MAX_TEXT_LEN);
                    cut(user, MAX_TEXT_LEN);
                }
                _ => {}
            }
        }
        Ok(batch)
    }
}

/// A UUID in lower case; `None` for what is none, and for what boards without one say.
fn uuid(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let shape = |(at, b): (usize, u8)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    let is_uuid = text.len() == 36 && text.bytes().enumerate().all(shape);
    let says_something = ['0', 'f'].iter().all(|d| text.chars().any(|c| c != '-' && c != *d));
    (is_uuid && says_something).then_some(text)
}

fn cut(text: &mut String, most: usize) {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
    }
}

#[cfg(test)]
#[path = "event/tests.rs"]
mod tests;
