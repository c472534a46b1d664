//! The parts of an image, by name: files of a directory, or members of a tar.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::OciError;
use crate::archive::{ArchiveError, Compression, Decoder, Kind, Layout, Members};

/// Largest index, manifest or configuration that is read. The OCI distribution specification
/// bounds manifests at 4 MiB.
const LARGEST_DOCUMENT: u64 = 16 << 20;

/// How much of a file is read to tell an image from a root.
const GLANCE: u64 = 64 * 1024;

/// Links from part to part: old `docker save` stored a layer that occurs twice as a link.
const MOST_LINKS: usize = 8;

/// Where the parts of an image are.
#[derive(Debug)]
pub(super) enum Blobs {
    Directory(PathBuf),
    /// A tar that is not compressed, and what is where in it.
    Archive(Arc<File>, HashMap<String, Stored>),
}

/// A member of the tar.
#[derive(Debug)]
pub(super) enum Stored {
    /// Offset and length.
    At(u64, u64),
    /// The name of another.
    Link(String),
}

/// A part, to be read from its start. Several may be read at once.
#[derive(Debug)]
pub(super) struct Blob {
    file: Arc<File>,
    next: u64,
    end: u64,
}

impl Blobs {
    /// Lists the members of a tar.
    ///
    /// # Errors
    /// What is wrong with the tar.
    pub(super) fn of_archive(file: File) -> Result<Self, ArchiveError> {
        let error = |source| ArchiveError::Read { source };
        let file = Arc::new(file);
        let mut members = Members::new(BufReader::new(file.try_clone().map_err(error)?));
        let mut index = HashMap::new();
        while let Some(member) = members.next()? {
            let name = clean(&member.path);
            let target = |target: &[u8], beside: bool| {
                let folder =
                    if beside { name.rsplit_once('/').map_or("", |(dir, _)| dir) } else { "" };
                clean(format!("{folder}/{}", String::from_utf8_lossy(target)).as_bytes())
            };
            let stored = match &member.kind {
                Kind::File(Layout::Whole(length)) => Stored::At(members.position(), *length),
                Kind::Symlink(link) => Stored::Link(target(link, true)),
                Kind::Hardlink(link) => Stored::Link(target(link, false)),
                _ => continue,
            };
            index.insert(name, stored);
            members.seek_over()?;
        }
        Ok(Self::Archive(file, index))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(path) => path.join(name).is_file(),
            Self::Archive(_, index) => index.contains_key(name),
        }
    }

    /// Opens a part. `part` is for messages.
    ///
    /// # Errors
    /// [`OciError::Missing`], [`OciError::Read`].
    pub(super) fn open(&self, name: &str, part: &str) -> Result<Blob, OciError> {
        let missing = || OciError::Missing { part: part.to_owned() };
        match self {
            Self::Directory(path) => {
                let path = path.join(name);
                let error = |source| OciError::Read { part: part.to_owned(), source };
                // not a pipe, whose opening would wait
                if !fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
                    return Err(missing());
                }
                let file = File::open(&path).map_err(error)?;
                let end = file.metadata().map_err(error)?.len();
                Ok(Blob { file: Arc::new(file), next: 0, end })
            }
            Self::Archive(file, index) => {
                let mut name = name;
                for _ in 0..MOST_LINKS {
                    match index.get(name) {
                        Some(Stored::Link(target)) => name = target,
                        Some(Stored::At(next, length)) => {
                            let (file, end) = (Arc::clone(file), next + length);
                            return Ok(Blob { file, next: *next, end });
                        }
                        None => break,
                    }
                }
                Err(missing())
            }
        }
    }

    /// Reads a part whole.
    ///
    /// # Errors
    /// [`OciError::Missing`], [`OciError::Read`], [`OciError::TooLong`].
    pub(super) fn document(&self, name: &str, part: &str) -> Result<Vec<u8>, OciError> {
        let mut blob = self.open(name, part)?;
        let (length, most) = (blob.length(), LARGEST_DOCUMENT);
        if length > most {
            return Err(OciError::TooLong { part: part.to_owned(), length, most });
        }
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes)
            .map_err(|source| OciError::Read { part: part.to_owned(), source })?;
        Ok(bytes)
    }
}

impl Blob {
    /// Bytes that are left to read.
    pub(super) fn length(&self) -> u64 {
        self.end - self.next
    }

    /// How its first bytes say that it is compressed.
    pub(super) fn compression(&self) -> io::Result<Compression> {
        let mut head = Vec::new();
        let start = Self { file: Arc::clone(&self.file), ..*self };
        start.take(512).read_to_end(&mut head)?;
        // a layer without a member is nothing but zeros
        Ok(Compression::sniff(&head).unwrap_or(Compression::Plain))
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.length()).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..length], self.next)?;
        self.next += count as u64;
        Ok(count)
    }
}

/// A path without `.` and `..`, as names within an image are compared.
fn clean(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let mut steps: Vec<&str> = Vec::new();
    for step in text.split('/').filter(|step| !step.is_empty() && *step != ".") {
        if step == ".." {
            steps.pop();
        } else {
            steps.push(step);
        }
    }
    steps.join("/")
}

/// Whether a directory is an image layout, and not a root.
pub(crate) fn is_layout(directory: &Path) -> bool {
    directory.join("oci-layout").is_file() && directory.join("index.json").is_file()
}

/// Whether a tar is an image, and not a root: told by the names that it begins with.
pub(crate) fn is_image(file: impl Read + Send + 'static, compression: Compression) -> bool {
    // whatever is wrong with it is told when it is unpacked
    let Ok(decoder) = Decoder::new(file.take(GLANCE), compression) else { return false };
    let mut members = Members::new(decoder);
    let (mut known, mut foreign) = (false, false);
    while !foreign && let Ok(Some(member)) = members.next() {
        let path = clean(&member.path);
        let top = path.split('/').next().unwrap_or_default();
        let stem = top.strip_suffix(".json").or_else(|| top.strip_suffix(".tar")).unwrap_or(top);
        let names = ["oci-layout", "index.json", "manifest.json", "repositories", "blobs"];
        let is_digest = stem.len() == 64 && stem.bytes().all(|b| b.is_ascii_hexdigit());
        if names.contains(&top) || is_digest {
            known = true;
        } else if !top.is_empty() {
            foreign = true;
        }
    }
    let _ = members.into_input().finish();
    known && !foreign
}
