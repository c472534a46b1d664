//! Tar archives: recognised by their contents, unpacked without leading out of their directory.
//!
//! ```text
//! file ─ compression (by its first bytes) ─ decoder (gzip, zstd, …) ─ members (headers) ─ tree
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::tool::Place;

mod compression;
mod decoder;
mod error;
mod fault;
mod make;
mod member;
mod purge;
mod tree;

pub(crate) use compression::Compression;
pub(crate) use decoder::Decoder;
pub use error::ArchiveError;
pub(crate) use make::BEGIN;
pub(crate) use member::{Kind, Layout, Member, Members};
pub(crate) use tree::{Role, Tree};

/// What was read to recognise the file, and the rest.
pub(crate) type Opened = io::Chain<Cursor<Vec<u8>>, BufReader<File>>;

/// Opens an archive and tells its compression by its first bytes. `path` is for messages.
///
/// # Errors
/// [`PackError::Source`], [`PackError::NotATar`].
pub(crate) fn open(file: File, path: &Path) -> Result<(Opened, Compression), PackError> {
    let mut file = BufReader::with_capacity(1 << 18, file);
    let mut head = Vec::new();
    (&mut file)
        .take(512)
        .read_to_end(&mut head)
        .map_err(|source| PackError::Source { path: path.to_owned(), source })?;
    let compression = Compression::sniff(&head).ok_or_else(|| PackError::NotATar {
        path: path.to_owned(),
        begins: match head.get(..head.len().min(16)) {
            Some(begin) if !begin.is_empty() => format!("\"{}\"", begin.escape_ascii()),
            _ => "nothing: it is empty".to_owned(),
        },
    })?;
    Ok((Cursor::new(head).chain(file), compression))
}

/// Unpacks a root into a new directory `into`: owners, modes, times, hard links, device nodes,
/// sparse files and extended attributes as archived. Needs root. `path` is for messages.
///
/// # Errors
/// [`PackError::Archive`], [`PackError::ToolMissing`], [`PackError::DiskFull`].
pub(crate) fn unpack(
    (input, compression): (Opened, Compression),
    path: &Path,
    into: &Path,
    place: &Place<'_>,
    observe: Observer<'_>,
) -> Result<(), PackError> {
    let failed = |error| PackError::archive(path.display().to_string(), error, place);
    let mut tree = new_tree(into, Role::Root, place)?;
    let mut members = Members::new(Decoder::new(input, compression)?);
    let unpacked = tree.unpack(&mut members);
    let (complete, position) = (members.is_complete(), members.position());
    let (_, decoded) = members.into_input().finish();
    // a stream that broke off looks cut short to who reads it: its own complaint comes first
    decoded.map_err(failed)?;
    unpacked.map_err(failed)?;
    if !complete {
        let after = "without its end mark".to_owned();
        return Err(failed(ArchiveError::CutShort { after, position }));
    }
    finish(tree, into, place, observe)
}

/// A new directory as a tree.
///
/// # Errors
/// [`PackError::Write`], [`PackError::DiskFull`].
pub(crate) fn new_tree(into: &Path, role: Role, place: &Place<'_>) -> Result<Tree, PackError> {
    fs::create_dir(into)
        // not what the umask leaves of it
        .and_then(|()| fs::set_permissions(into, fs::Permissions::from_mode(0o755)))
        .and_then(|()| Tree::new(into, role))
        .map_err(|e| place.write_error(into.to_owned(), e))
}

/// The tree is complete: times, and what was left out.
///
/// # Errors
/// [`PackError::Write`].
pub(crate) fn finish(
    tree: Tree,
    into: &Path,
    place: &Place<'_>,
    observe: Observer<'_>,
) -> Result<(), PackError> {
    if tree.had_acls() {
        let text = "the archive has POSIX ACLs as text; they were left out (make it with GNU tar's \
                    --xattrs --xattrs-include='*' for an EROFS image, or set them at boot with tmpfiles.d)";
        observe(Event::Warning { text: text.to_owned() });
    }
    tree.finish().map_err(|e| place.write_error(into.to_owned(), e))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn recognise(path: &Path) -> Result<Compression, PackError> {
        let error = |source| PackError::Source { path: path.to_owned(), source };
        Ok(open(File::open(path).map_err(error)?, path)?.1)
    }

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
            let mut command = Command::new("tar");
            command.args(["-c", option, "-f"]).arg(&tar).arg("-C").arg(dir.path()).arg("file");
            assert!(command.status().unwrap().success(), "{option}");
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
    }
}
