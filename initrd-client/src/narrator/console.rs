//! The last lines of the console, for who does not stand before it: the tracker is told them when the boot
//! has failed, and when nothing has moved for a while.
//!
//! What this program said is kept as it is said. What the kernel and others warned of is read from the kernel's
//! log when it is asked for.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::event::console::{Console, MAX_LINES, clean};

use crate::retry::same_words;

/// Nothing has moved for so long: the console is worth a look. Told again after four times as long, so that
/// what a tracker that is not reached does not take yet stays little.
const STUCK: Duration = Duration::from_secs(20);

/// How far back a line is looked for that says the same with other numbers.
const NEAR: usize = 3;

/// Records of the kernel's log that are looked at: more than it holds.
const MAX_RECORDS: usize = 1 << 16;

/// Longest record that the kernel gives (`PRINTK_MESSAGE_MAX` and what it says beside, 6 to 8 KB).
const MAX_RECORD: usize = 8192;

/// Least importance of what is taken from the kernel's log: warnings (syslog(2)).
const WARNING: u64 = 4;

/// Begins all lines of this program.
const OWN: &str = "beeswarm: ";

/// A line and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// Milliseconds since the kernel started.
    at: u64,
    text: String,
}

impl Line {
    /// As the kernel shows it.
    fn show(&self) -> String {
        clean(&format!("[{:5}.{:03}] {}", self.at / 1000, self.at % 1000, self.text))
    }
}

/// Keeps the last lines.
#[derive(Debug)]
pub(super) struct Tail {
    lines: VecDeque<Line>,
    /// Where the kernel's log is read from, if it is.
    pub(super) kernel: Option<PathBuf>,
    started: Instant,
    /// Since the kernel started until then, in milliseconds.
    uptime: u64,
    /// Since when nothing moves, and after what time that is told.
    stuck: Option<(Instant, Duration)>,
}

impl Tail {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let (lines, started, uptime) = (VecDeque::new(), Instant::now(), milliseconds(&uptime));
        Self { lines, kernel: None, started, uptime, stuck: None }
    }

    /// Keeps a line; of those that differ in numbers only the newest, or progress would be all that is left.
    pub(super) fn push(&mut self, text: &str) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let line = Line { at: self.uptime.saturating_add(since), text: format!("{OWN}{text}") };
        let near = self.lines.len().saturating_sub(NEAR);
        let known =
            |at: &usize| self.lines.get(*at).is_some_and(|l| same_words(&l.text, &line.text));
        let old = (near..self.lines.len()).find(known);
        // else the oldest
        if let Some(old) = old.or((self.lines.len() >= MAX_LINES).then_some(0)) {
            self.lines.remove(old);
        }
        self.lines.push_back(line);
    }

    /// Whether nothing has moved for so long that it is to be told now. To be asked as long as nothing moves.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let (since, patience) = self.stuck.get_or_insert((now, STUCK));
        let due = now.duration_since(*since) >= *patience;
        if due {
            *patience *= 4;
        }
        due
    }

    /// Something moves.
    pub(super) fn moves(&mut self) {
        self.stuck = None;
    }

    /// The last lines of both, in the order of their times.
    pub(super) fn console(&self) -> Console {
        let kernel = self.kernel.as_deref().map(kernel_lines).unwrap_or_default();
        let mut kernel = kernel.iter().peekable();
        let mut lines = Vec::new();
        for own in &self.lines {
            while let Some(line) = kernel.next_if(|line| line.at <= own.at) {
                lines.push(line.show());
            }
            lines.push(own.show());
        }
        lines.extend(kernel.map(Line::show));
        lines.drain(..lines.len().saturating_sub(MAX_LINES));
        Console { lines }
    }
}

/// The last warnings of the kernel's log, by whomever. Each read gives one record.
fn kernel_lines(log: &Path) -> VecDeque<Line> {
    let mut lines = VecDeque::new();
    // not blocking: its end is an error then, and no wait
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(log);
    let Ok(mut log) = opened else { return lines };
    let mut record = [0; MAX_RECORD];
    for _ in 0..MAX_RECORDS {
        match log.read(&mut record) {
            // a record was overwritten meanwhile; the next read gives the one after it
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Ok(count) if count > 0 => {
                if let Some(line) = record.get(..count).and_then(warning) {
                    if lines.len() == MAX_LINES {
                        lines.pop_front();
                    }
                    lines.push_back(line);
                }
            }
            _ => break,
        }
    }
    lines
}

/// A record of `/dev/kmsg` (`PRIORITY,NUMBER,MICROSECONDS,…;TEXT`) that is a warning or worse, and not ours.
fn warning(record: &[u8]) -> Option<Line> {
    let (head, text) = std::str::from_utf8(record).ok()?.split_once(';')?;
    let text = text.split('\n').next().filter(|text| !text.starts_with(OWN))?;
    let mut fields = head.split(',');
    let priority: u64 = fields.next()?.parse().ok()?;
    let at: u64 = fields.nth(1)?.parse().ok()?;
    (priority % 8 <= WARNING).then(|| Line { at: at / 1000, text: text.to_owned() })
}

/// Of `/proc/uptime`; 0 when it does not say.
fn milliseconds(uptime: &str) -> u64 {
    let (seconds, hundredths) = uptime.split_once('.').unwrap_or_default();
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0u64);
    number(Some(seconds)) * 1000 + number(hundredths.get(..2)) * 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_repeated_ones_once() {
        let mut tail = Tail::new();
        (0..40).for_each(|n| tail.push(&format!("step {}", "x".repeat(n))));
        for n in 0..100 {
            tail.push(&format!("{n} % of 100 MiB"));
            tail.push(&format!("waiting: none sends for {n} s"));
        }
        tail.push("\u{1b}[31mred\nline");
        let lines = tail.console().lines;
        assert_eq!(lines.len(), MAX_LINES);
        let last: Vec<_> =
            lines[27..].iter().map(|line| line.split_once("] beeswarm: ").unwrap().1).collect();
        assert_eq!(last, ["99 % of 100 MiB", "waiting: none sends for 99 s", " [31mred line"]);
        assert!(lines[26].ends_with(&"x".repeat(39)), "{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with('[')), "{lines:?}");
    }

    #[test]
    fn warnings_of_the_kernel_stand_between_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("kmsg");
        // of a plain file one read gives all: this one has one record
        std::fs::write(&log, "4,17,2500,-;virtio_net: link is not ready\n SUBSYSTEM=virtio\n")
            .unwrap();
        let mut tail = Tail::new();
        (tail.kernel, tail.uptime) = (Some(log), 0);
        tail.push("looking");
        tail.uptime = 90_000;
        tail.push("waiting");
        tail.lines[0].at = 1;
        let texts: Vec<_> = tail.console().lines;
        assert_eq!(texts.len(), 3);
        assert_eq!(texts[0], "[    0.001] beeswarm: looking");
        assert_eq!(texts[1], "[    0.002] virtio_net: link is not ready");
        assert!(texts[2].ends_with("] beeswarm: waiting") && texts[2].starts_with("[   90."));
    }

    #[test]
    fn records_of_the_kernel_log() {
        for (record, expected) in [
            ("3,5,2000,-;I/O error\n", Some((2, "I/O error"))),
            // of systemd: facility 3
            ("28,5,2000000,-,caller=T1;Failed to start x\n", Some((2000, "Failed to start x"))),
            ("4,5,2000,-;beeswarm: waiting\n", None),
            ("6,5,2000,-;eth0: link is up\n", None),
            ("4,5;x", None),
            ("", None),
            (";", None),
        ] {
            let line = warning(record.as_bytes());
            let line = line.as_ref().map(|line| (line.at, line.text.as_str()));
            assert_eq!(line, expected, "{record:?}");
        }
        assert_eq!(warning(b"4,5,2000,-;\xff"), None);
        let uptimes = ["12.34 5.6\n", "x", "", "7.", "1.2"].map(milliseconds);
        assert_eq!(uptimes, [12_340, 0, 0, 7000, 1000]);
    }

    #[test]
    fn the_log_of_this_kernel_can_be_read_to_its_end() {
        let mark = format!("console test {}", std::process::id());
        std::fs::write("/dev/kmsg", format!("<4>{mark}\n")).expect("/dev/kmsg needs root");
        let lines = kernel_lines(Path::new("/dev/kmsg"));
        assert!(lines.iter().any(|line| line.text == mark), "{lines:?}");
        assert!(lines.len() <= MAX_LINES);
    }

    #[test]
    fn who_is_stuck_is_told_now_and_then() {
        let mut tail = Tail::new();
        let start = Instant::now();
        let due = |tail: &mut Tail, from: u64, until: u64| -> Vec<u64> {
            let at = |second: &u64| tail.is_due(start + Duration::from_secs(*second));
            (from..until).filter(at).collect()
        };
        assert_eq!(due(&mut tail, 0, 400), [20, 80, 320]);
        tail.moves();
        assert_eq!(due(&mut tail, 400, 430), [420]);
    }
}
