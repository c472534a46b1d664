//! The list of mounts as the kernel writes it (/proc/PID/mountinfo, proc_pid_mountinfo(5)).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether the text of a mountinfo file lists a mount on exactly `target`.
pub fn is_listed(mountinfo: &[u8], target: &Path) -> bool {
    let target = target.as_os_str().as_bytes();
    mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .any(|field| unescape(field) == target)
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_exact_mount_points_only() {
        let text = b"22 1 0:20 / /proc rw - proc proc rw\n\
            36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n\
            broken line\n\n37 35 0:5 / /odd\\134x rw - tmpfs t rw";
        for (path, listed) in [
            ("/proc", true),
            ("/mnt/a b", true),
            ("/odd\\x", true),
            ("/mnt", false),
            ("/pro", false),
            ("", false),
        ] {
            assert_eq!(is_listed(text, Path::new(path)), listed, "{path}");
        }
    }
}
