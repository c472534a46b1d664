//! What packing reports while it runs.

use serde::Serialize;

use crate::secrets::Finding;

/// One step of [`crate::pack()`], in this order; some are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A recipe is followed.
    Build,
    /// A tar or a container image is unpacked.
    Unpack,
    /// Overlays, keys and facts are added, exclusions removed.
    Contents,
    /// The root is searched for secrets: before the initrd is made, and what is packed, after it.
    Secrets,
    /// The image is compressed.
    Image,
    /// What of the image is not hashed yet is; a dm-verity tree is written behind it.
    Hash,
    /// The initrd is made.
    Initrd,
    /// Everything is brought to disk.
    Store,
}

impl Stage {
    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Build => "building the root",
            Self::Unpack => "unpacking the source",
            Self::Contents => "preparing the contents",
            Self::Secrets => "looking for secrets",
            Self::Image => "compressing the image",
            Self::Hash => "hashing the image",
            Self::Initrd => "making the initrd",
            Self::Store => "writing the revision to disk",
        }
    }
}

/// One line of `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A step begins.
    Stage {
        /// Which.
        stage: Stage,
    },
    /// The step goes on.
    Progress {
        /// Which.
        stage: Stage,
        /// 0 to 100.
        percent: u8,
        /// Bytes that are done: of the source for [`Stage::Image`], else of the image.
        bytes: u64,
        /// Bytes of the image that are written; only of [`Stage::Image`].
        #[serde(skip_serializing_if = "Option::is_none")]
        written: Option<u64>,
        /// Bytes per second since the step began.
        rate: u64,
        /// Seconds that are left at this rate; none before there is something to judge by.
        #[serde(skip_serializing_if = "Option::is_none")]
        remaining_s: Option<u64>,
    },
    /// The step is done.
    Done {
        /// Which.
        stage: Stage,
        /// Duration, in milliseconds.
        elapsed_ms: u64,
    },
    /// A secret was found.
    Secret {
        /// What, where, and what allows it.
        #[serde(flatten)]
        finding: Finding,
        /// Whether `--allow-secret` named it; otherwise nothing is packed.
        allowed: bool,
    },
    /// Something that does not stop the packing, but that an admin should know.
    Warning {
        /// In words.
        text: String,
    },
}

/// Takes events; called from one thread.
pub type Observer<'a> = &'a dyn Fn(Event);
