//! The walk through a tree.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::paths::Places;
use super::{Finding, Kind, content};
use crate::error::PackError;
use crate::image::EMPTIED;
use crate::pattern::{self, Patterns};

/// What is read of a file to see whether it is text.
const HEAD: usize = 4096;

/// The most that is read of a text. Keys lie in small files, or at the end of a chain of
/// certificates.
pub(super) const MOST: usize = 256 << 10;

/// What a tree holds.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Secrets that nobody allowed, by path.
    pub(crate) refused: Vec<Finding>,
    /// Secrets that may be there.
    pub(crate) allowed: Vec<Finding>,
    /// What is no secret, but must not be the same on all nodes.
    pub(crate) notices: Vec<String>,
    /// How many files were looked into.
    pub(crate) files: u64,
}

/// Looks through the tree at `root`, without following links. `prefix` comes before each path:
/// nothing for the image, `initrd:` for the initrd. What `skip` means is left out.
///
/// # Errors
/// [`PackError::Read`].
pub(crate) fn scan(
    root: &Path,
    prefix: &str,
    allow: &mut Patterns,
    skip: &mut Patterns,
) -> Result<Report, PackError> {
    let places = Places::new()
        .map_err(|e| PackError::Read { path: root.to_owned(), source: io::Error::other(e) })?;
    let mut report = Report::default();
    let mut buffer = vec![0; MOST];
    let mut left = vec![PathBuf::new()];
    while let Some(dir) = left.pop() {
        let absolute = root.join(&dir);
        let error = |source| PackError::Read { path: absolute.clone(), source };
        let entries = match fs::read_dir(&absolute) {
            Ok(entries) => entries,
            // whoever cannot read it cannot pack it: mksquashfs says so, for the same user
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => continue,
            Err(e) => return Err(error(e)),
        };
        for entry in entries {
            let entry = entry.map_err(error)?;
            let path = dir.join(entry.file_name());
            let kind = entry.file_type().map_err(error)?;
            if skip.matches(path.as_os_str().as_bytes(), kind.is_dir()) {
                continue;
            }
            if kind.is_dir() {
                if !(prefix.is_empty() && EMPTIED.iter().any(|d| path == Path::new(d))) {
                    left.push(path);
                }
            } else if kind.is_file() {
                look(&absolute, &path, &places, &mut buffer, &mut report)?
                    .map(|kind| finding(&path, prefix, kind))
                    .into_iter()
                    .for_each(|(finding, key)| {
                        let allowed = allow.matches(&key, false);
                        let list = if allowed { &mut report.allowed } else { &mut report.refused };
                        list.push(finding);
                    });
            }
        }
    }
    report.refused.sort();
    report.allowed.sort();
    report.notices.sort();
    Ok(report)
}

/// Opens a file and says what secret it is, if any.
fn look(
    dir: &Path,
    path: &Path,
    places: &Places,
    buffer: &mut [u8],
    report: &mut Report,
) -> Result<Option<Kind>, PackError> {
    let Some(name) = path.file_name() else { return Ok(None) };
    let absolute = dir.join(name);
    let rules = places.rules(path.as_os_str());
    let text = match read(&absolute, !rules.is_empty(), buffer) {
        Ok(count) => &buffer[..count],
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(source) => return Err(PackError::Read { path: absolute, source }),
    };
    report.files += 1;
    if let Some(words) = notice(path, text) {
        report.notices.push(words);
    }
    let placed = rules.iter().find(|(_, check)| check(text)).map(|(kind, _)| *kind);
    let head = &text[..text.len().min(HEAD)];
    Ok(placed.or_else(|| {
        // a short key need not have a zero in it
        content::in_binary(head).or_else(|| {
            let is_text = memchr::memchr(0, head).is_none();
            is_text.then(|| content::in_text(text)).flatten()
        })
    }))
}

/// Reads the begin of a file into `buffer`, and returns how much: all that counts of a text or where
/// `whole` is asked for, the head of anything else.
fn read(path: &Path, whole: bool, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    let (mut count, mut end) = (0, HEAD);
    loop {
        if count == end {
            let text = memchr::memchr(0, &buffer[..HEAD]).is_none();
            if end == buffer.len() || !(text || whole) {
                return Ok(count);
            }
            end = buffer.len();
        }
        match file.read(&mut buffer[count..end]) {
            Ok(0) => return Ok(count),
            Ok(more) => count += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// What all nodes would have in common, and must not.
fn notice(path: &Path, text: &[u8]) -> Option<String> {
    let advice = match path.to_str()? {
        "etc/machine-id" | "var/lib/dbus/machine-id" if text.trim_ascii().len() == 32 => {
            "every node would have this identity (DHCP, journal): empty the file"
        }
        "var/lib/systemd/random-seed" | "var/lib/urandom/random-seed" if !text.is_empty() => {
            "every node would start with these random numbers: remove the file"
        }
        _ => return None,
    };
    Some(format!("/{}: {advice}", path.display()))
}

/// The finding, and the path that `--allow-secret` is compared with.
fn finding(path: &Path, prefix: &str, kind: Kind) -> (Finding, Vec<u8>) {
    let relative = path.as_os_str().as_bytes();
    if prefix.is_empty() {
        let allow = format!("/{}", pattern::exactly(relative));
        (Finding { path: format!("/{}", path.display()), kind, allow }, relative.to_owned())
    } else {
        let key = [prefix.as_bytes(), b"/", relative].concat();
        let allow = pattern::exactly(&key);
        (Finding { path: format!("{prefix}/{}", path.display()), kind, allow }, key)
    }
}

#[cfg(test)]
mod tests;
