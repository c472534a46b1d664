//! How much a program has read, as the kernel counts it (proc(5)).

use std::fs;

/// Bytes that the process got by read(2) and the like since it began, from whatever it read; `None` when
/// it has ended or is another user's.
pub(crate) fn read_by(pid: u32) -> Option<u64> {
    parse(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?)
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("rchar:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_counted() {
        let before = read_by(std::process::id()).unwrap();
        let bytes = fs::read("/proc/self/exe").unwrap().len() as u64;
        assert!(read_by(std::process::id()).unwrap() >= before + bytes);
        assert_eq!(parse("rchar: 12\nwchar: 5\n"), Some(12));
        assert_eq!(parse("wchar: 5\n"), None);
    }
}
