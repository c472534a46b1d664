//! What a node's firmware asked, and was told.

use store::RevisionRef;

use super::node::{DISK, NETBOOT};

/// How a boot began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asked {
    /// With an event: the firmware asked nobody, or another tracker.
    #[default]
    No,
    /// With a question of the firmware, which got an image or was told to wait.
    Netboot,
    /// With a question of the firmware, which was sent on to the disk.
    Disk,
}

impl Asked {
    /// As it is stored.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Netboot => 1,
            Self::Disk => 2,
        }
    }

    pub(crate) fn of_number(number: u8) -> Self {
        match number {
            1 => Self::Netboot,
            2 => Self::Disk,
            _ => Self::No,
        }
    }

    /// The stage that it leaves a node in.
    pub(super) fn stage(self) -> &'static str {
        match self {
            Self::No => "unknown",
            Self::Netboot => NETBOOT,
            Self::Disk => DISK,
        }
    }
}

/// What a node's firmware was told.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// To boot this.
    Boot(&'a RevisionRef),
    /// To ask again, for this reason.
    Wait(&'a str),
    /// To go on to its disk.
    Disk,
}
