//! Tar archives: recognised by their contents, unpacked by GNU tar.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use crate::error::PackError;
use crate::tool::{Place, TAR};

/// How a tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    /// Recognises a tar by its first 512 bytes; `None` for anything else.
    fn sniff(head: &[u8]) -> Option<Self> {
        let magic: [(&[u8], Self); 4] = [
            (&[0x1f, 0x8b], Self::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Self::Xz),
            (b"BZh", Self::Bzip2),
        ];
        magic
            .iter()
            .find(|(bytes, _)| head.starts_with(bytes))
            .map(|(_, found)| *found)
            .or_else(|| is_tar_header(head).then_some(Self::Plain))
    }

    fn option(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Gzip => Some("--gzip"),
            Self::Zstd => Some("--zstd"),
            Self::Xz => Some("--xz"),
            Self::Bzip2 => Some("--bzip2"),
        }
    }
}

/// A header block whose checksum fits (POSIX.1-1988 ustar and everything before and after it):
/// the sum of all bytes, with the checksum's own eight taken as spaces.
fn is_tar_header(head: &[u8]) -> bool {
    let Some(block) = head.first_chunk::<512>() else { return false };
    let text: String =
        block[148..156].iter().map(|&b| char::from(b)).filter(char::is_ascii_digit).collect();
    let Ok(stated) = u32::from_str_radix(&text, 8) else { return false };
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u32::from(byte) })
        .sum();
    stated == sum
}

/// Looks at a file.
///
/// # Errors
/// [`PackError::Source`], [`PackError::NotATar`].
pub(crate) fn recognise(path: &Path) -> Result<Compression, PackError> {
    let error = |source| PackError::Source { path: path.to_owned(), source };
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(512).read_to_end(&mut head)).map_err(error)?;
    Compression::sniff(&head).ok_or_else(|| PackError::NotATar {
        path: path.to_owned(),
        begins: match head.get(..head.len().min(16)) {
            Some(begin) if !begin.is_empty() => format!("\"{}\"", begin.escape_ascii()),
            _ => "nothing: it is empty".to_owned(),
        },
    })
}

/// Unpacks the tar into a new directory `into`, with owners, modes, times, hard links, device
/// nodes and extended attributes as archived. Needs root.
///
/// # Errors
/// [`PackError::ToolFailed`] with what tar says, [`PackError::DiskFull`].
pub(crate) fn unpack(
    tar: &Path,
    compression: Compression,
    into: &Path,
    place: &Place<'_>,
) -> Result<(), PackError> {
    fs::create_dir(into).map_err(|e| place.write_error(into.to_owned(), e))?;
    let mut command = TAR.command();
    command.args(["--extract", "--numeric-owner", "--same-owner", "--preserve-permissions"]);
    command.args(["--xattrs", "--xattrs-include=*", "--sparse"]);
    command.args(compression.option());
    command.arg("--directory").arg(into).arg("--file").arg(tar);
    let output = TAR.run(command, |_| {})?;
    if output.status.success() {
        return Ok(());
    }
    let remedy = if sys::privileges::is_root() {
        "The archive is damaged or cut short, or holds what this disk cannot: test it with `tar -t`"
    } else {
        "Unpacking owners and device nodes needs root: run it with sudo"
    };
    Err(TAR.failed(&output, place, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_decide_not_names() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        for (option, expected) in [
            ("--format=ustar", Compression::Plain),
            ("--format=v7", Compression::Plain),
            ("--format=pax", Compression::Plain),
            ("--gzip", Compression::Gzip),
            ("--zstd", Compression::Zstd),
            ("--xz", Compression::Xz),
        ] {
            let tar = dir.path().join("archive.iso");
            let mut command = TAR.command();
            command.args(["-c", option, "-f"]).arg(&tar).arg("-C").arg(dir.path()).arg("file");
            assert!(TAR.run(command, |_| {}).unwrap().status.success(), "{option}");
            assert_eq!(recognise(&tar).unwrap(), expected, "{option}");
        }
    }

    #[test]
    fn what_is_no_tar_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        for (content, begins) in
            [(&b"hsqs image"[..], "hsqs image"), (b"", "nothing"), (&[b'0'; 600], "0000")]
        {
            fs::write(&path, content).unwrap();
            let error = recognise(&path).unwrap_err();
            assert!(error.to_string().contains(begins), "{error}");
            assert!(matches!(error, PackError::NotATar { .. }));
        }
        let missing = recognise(&dir.path().join("missing")).unwrap_err();
        assert!(matches!(missing, PackError::Source { .. }));
    }
}
