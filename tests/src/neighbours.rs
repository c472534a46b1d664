//! Room for a large lab in the kernel's neighbour table.
//!
//! The table is one for all network namespaces (arp(7), `gc_thresh*`), and with the default limits a
//! lab of some dozen nodes that all talk to each other overflows it: connections then fail with
//! "No buffer space available". The limits are the host's, so they are put back, by a small process
//! that outlives even a killed caller.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::LabError;

const FOLDER: &str = "/proc/sys/net/ipv4/neigh/default";

/// Restores what is given as `FILE VALUE` pairs once its standard input ends.
const RESTORE: &str = r#"
trap '' HUP INT TERM
while read -r _; do :; done
while [ $# -gt 1 ]; do
    echo "$2" >"$1"
    shift 2
done
"#;

/// Raised limits, put back on drop or when this process ends in any way.
#[derive(Debug)]
pub(crate) struct RaisedLimits {
    guard: Child,
    stdin: Option<ChildStdin>,
}

impl RaisedLimits {
    /// Makes room for `nodes` nodes that all talk to each other. `None` when there is room already.
    pub(crate) fn for_nodes(nodes: u32) -> Result<Option<RaisedLimits>, LabError> {
        // both ends of each pair, and the switch; the kernel starts to collect at thresh2
        let wanted = u64::from(nodes) * u64::from(nodes) * 2 + 1024;
        let mut restore = Vec::new();
        let mut raise = Vec::new();
        // thresh3 first: it must never be below the others
        for (name, value) in
            [("gc_thresh3", wanted * 2), ("gc_thresh2", wanted), ("gc_thresh1", wanted / 2)]
        {
            let path = Path::new(FOLDER).join(name);
            let text = fs::read_to_string(&path).map_err(LabError::file("read", &path))?;
            let now = text.trim().to_owned();
            if now.parse::<u64>().is_ok_and(|now| now < value) {
                restore.insert(0, (path.clone(), now));
                raise.push((path, value));
            }
        }
        if raise.is_empty() {
            return Ok(None);
        }
        let mut command = Command::new("sh");
        command.args(["-c", RESTORE, "sh"]);
        command.args(
            restore.iter().flat_map(|(path, value)| [path.display().to_string(), value.clone()]),
        );
        // a group of its own: a signal to the caller's group must not end it before it has restored
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut guard = command
            .spawn()
            .map_err(|source| LabError::Spawn { program: "sh".to_owned(), source })?;
        let stdin = guard.stdin.take();
        let limits = RaisedLimits { guard, stdin };
        for (path, value) in raise {
            fs::write(&path, value.to_string()).map_err(LabError::file("write", &path))?;
        }
        Ok(Some(limits))
    }
}

impl Drop for RaisedLimits {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends by itself once its input has ended.
        let _ = self.guard.wait();
    }
}
