//! How much of the machine a run used.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

/// Ticks of `/proc/stat` are hundredths of a second (proc(5), `_SC_CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of the whole machine since its start, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    user: u64,
    system: u64,
    idle: u64,
    all: u64,
}

/// What the machine did between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct MachineUse {
    /// Share of its processor time that nobody used.
    pub(crate) idle: f64,
    /// Seconds in programs' own code, of everything that ran.
    pub(crate) user_seconds: f64,
    /// Seconds in the kernel, interrupts included.
    pub(crate) system_seconds: f64,
}

/// With less than this share of the machine idle, its processors were the limit, and not the links.
pub(crate) const CPU_BOUND_BELOW: f64 = 0.15;

impl Ticks {
    /// Reads `/proc/stat`.
    pub(crate) fn now() -> anyhow::Result<Ticks> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Ticks::parse(&stat).context("/proc/stat has no line of processor times")
    }

    fn parse(stat: &str) -> Option<Ticks> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let fields: Vec<u64> =
            line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        // user nice system idle iowait irq softirq steal; guest time is in user already
        let &[user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields.as_slice() else {
            return None;
        };
        let (user, system, idle) = (user + nice, system + irq + softirq, idle + iowait);
        Some(Ticks { user, system, idle, all: user + system + idle + steal })
    }

    /// What was done since `earlier`.
    pub(crate) fn since(self, earlier: Ticks) -> MachineUse {
        let part = |now: u64, then: u64| now.saturating_sub(then) as f64;
        MachineUse {
            idle: part(self.idle, earlier.idle) / part(self.all, earlier.all).max(1.0),
            user_seconds: part(self.user, earlier.user) / TICKS_PER_SECOND,
            system_seconds: part(self.system, earlier.system) / TICKS_PER_SECOND,
        }
    }
}

impl MachineUse {
    /// Whether the processors were the limit.
    pub(crate) fn is_cpu_bound(self) -> bool {
        self.idle < CPU_BOUND_BELOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_times_is_taken_apart() {
        let before = Ticks::parse("cpu  100 5 50 1000 10 1 2 3 0 0\ncpu0 1 1\n").unwrap();
        assert_eq!(before, Ticks { user: 105, system: 53, idle: 1010, all: 1171 });
        let after = Ticks::parse("cpu  200 5 100 1040 10 1 2 13 0 0").unwrap();
        let used = after.since(before);
        assert_eq!((used.user_seconds, used.system_seconds, used.idle), (1.0, 0.5, 0.2));
        assert!(!used.is_cpu_bound());
        assert!(MachineUse { idle: 0.149, ..used }.is_cpu_bound());
    }

    #[test]
    fn something_else_is_refused() {
        for bad in ["", "cpu  1 2 3", "cpu  a b c d e f g h", "cpu0 1 2 3 4 5 6 7 8"] {
            assert_eq!(Ticks::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_machine_can_be_read() {
        let now = Ticks::now().unwrap();
        assert!(now.all > 0);
    }
}
