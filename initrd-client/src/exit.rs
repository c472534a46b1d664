//! Exit codes: what `dracut`'s hooks, units and tests can tell apart.

use proto::event::{Refusal, StallCause};

/// How the program ended. The numbers are part of the command line's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Something that none of the other codes describes.
    Failure = 1,
    /// The command line or the kernel arguments are wrong.
    Usage = 2,
    /// Too little memory, or too little space where the image goes.
    NoRoom = 3,
    /// What was found is not what the pin demands, or no image of a system.
    Refused = 4,
    /// A device, mount or file could not be made.
    Device = 5,
    /// A signal came before the image was complete.
    Interrupted = 6,
    /// A signature is demanded, and there is none.
    Unsigned = 7,
    /// Signed by a key that is not trusted.
    WrongKey = 8,
    /// The manifest is not what was signed.
    AlteredManifest = 9,
    /// The torrent is not the one that the manifest names.
    WrongTorrent = 10,
    /// The image is not the one that the manifest names.
    WrongImage = 11,
    /// Signed before the time that the trust policy names, or without a time.
    TooOld = 12,
    /// The trust policy cannot be used, or does not let the kernel arguments name their key.
    Policy = 13,
    /// dm-verity is demanded, and image or kernel cannot do it.
    Unchecked = 14,
}

impl Exit {
    /// The table for `--help`.
    pub const HELP: &'static str = "\
Exit codes:
  0  done
  1  failure that no other code describes
  2  wrong command line or wrong kernel arguments
  3  too little memory, or too little space for the image
  4  content refused: it is not what the pin demands, or no image of a system
  5  a device, mount or file could not be made
  6  ended by a signal before the image was complete
  7  refused: a signature is demanded, and the manifest has none
  8  refused: the manifest is signed by a key that is not trusted
  9  refused: the manifest is not what was signed, or its signature is damaged
  10  refused: the torrent is not the one that the manifest names
  11  refused: the image is not the one that the manifest names
  12  refused: signed before the time that the trust policy names, or without a time
  13  the trust policy cannot be used, or does not let beeswarm.key= name another key
  14  beeswarm.verity=require, and the image has no dm-verity tree or the kernel no dm-verity
Network trouble is never a reason to exit: the cause is printed and everything is tried again.
";

    /// The word for it in boot events, when content was refused.
    #[must_use]
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Refused => Some(Refusal::Content),
            Self::Unsigned => Some(Refusal::Unsigned),
            Self::WrongKey => Some(Refusal::WrongKey),
            Self::AlteredManifest => Some(Refusal::AlteredManifest),
            Self::WrongTorrent => Some(Refusal::WrongTorrent),
            Self::WrongImage => Some(Refusal::WrongImage),
            Self::TooOld => Some(Refusal::TooOld),
            Self::Policy => Some(Refusal::Policy),
            Self::Unchecked => Some(Refusal::Unchecked),
            _ => None,
        }
    }
}

impl Exit {
    /// The word for it in boot events, when the machine lacks something.
    #[must_use]
    pub fn cause(self) -> Option<StallCause> {
        match self {
            Self::NoRoom => Some(StallCause::Memory),
            Self::Device => Some(StallCause::Storage),
            _ => None,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_code() {
        for exit in [
            Exit::Success,
            Exit::Failure,
            Exit::Usage,
            Exit::NoRoom,
            Exit::Refused,
            Exit::Device,
            Exit::Interrupted,
            Exit::Unsigned,
            Exit::WrongKey,
            Exit::AlteredManifest,
            Exit::WrongTorrent,
            Exit::WrongImage,
            Exit::TooOld,
            Exit::Policy,
            Exit::Unchecked,
        ] {
            assert!(Exit::HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
