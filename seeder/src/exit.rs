//! Exit codes: what a unit file or a script can tell apart.

/// How the program ended. The numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Stopped by a signal, as asked.
    Stopped = 0,
    /// Something failed that has no number of its own.
    Failure = 1,
    /// Wrong flags or settings.
    Usage = 2,
    /// A torrent, store or boot record is missing or not valid.
    Input = 3,
    /// The data is not the image that the torrent describes.
    WrongImage = 4,
    /// An address cannot be listened on.
    Listen = 5,
    /// Privileges could not be given up.
    Privileges = 6,
}

/// For `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  stopped by SIGTERM or SIGINT
  1  any other failure
  2  wrong flags or settings
  3  a torrent, store or boot record is missing or not valid
  4  the data is not the image that the torrent describes (too short, damaged, or the loop
     device shows another image); it is not announced
  5  an address cannot be listened on
  6  privileges cannot be given up; nothing was served

Settings: a flag wins over its environment variable, that over the file given with --config
(TOML; keys are the flags' long names with '_' for '-'), that over the default.
Sizes and rates take units: 64MiB, 800Mbit, 1Gbit, 10MiB.
RUST_LOG=error|warn|info|debug|trace: how much is told on standard error [default: info]";

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained() {
        for exit in [
            Exit::Stopped,
            Exit::Failure,
            Exit::Usage,
            Exit::Input,
            Exit::WrongImage,
            Exit::Listen,
            Exit::Privileges,
        ] {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
