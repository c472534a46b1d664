//! What a program and all that it starts used: told by the kernel when it has ended.
//!
//! The kernel adds up all children of a process. So each program is run by a process of its own, this
//! one again, which has no other child.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

/// Of one run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Used {
    /// From start to end.
    pub(super) seconds: f64,
    /// Of all processors, in programs and in the kernel.
    pub(super) cpu: f64,
    /// Largest resident set of one process, in bytes.
    pub(super) memory: u64,
    /// Bytes read from a disk.
    pub(super) disk: u64,
    /// Bytes of the image that were read again to hash it, if the program says it.
    pub(super) read_back: Option<u64>,
}

/// Arguments of the hidden `bench measure`.
#[derive(Debug, Parser)]
pub(crate) struct MeasureArgs {
    /// Program and its arguments
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    command: Vec<std::ffi::OsString>,
}

/// Runs the command in a process of its own and reads what that one tells.
pub(super) fn command(wanted: &mut Command) -> anyhow::Result<Used> {
    let this = std::env::current_exe().context("cannot tell this program's path")?;
    let mut command = Command::new(this);
    command.args(["bench", "measure", "--"]).arg(wanted.get_program()).args(wanted.get_args());
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{wanted:?} failed: {errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{wanted:?} printed {text}"))
}

/// `bench measure`: runs the command, then prints a line of JSON.
pub(crate) fn measure(args: &MeasureArgs) -> anyhow::Result<()> {
    let start = Instant::now();
    let (program, rest) = args.command.split_first().context("no command")?;
    // its own output must not mix with the line that is read
    let mut child = Command::new(program).args(rest).stdout(Stdio::piped()).spawn()?;
    let mut said = Vec::new();
    child.stdout.take().context("no output")?.read_to_end(&mut said)?;
    let status = child.wait()?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "it ended with {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let used = Used {
        seconds,
        cpu: time(usage.user_time()) + time(usage.system_time()),
        // the kernel counts memory in KiB, and reading in sectors
        memory: u64::try_from(usage.max_rss())? * 1024,
        disk: u64::try_from(usage.block_reads())? * 512,
        read_back: read_back(&said),
    };
    crate::workspace::say(serde_json::to_string(&used)?);
    Ok(())
}

/// What the event `complete` of bee-packer says.
fn read_back(said: &[u8]) -> Option<u64> {
    let last = said.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
    let event: serde_json::Value = serde_json::from_slice(last).ok()?;
    event.get("image_bytes_read_back")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_again_is_in_the_last_event() {
        let said = b"{\"event\":\"done\"}\n{\"event\":\"complete\",\"image_bytes_read_back\":7}\n";
        assert_eq!(read_back(said), Some(7));
        for other in [&b""[..], b"Parallel mksquashfs\n", b"{\"event\":\"complete\"}"] {
            assert_eq!(read_back(other), None);
        }
    }
}
