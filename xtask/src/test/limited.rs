//! Runs a command that may not take for ever.

use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a waiting call looks.
const POLL: Duration = Duration::from_millis(50);

/// Time between the polite and the other signal: enough for a lab to clean up.
const GRACE: Duration = Duration::from_secs(20);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It was stopped after this time.
    TooLong(Duration),
}

impl Ended {
    /// What went wrong, if anything did.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Ended::Exited(status) if status.success() => None,
            Ended::Exited(status) => Some(format!("ended with {status}")),
            Ended::TooLong(limit) => Some(format!("stopped after {} s", limit.as_secs())),
        }
    }
}

/// Runs a command to its end, at most `limit`; then it is asked to stop, and killed if it does
/// not. What a lab has started ends with it.
///
/// # Errors
/// When it cannot be started or waited for.
pub(crate) fn run(command: &mut Command, limit: Duration) -> anyhow::Result<Ended> {
    wait(start(command)?, limit)
}

/// As [`run`]; meanwhile `read` takes the command's standard output, which must be a pipe.
///
/// # Errors
/// As [`run`], and those of `read`.
pub(crate) fn run_reading(
    command: &mut Command,
    limit: Duration,
    read: impl FnOnce(ChildStdout) -> anyhow::Result<()> + Send,
) -> anyhow::Result<Ended> {
    let mut child = start(command)?;
    let out = child.stdout.take().context("the command's output is not a pipe")?;
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(out));
        let ended = wait(child, limit)?;
        reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        Ok(ended)
    })
}

fn start(command: &mut Command) -> anyhow::Result<Child> {
    // in our process group: Ctrl-C reaches it as well
    command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))
}

fn wait(mut child: Child, limit: Duration) -> anyhow::Result<Ended> {
    let id = i32::try_from(child.id()).map(Pid::from_raw)?;
    let mut until = |deadline: Instant| -> anyhow::Result<Option<ExitStatus>> {
        loop {
            let status = child.try_wait().context("cannot wait for a command")?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
    };
    if let Some(status) = until(Instant::now() + limit)? {
        return Ok(Ended::Exited(status));
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // it is not yet waited for, so the id is still its own
        let _ = kill(id, signal);
        if until(Instant::now() + GRACE)?.is_some() {
            break;
        }
    }
    Ok(Ended::TooLong(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_it_ended() {
        let limit = Duration::from_secs(60);
        let shell = |script: &str| run(Command::new("sh").args(["-c", script]), limit).unwrap();
        assert_eq!(shell("exit 0").problem(), None);
        assert!(shell("exit 3").problem().unwrap().contains('3'));
    }

    #[test]
    fn stops_what_takes_too_long() {
        let limit = Duration::from_millis(1);
        let ended = run(Command::new("sleep").arg("600"), limit).unwrap();
        assert_eq!(ended, Ended::TooLong(limit));
    }
}
