//! Kinds of failure, by which programs tell them apart.

use crate::error::PackError;
use crate::signing::SignError;

/// Kinds of failure: what a caller may want to tell apart. The binary's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Category {
    /// Anything else.
    Other = 1,
    /// The source, or a file given by flag, is not usable.
    Input = 3,
    /// A program is missing or failed.
    Tool = 4,
    /// The store cannot be written: full, read-only, no permission.
    Store = 5,
    /// A revision is damaged.
    Damaged = 6,
    /// A revision is not signed, or not by the key that was asked for.
    Signature = 7,
    /// The image would hold secrets that nobody allowed.
    Secret = 8,
}

impl PackError {
    /// Which kind of failure this is.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::ToolMissing { .. } | Self::ToolFailed { .. } | Self::InitrdIncomplete { .. } => {
                Category::Tool
            }
            Self::DiskFull { .. } | Self::Write { .. } | Self::Store(_) => Category::Store,
            Self::Sign(error) => error.category(),
            Self::Secrets { .. } => Category::Secret,
            _ => Category::Input,
        }
    }
}

impl SignError {
    /// Which kind of failure this is.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::Store(_) | Self::Write { .. } => Category::Store,
            Self::Failed { .. } => Category::Other,
            _ => Category::Input,
        }
    }
}
