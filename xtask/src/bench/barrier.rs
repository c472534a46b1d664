//! Pipes at which programs wait, so that a whole crowd starts in one moment.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lab::Node;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// A pipe. Opening it for reading waits until somebody opens it for writing.
#[derive(Debug)]
pub(crate) struct Barrier {
    inside: PathBuf,
    outside: PathBuf,
}

impl Barrier {
    /// Makes one in the node's scratch folder.
    pub(crate) fn make(node: &Node, name: &str) -> anyhow::Result<Barrier> {
        let inside = node.scratch().join(name);
        let outside = node.outside(&inside);
        let mode = Mode::from_bits_truncate(0o644);
        mkfifo(&outside, mode).with_context(|| format!("cannot make {}", outside.display()))?;
        Ok(Barrier { inside, outside })
    }

    /// The pipe as programs in the lab see it.
    pub(crate) fn inside(&self) -> &Path {
        &self.inside
    }

    /// Lets go on who waits. With nobody there it does nothing: a program that has ended is found
    /// out by other means, and waiting for it here would be waiting for ever.
    pub(crate) fn open(&self) -> anyhow::Result<()> {
        // the readers' open(2) returns once there has been a writer; there is nothing to write
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&self.outside);
        match opened {
            Err(error) if error.raw_os_error() != Some(Errno::ENXIO as i32) => {
                Err(error).with_context(|| format!("cannot open {}", self.outside.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn opening_lets_a_reader_go_on_and_does_not_wait_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        let barrier = Barrier { inside: path.clone(), outside: path.clone() };
        barrier.open().unwrap();
        let mut reader = Command::new("sh").args(["-c", ": <\"$0\""]).arg(&path).spawn().unwrap();
        // when it gets there is its own affair; an early opening must not let it through
        while reader.try_wait().unwrap().is_none() {
            barrier.open().unwrap();
            std::thread::yield_now();
        }
        assert!(reader.wait().unwrap().success());
        std::fs::remove_file(&path).unwrap();
        assert!(barrier.open().is_err(), "what is not there is told");
    }
}
