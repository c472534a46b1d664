//! What a process has used: memory and processor time.

use std::fs;
use std::time::Duration;

/// Clock ticks per second in `/proc/PID/stat`: 100 on every Linux that Rust supports (proc(5),
/// `sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: u64 = 100;

/// Resources that a process has used up to now; processor time with its children's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Largest resident set so far, in bytes (`VmHWM`).
    pub peak_memory: u64,
    /// Largest anonymous resident set seen at a sample, in bytes (`RssAnon`): what the process
    /// itself holds, without mapped files.
    pub anonymous: u64,
    /// Processor time in the program's own code.
    pub user: Duration,
    /// Processor time in the kernel, on its behalf.
    pub system: Duration,
    /// Time in which its main thread was ready to run and waited for a processor; nothing on kernels
    /// that do not count it (`CONFIG_SCHED_INFO`).
    pub waited: Duration,
}

impl Usage {
    /// Reads the figures of a living process, or `None` when it has ended.
    pub(crate) fn read(pid: u32) -> Option<Usage> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (user, system) = cpu_time(&stat)?;
        Some(Usage {
            peak_memory: status_bytes(&status, "VmHWM:").unwrap_or(0),
            anonymous: status_bytes(&status, "RssAnon:").unwrap_or(0),
            user,
            system,
            waited: run_queue(pid).unwrap_or_default(),
        })
    }

    /// Reads the figures of a living process and of all that it has started and that live: memory and
    /// time are the sums. `None` when it has ended.
    pub(crate) fn read_family(pid: u32) -> Option<Usage> {
        let own = Usage::read(pid)?;
        Some(children(pid).into_iter().filter_map(Usage::read_family).fold(own, Usage::plus))
    }

    fn plus(self, other: Usage) -> Usage {
        Usage {
            peak_memory: self.peak_memory + other.peak_memory,
            anonymous: self.anonymous + other.anonymous,
            user: self.user + other.user,
            system: self.system + other.system,
            waited: self.waited + other.waited,
        }
    }

    /// Processor time, user and system.
    #[must_use]
    pub fn cpu(self) -> Duration {
        self.user + self.system
    }

    /// The larger of each figure: samples of one process only grow.
    #[must_use]
    pub fn max(self, other: Usage) -> Usage {
        Usage {
            peak_memory: self.peak_memory.max(other.peak_memory),
            anonymous: self.anonymous.max(other.anonymous),
            user: self.user.max(other.user),
            system: self.system.max(other.system),
            waited: self.waited.max(other.waited),
        }
    }
}

/// Processes that were started by a process, from any of its threads.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// The second field of `/proc/PID/schedstat` (kernel documentation, sched-stats): nanoseconds.
fn run_queue(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

fn status_bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// User and system time of a process and of those children that it has waited for (proc(5),
/// fields 14 to 17).
fn cpu_time(stat: &str) -> Option<(Duration, Duration)> {
    // the name in brackets may hold spaces and brackets: fields count from after the last one
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let time = |first: usize, second: usize| {
        let ticks =
            fields.get(first)?.parse::<u64>().ok()? + fields.get(second)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    };
    Some((time(11, 13)?, time(12, 14)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_an_awkward_name() {
        let stat = "12 (a) b c) S 1 12 12 0 -1 4194304 1 2 3 4 150 50 7 8 20 0 1 0 99 1 1";
        let time = (Duration::from_millis(1_570), Duration::from_millis(580));
        assert_eq!(cpu_time(stat), Some(time), "its own and its children's");
        assert_eq!(cpu_time("nothing"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nRssAnon:\t 12 kB\n";
        assert_eq!(status_bytes(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(status_bytes(status, "VmSwap:"), None);
    }

    #[test]
    fn a_family_uses_what_its_members_use() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let is_there = children(std::process::id()).contains(&child.id());
        let one = Usage::read(child.id()).unwrap();
        let sum = Usage::read_family(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_there);
        assert!(sum.peak_memory >= one.peak_memory && sum.anonymous >= one.anonymous);
        assert_eq!(one.plus(one).peak_memory, 2 * one.peak_memory);
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::read(std::process::id()).unwrap();
        assert!(usage.peak_memory > 0 && usage.anonymous > 0);
        assert!(run_queue(std::process::id()).is_some());
    }
}
