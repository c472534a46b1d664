//! Exit codes: what `dracut`'s hooks, units and tests can tell apart.

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
    /// What was found is not what the pin or the manifest demands.
    Refused = 4,
    /// A device, mount or file could not be made.
    Device = 5,
    /// A signal came before the image was complete.
    Interrupted = 6,
}

impl Exit {
    /// The table for `--help`.
    pub const HELP: &'static str = "\
Exit codes:
  0  done
  1  failure that no other code describes
  2  wrong command line or wrong kernel arguments
  3  too little memory, or too little space for the image
  4  content refused: it is not what the pin or the manifest demands
  5  a device, mount or file could not be made
  6  ended by a signal before the image was complete
Network trouble is never a reason to exit: the cause is printed and everything is tried again.
";
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
        ] {
            assert!(Exit::HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
