//! The holder: the process whose life is the lab's life.
//!
//! `setpriv` makes the kernel end `unshare` when the thread that started it ends; `unshare` does the
//! same to its child. The child is PID 1 of a PID namespace, so its end ends every process in it,
//! and with the last process go the private mounts and the network namespaces they name.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::error::LabError;
use crate::tool;

/// Longest time that the holder's namespaces may take to appear.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Longest time that killed processes may take to die (one may sit in a long write).
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Makes the lab's own `/run` (so that the host's names and sockets stay out of it), loopback, and
/// the file that says so. `$1` is a folder of the host for scratch files, or empty for a tmpfs.
const SCRIPT: &str = r#"
set -e
scratch=$1
if [ -n "$scratch" ]; then
    exec 9<"$scratch"
fi
mount -t tmpfs -o mode=0755,size=64m beeswarm-lab /run
mkdir -p /run/netns /run/scratch
if [ -n "$scratch" ]; then
    mount --bind /proc/self/fd/9 /run/scratch
    exec 9<&-
else
    # huge pages, as the client asks for: without them half of writing an image is the pages
    mount -t tmpfs -o "mode=0755,size=$2,huge=within_size" beeswarm-lab /run/scratch 2>/dev/null ||
        mount -t tmpfs -o "mode=0755,size=$2" beeswarm-lab /run/scratch
fi
ip link set lo up
: >/run/lab-ready
exec sleep infinity
"#;

/// Where scratch files live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScratchSource<'a> {
    /// A tmpfs of this many bytes.
    Memory(u64),
    /// A folder of the host.
    Folder(&'a Path),
}

/// A running holder. Dropping it ends the lab.
#[derive(Debug)]
pub(crate) struct Holder {
    child: Child,
    init: Pid,
}

impl Holder {
    /// Starts a holder. It dies with the calling thread, so call this on one that lasts.
    pub(crate) fn start(scratch: &ScratchSource<'_>) -> Result<Holder, LabError> {
        if !geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        tool::IP.find()?;
        tool::TC.find()?;
        let (folder, size) = match scratch {
            ScratchSource::Memory(bytes) => (String::new(), bytes.to_string()),
            ScratchSource::Folder(path) => (path.display().to_string(), String::new()),
        };
        let mut command = Command::new(tool::SETPRIV.find()?);
        command.args(["--pdeathsig", "KILL"]).arg(tool::UNSHARE.find()?);
        command.args(["--mount", "--pid", "--net", "--fork", "--kill-child=KILL", "--mount-proc"]);
        command.args(["--propagation", "private", "--", "sh", "-c", SCRIPT, "sh", &folder, &size]);
        // Ctrl-C in a terminal must reach the caller, who ends the lab in good order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| LabError::Spawn { program: "setpriv".to_owned(), source })?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(init) = only_child(child.id())
                && Path::new(&format!("/proc/{init}/root/run/lab-ready")).exists()
            {
                return Ok(Holder { child, init });
            }
            let ended = child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > deadline {
                return Err(LabError::Holder { output: last_words(&mut child) });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The lab's PID 1, as this process sees it.
    pub(crate) fn init(&self) -> Pid {
        self.init
    }

    /// Ends every process of the lab and returns when they are dead.
    ///
    /// Their parents may still have to wait for them, so this cannot simply wait for `unshare`: PID 1
    /// of a PID namespace only disappears when the last of its processes has been waited for.
    pub(crate) fn stop(&mut self) {
        let namespace = pid_namespace(self.init);
        // Failures mean that it has ended already.
        let _ = kill(self.init, Signal::SIGKILL);
        let deadline = Instant::now() + STOP_LIMIT;
        while others_live(self.init, namespace.as_deref()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The one child of a process whose threads do not fork, when it has one.
fn only_child(parent: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let child = children.split_whitespace().next()?.parse().ok()?;
    Some(Pid::from_raw(child))
}

/// The identity of a process's PID namespace.
fn pid_namespace(pid: Pid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// Whether any process of that PID namespace other than its PID 1 is alive. One that only waits to
/// be waited for is not; PID 1, once killed, lingers until there is none of those left either.
fn others_live(init: Pid, namespace: Option<&Path>) -> bool {
    let (Some(namespace), Ok(processes)) = (namespace, fs::read_dir("/proc")) else {
        return false;
    };
    let init = init.to_string();
    processes.flatten().filter(|process| *process.file_name() != *init).any(|process| {
        let path = process.path();
        fs::read_link(path.join("ns/pid")).is_ok_and(|link| link == namespace)
            && fs::read_to_string(path.join("stat")).is_ok_and(|stat| {
                let state =
                    stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes().first().copied());
                !matches!(state.flatten(), None | Some(b'Z' | b'X'))
            })
    })
}

/// Ends a holder that did not come up and returns what it said.
fn last_words(child: &mut Child) -> String {
    if let Some(init) = only_child(child.id()) {
        let _ = kill(init, Signal::SIGKILL);
    }
    let _ = child.kill();
    let mut output = String::new();
    if let Some(stderr) = child.stderr.as_mut() {
        let _ = stderr.take(4096).read_to_string(&mut output);
    }
    let _ = child.wait();
    if output.trim().is_empty() { "it ended without a word".to_owned() } else { output }
}
