//! `perf record` over the whole machine while a crowd runs, and the stacks that it saw.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use inferno::collapse::Collapse as _;
use inferno::collapse::perf::{Folder, Options};
use lab::tool::Tool;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) const PERF: Tool = Tool::new("perf", "stacks of a running crowd", "linux-perf", "perf");

/// Looks per second and processor: no multiple of the timers of the programs looked at.
const FREQUENCY: &str = "997";

/// A `perf record` that runs. It ends by itself after a time, whatever becomes of us.
#[derive(Debug)]
pub(crate) struct Recorder {
    child: Child,
    data: PathBuf,
}

impl Recorder {
    /// Starts looking at everything that runs on this machine; writes to `data`.
    ///
    /// # Errors
    /// When `perf` is missing, which names its package, or cannot start.
    pub(crate) fn start(data: &Path, longest: Duration) -> anyhow::Result<Recorder> {
        let log = data.with_extension("log");
        let error =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // a clock, because virtual machines often have no counters
        let child = Command::new(PERF.find()?)
            .args(["record", "-a", "-g", "-e", "cpu-clock", "-F", FREQUENCY, "-o"])
            .arg(data)
            .args(["--", "sleep"])
            .arg(longest.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(error)
            .spawn()
            .context("cannot start perf")?;
        Ok(Recorder { child, data: data.to_owned() })
    }

    /// Stops looking.
    ///
    /// # Errors
    /// When perf has written nothing; what it said is named.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.interrupt();
        let status = self.child.wait().context("waiting for perf")?;
        let length = fs::metadata(&self.data).map_or(0, |meta| meta.len());
        let log = self.data.with_extension("log");
        ensure!(length > 0, "perf record recorded nothing ({status}); see {}", log.display());
        Ok(())
    }

    fn interrupt(&self) {
        // it is not waited for yet, so the id is its own
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.interrupt();
            let _ = self.child.wait();
        }
    }
}

/// The stacks of some processes in a recording, folded: a line for each, frames from the outside in, then
/// nanoseconds on a processor. Frames of the kernel end in `_[k]`.
///
/// # Errors
/// When perf cannot read the recording, or has not seen them.
pub(crate) fn stacks(data: &Path, processes: &[u32]) -> anyhow::Result<Vec<String>> {
    let ids: Vec<String> = processes.iter().map(u32::to_string).collect();
    let mut script = Command::new(PERF.find()?)
        .args(["script", "--force", "--pid", &ids.join(","), "-i"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start perf")?;
    let output = script.stdout.take().context("it was asked for a pipe")?;
    let mut options = Options::default();
    options.annotate_kernel = true;
    let mut folded = Vec::new();
    let result = Folder::from(options).collapse(std::io::BufReader::new(output), &mut folded);
    let status = script.wait().context("waiting for perf")?;
    // perf tells its own failure better than a parser that got half of its output
    ensure!(status.success(), "perf script: {status}; is {} whole?", data.display());
    result.with_context(|| format!("no stack in {}", data.display()))?;
    let lines: Vec<String> = String::from_utf8_lossy(&folded).lines().map(str::to_owned).collect();
    ensure!(!lines.is_empty(), "no stack of theirs in {}", data.display());
    Ok(lines)
}

/// Processor seconds: in the kernel, and in all.
pub(crate) fn seconds(stacks: &[String]) -> (f64, f64) {
    let count = |line: &String| {
        let (frames, count) = line.rsplit_once(' ')?;
        let count: u64 = count.parse().ok()?;
        Some((if frames.ends_with("_[k]") { count } else { 0 }, count))
    };
    let add = |sum: (u64, u64), one: (u64, u64)| (sum.0 + one.0, sum.1 + one.1);
    let (kernel, all) = stacks.iter().filter_map(count).fold((0, 0), add);
    (kernel as f64 / 1e9, all as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_share_is_counted_by_the_innermost_frame() {
        let stacks =
            ["a;b 3000000000", "a;read;sys_read_[k] 5000000000", "broken"].map(str::to_owned);
        assert_eq!(seconds(&stacks), (5.0, 8.0));
    }

    #[test]
    fn a_recording_that_is_none_is_an_error() {
        if PERF.find().is_err() {
            let error = Recorder::start(Path::new("/x/y"), Duration::ZERO).unwrap_err();
            assert!(!error.to_string().is_empty());
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("perf.data");
        fs::write(&data, "nothing").unwrap();
        assert!(stacks(&data, &[1]).is_err());
    }
}
