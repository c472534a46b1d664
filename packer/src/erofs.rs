//! The image as EROFS, made by mkfs.erofs.

use std::path::Path;

use crate::error::PackError;
use crate::format::{Compression, ImageFormat};
use crate::image::Named;
use crate::io_counts;
use crate::meter::Meter;
use crate::tool::{MKFS_EROFS, Output, Place};

/// A file-system id of its own for each image would make two images of one tree differ.
const UUID: &str = "00000000-0000-0000-0000-000000000000";

/// Stands for "when the image was made". mkfs.erofs takes it from the environment, and sets files
/// that are newer back to it, so it must lie after all of them; it is the last that 32 bits hold.
const EPOCH: &str = "4294967295";

/// What to make.
pub(crate) struct Job<'a> {
    pub(crate) root: &'a Path,
    pub(crate) image: &'a Named<'a>,
    /// Bytes of the image that are written.
    pub(crate) written: &'a dyn Fn() -> u64,
    pub(crate) format: ImageFormat,
    /// Directories whose contents are left out.
    pub(crate) emptied: &'a [&'a str],
    /// Files, directories and the rest in the tree.
    pub(crate) entries: u64,
}

/// Makes an image of a tree; the same tree, with the same time on its topmost directory, gives the same bytes.
///
/// Kept: owners, modes, times, hard links, device nodes, extended attributes, POSIX ACLs.
///
/// # Errors
/// [`PackError::ToolFailed`], [`PackError::ToolMissing`], [`PackError::DiskFull`].
pub(crate) fn make(
    job: &Job<'_>,
    place: &Place<'_>,
    meter: &mut Meter<'_>,
) -> Result<(), PackError> {
    let &Job { root, format, emptied, entries, .. } = job;
    let mut command = MKFS_EROFS.command();
    command.env("SOURCE_DATE_EPOCH", EPOCH);
    command.args(["-U", UUID]);
    command.arg(compressor(format)).arg(format!("-C{}", format.block_size()));
    command.arg(format!("--exclude-regex=^({})/.", emptied.join("|")));
    let image = (job.image)(&mut command)?;
    command.arg(image).arg(root);
    // it names each path before it takes it, but says nothing of how long it is nor of how many there are
    let mut seen = 0u64;
    let output = MKFS_EROFS.follow(command, |look| {
        seen += look.output.iter().filter(|byte| **byte == b'\r').count() as u64;
        let by_count = meter.share(seen, entries);
        meter.image(io_counts::read_by(look.pid).unwrap_or(by_count), (job.written)());
    })?;
    if output.status.success() {
        return Ok(());
    }
    let remedy = format!(
        "Everything in the source must be readable, and stay as it is while packing. erofs-utils 1.5 \
         cannot store a name of 255 bytes. Does this mkfs.erofs know {}? (zstd: erofs-utils 1.8; \
         --compression lz4 is known to all)",
        format.compression().name()
    );
    // what it writes over on a terminal would hide the reason
    let output = Output { text: without_progress(&output.text), ..output };
    Err(MKFS_EROFS.failed(&output, place, &remedy))
}

/// What was printed beside the paths, and the last path.
fn without_progress(text: &str) -> String {
    let lines: Vec<&str> =
        text.split(['\r', '\n']).map(|line| line.trim_start_matches("\u{1b}[K")).collect();
    let is_path = |line: &str| line.starts_with("Processing ");
    let last = lines.iter().rposition(|line| is_path(line));
    let kept = |(at, line): (usize, &&str)| {
        (!line.is_empty() && (!is_path(line) || Some(at) == last)).then(|| (*line).to_owned())
    };
    lines.iter().enumerate().filter_map(kept).collect::<Vec<_>>().join("\n")
}

/// `-zX[,LEVEL]`. lz4hc writes what each kernel reads as lz4, only smaller.
fn compressor(format: ImageFormat) -> String {
    let name = match format.compression() {
        Compression::Zstd => "zstd",
        Compression::Xz => "lzma",
        Compression::Lz4 => "lz4hc",
    };
    match format.level() {
        Some(level) => format!("-z{name},{level}"),
        None => format!("-z{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_not_lost_among_the_paths() {
        let text =
            "mkfs.erofs 1.5\n\r\u{1b}[KProcessing a ...\r\u{1b}[KProcessing b ...\n<E> erofs: no\n";
        assert_eq!(without_progress(text), "mkfs.erofs 1.5\nProcessing b ...\n<E> erofs: no");
        assert_eq!(without_progress(""), "");
    }
}
