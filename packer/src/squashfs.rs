//! The image: squashfs, made by mksquashfs.

use std::fs::{self, OpenOptions};
use std::path::Path;

use crate::error::PackError;
use crate::event::{Event, Observer, Stage};
use crate::tool::{MKSQUASHFS, Place};

/// A loop device drops a tail that is not a whole sector; squashfs and pages like 4 KiB.
pub(crate) const ALIGNMENT: u64 = 4096;

/// Directories that are mounted over on a running system: they stay, empty.
pub(crate) const EMPTIED: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

/// How the image is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Good and fast to read: the default.
    #[default]
    Zstd,
    /// Smallest, slow to read.
    Xz,
    /// Largest, fastest to read.
    Lz4,
}

impl Compression {
    /// As mksquashfs and the manifest call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
        }
    }

    /// The kernel configuration option that a node needs to mount the image.
    pub(crate) fn kernel_option(self) -> &'static str {
        match self {
            Self::Zstd => "CONFIG_SQUASHFS_ZSTD",
            Self::Xz => "CONFIG_SQUASHFS_XZ",
            Self::Lz4 => "CONFIG_SQUASHFS_LZ4",
        }
    }
}

/// Makes `image` of the tree at `root`; the same tree gives the same bytes.
///
/// Kept: owners, modes, times, hard links, device nodes, extended attributes (file capabilities
/// and SELinux labels are such). Not kept, because squashfs cannot: POSIX ACLs; a warning says so.
///
/// # Errors
/// [`PackError::ToolFailed`], [`PackError::ToolMissing`], [`PackError::DiskFull`].
pub(crate) fn make(
    root: &Path,
    image: &Path,
    compression: Compression,
    place: &Place<'_>,
    observe: Observer<'_>,
) -> Result<(), PackError> {
    let mut command = MKSQUASHFS.command();
    command.arg(root).arg(image);
    command.args(["-comp", compression.name(), "-noappend", "-progress", "-no-recovery"]);
    // a file that cannot be read would otherwise be left out with a message
    command.arg("-exit-on-error");
    // by default it takes a quarter of the host's memory
    command.args(["-mem", "1G"]);
    // the time of packing, and the root directory's own time, are no part of the content
    command.args(["-mkfs-time", "0"]);
    if knows("-root-time")? {
        command.args(["-root-time", "0"]);
    }
    command.args(["-wildcards", "-e"]);
    // as in a shell, `*` does not stand for hidden files
    command
        .args(EMPTIED.map(|dir| format!("{dir}/*")))
        .args(EMPTIED.map(|dir| format!("{dir}/.*")));
    let mut percent = 0;
    let output = MKSQUASHFS.run(command, |bytes| {
        if let Some(now) = last_percent(bytes).filter(|now| *now > percent) {
            percent = now;
            observe(Event::Progress { stage: Stage::Image, percent });
        }
    })?;
    if !output.status.success() {
        let remedy = "Everything in the source must be readable, and stay as it is while packing";
        return Err(MKSQUASHFS.failed(&output, place, remedy));
    }
    if output.text.contains("Unrecognised xattr prefix system.posix_acl") {
        let text = "the source has POSIX ACLs; squashfs cannot hold them, they were left out \
                    (set them at boot with tmpfiles.d)";
        observe(Event::Warning { text: text.to_owned() });
    }
    pad(image, place)
}

/// Whether this host's mksquashfs has an option (4.4, of RHEL 9, has fewer).
fn knows(option: &str) -> Result<bool, PackError> {
    let mut command = MKSQUASHFS.command();
    command.arg("-help");
    Ok(MKSQUASHFS.run(command, |_| {})?.text.contains(option))
}

/// The last "NN%" in a piece of mksquashfs's progress bar.
fn last_percent(bytes: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(bytes).ok()?;
    let before = &text[..text.rfind('%')?];
    before.rsplit(' ').next()?.parse().ok().filter(|p| *p <= 100)
}

/// mksquashfs pads to 4 KiB; should a version not do it, this does.
fn pad(image: &Path, place: &Place<'_>) -> Result<(), PackError> {
    let error = |e| place.write_error(image.to_owned(), e);
    let length = fs::metadata(image).map_err(error)?.len();
    let padded = length.next_multiple_of(ALIGNMENT);
    if padded == length {
        return Ok(());
    }
    OpenOptions::new().write(true).open(image).and_then(|f| f.set_len(padded)).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_the_bar() {
        let bar = b"\r[=/                 ]   200/11091   1%\r[==\\        ]  300/11091  27%";
        assert_eq!(last_percent(bar), Some(27));
        assert_eq!(last_percent(b"\r[====] 11091/11091 100%\n"), Some(100));
        for other in [&b"Creating 4.0 filesystem"[..], b"%", b"x%", b"999%", b"\xff 5%"] {
            assert_eq!(last_percent(other), None);
        }
    }

    #[test]
    fn options_are_looked_up() {
        assert!(knows("-noappend").expect("squashfs-tools must be installed for this test"));
        assert!(!knows("-no-such-option").unwrap());
    }

    #[test]
    fn an_image_of_odd_length_is_padded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let place = Place { store: dir.path(), step: "padding" };
        for (before, after) in [(1, 4096), (4096, 4096), (5000, 8192)] {
            fs::write(&path, vec![7; before]).unwrap();
            pad(&path, &place).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), after);
        }
    }
}
