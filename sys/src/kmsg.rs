//! Lines for the one who stands before the machine: the kernel log and the console.
//!
//! Both are best effort: a node boots also when nobody can be told.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Longest text taken from a line, in bytes: the kernel cuts a record at about 1,000.
const MAX_TEXT: usize = 900;

/// Importance of a line in the kernel log (syslog(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error = 3,
    /// Something is not as it should be; the boot goes on.
    Warning = 4,
    /// A step of the boot.
    Notice = 5,
    /// Progress.
    Info = 6,
}

/// A place that takes lines: `/dev/kmsg` or a terminal.
#[derive(Debug)]
pub struct LineWriter {
    file: Option<File>,
    kernel_log: bool,
}

impl LineWriter {
    /// The kernel log, shown on the console too according to its log level.
    pub fn kmsg() -> Self {
        Self { file: open(Path::new("/dev/kmsg")), kernel_log: true }
    }

    /// The system console itself.
    pub fn console() -> Self {
        Self { file: open(Path::new("/dev/console")), kernel_log: false }
    }

    /// Whether lines go anywhere.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Writes one line in one write: lines of several writers never mix, and the kernel log makes
    /// one record of each write. Control characters become spaces. Returns whether it was taken:
    /// the kernel drops lines from those who write too many (`printk.devkmsg` ratelimit).
    pub fn line(&self, level: Level, text: &str) -> bool {
        let Some(mut file) = self.file.as_ref() else { return false };
        let line = format_line(self.kernel_log.then_some(level), text);
        file.write(line.as_bytes()).is_ok_and(|written| written == line.len())
    }
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new()
        .write(true)
        // O_NOCTTY: the console must not become our controlling terminal. O_NONBLOCK: a serial
        // console with flow control must not hold up the boot.
        .custom_flags(libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)
        .inspect_err(|e| tracing::debug!(path = %path.display(), err = %e, "cannot open"))
        .ok()
}

fn format_line(level: Option<Level>, text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let clean: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match level {
        // A terminal needs the carriage return as well: it may be in raw mode.
        None => format!("beeswarm: {clean}\r\n"),
        Some(level) => format!("<{}>beeswarm: {clean}\n", level as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_whatever_the_text() {
        assert_eq!(format_line(Some(Level::Info), "a\nb\u{7}c"), "<6>beeswarm: a b c\n");
        assert_eq!(format_line(None, "fetch 10 %"), "beeswarm: fetch 10 %\r\n");
        let long = format_line(Some(Level::Error), &"é".repeat(2000));
        assert!(long.len() <= MAX_TEXT + 20 && long.ends_with("é\n"));
    }

    #[test]
    fn kernel_log_takes_a_line_and_shows_it() {
        let log = LineWriter::kmsg();
        assert!(log.is_open(), "/dev/kmsg needs root");
        let mark = format!("sys test {}", std::process::id());
        assert!(log.line(Level::Info, &mark));
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .expect("/dev/kmsg needs root");
        let mut buf = [0; 8192];
        let found = std::iter::from_fn(|| {
            std::io::Read::read(&mut reader, &mut buf)
                .ok()
                .map(|n| String::from_utf8_lossy(&buf[..n]).contains(&mark))
        })
        .any(|found| found);
        assert!(found);
    }
}
