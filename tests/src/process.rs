//! Processes on the lab's nodes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::error::LabError;
use crate::usage::Usage;

/// How often a waiting call looks, and samples memory.
const POLL: Duration = Duration::from_millis(25);

/// A command for a node: program, arguments, environment and working folder.
///
/// Paths are as the lab sees them: the host's, except that `/run` is the lab's own. A program
/// should be an absolute path or a name in `PATH`.
#[derive(Debug, Clone)]
pub struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: PathBuf,
    log: Option<String>,
}

/// As one would type it into a shell.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", quoted(&self.program))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// A word as a shell takes it.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl Cmd {
    /// A command without arguments, to run in `/`.
    pub fn new(program: impl AsRef<OsStr>) -> Cmd {
        Cmd {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            folder: PathBuf::from("/"),
            log: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Cmd {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Cmd {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment, which is otherwise the caller's.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Cmd {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Cmd {
        self.folder = folder.into();
        self
    }

    /// Names the log file (`NAME.log`, and `NAME.out` for standard output). Default: node and
    /// program, with a number when that is taken.
    #[must_use]
    pub fn log(mut self, name: impl Into<String>) -> Cmd {
        self.log = Some(name.into());
        self
    }

    /// The same command, started by another program that ends with running its arguments
    /// (`nice -n 5 COMMAND…`, a shell that waits for something first).
    #[must_use]
    pub fn wrapped_by<S: AsRef<OsStr>>(
        self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Cmd {
        let mut all: Vec<OsString> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
        all.push(self.program);
        all.extend(self.args);
        Cmd { program: program.as_ref().to_owned(), args: all, ..self }
    }

    pub(crate) fn log_name(&self) -> Option<&str> {
        self.log.as_deref()
    }

    /// The program's name, for messages and log files.
    pub(crate) fn program_name(&self) -> String {
        let path = Path::new(&self.program);
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v)));
        // a group of its own: Ctrl-C in the terminal is for the caller alone
        command.current_dir(&self.folder).stdin(Stdio::null()).process_group(0);
        command
    }
}

/// A running process on a node. It is killed when this is dropped.
#[derive(Debug)]
pub struct Proc {
    program: String,
    child: Child,
    status: Option<ExitStatus>,
    started: Instant,
    usage: Usage,
    log: PathBuf,
    out: PathBuf,
}

impl Proc {
    pub(crate) fn new(program: String, child: Child, log: PathBuf, out: PathBuf) -> Proc {
        let (status, usage) = (None, Usage::default());
        Proc { program, child, status, started: Instant::now(), usage, log, out }
    }

    /// Process id, as the caller sees it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// File that takes its standard error.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// File that takes its standard output.
    pub fn out_path(&self) -> &Path {
        &self.out
    }

    /// Whether it has ended. Cheaper than [`Proc::try_wait`]: nothing is sampled while it runs, for
    /// callers that look at hundreds of processes many times a second.
    pub fn has_ended(&self) -> bool {
        let Ok(pid) = i32::try_from(self.child.id()) else { return false };
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        // an error means that it has been waited for
        self.status.is_some()
            || !matches!(waitid(Id::Pid(Pid::from_raw(pid)), look), Ok(WaitStatus::StillAlive))
    }

    /// Its exit status, or `None` while it runs. Samples [`Proc::usage`] as well.
    ///
    /// # Errors
    /// [`LabError::Wait`] when the system will not say.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, LabError> {
        if self.status.is_none() {
            self.sample();
            let waited = self.child.try_wait();
            self.status = waited.map_err(|source| self.wait_error(source))?;
        }
        Ok(self.status)
    }

    /// Waits for it, at most `limit`; `None` when it still runs then.
    ///
    /// # Errors
    /// [`LabError::Wait`] when the system will not say.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>, LabError> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
    }

    /// Asks it to end (SIGTERM), waits up to `grace`, then kills it.
    ///
    /// # Errors
    /// [`LabError::Wait`] when the system will not say how it ended.
    pub fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, LabError> {
        if self.try_wait()?.is_none() {
            self.signal(Signal::SIGTERM);
        }
        match self.wait(grace)? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// Kills it (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// [`LabError::Wait`] when the system will not say how it ended.
    pub fn kill(&mut self) -> Result<ExitStatus, LabError> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        self.sample();
        self.signal(Signal::SIGKILL);
        let waited = self.child.wait();
        let status = waited.map_err(|source| self.wait_error(source))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Sends a signal, for example to stop a process for a while. A process that has ended is left
    /// alone.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none()
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            // not yet waited for, so the id is still its own; the only failure is "gone"
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// What it has used up to now, together with what it has started and still runs (the workers of a
    /// server); after its end, what the last look saw.
    pub fn usage(&mut self) -> Usage {
        if self.status.is_none()
            && let Some(now) = Usage::read_family(self.child.id())
        {
            self.usage = self.usage.max(now);
        }
        self.usage
    }

    fn sample(&mut self) {
        if self.status.is_none()
            && let Some(now) = Usage::read(self.child.id())
        {
            self.usage = self.usage.max(now);
        }
    }

    fn wait_error(&self, source: io::Error) -> LabError {
        LabError::Wait { program: self.program.clone(), source }
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        // The lab's end kills whatever this cannot.
        let _ = self.kill();
    }
}

/// Opens a log file and hands it to a child.
pub(crate) fn log_file(path: &Path) -> Result<Stdio, LabError> {
    File::create(path).map(Stdio::from).map_err(LabError::file("create", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_in_a_shell() {
        let command = Cmd::new("/bin/echo").args(["a b", "it's", "--x=1", ""]);
        assert_eq!(command.to_string(), r"/bin/echo 'a b' 'it'\''s' --x=1 ''");
    }
}
