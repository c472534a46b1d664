//! Tar archives as a stream of members: ustar, pax and GNU, with sparse files of all kinds.
//!
//! `tar-core` reads the headers; this feeds it, and hands out each member's content.

use std::io::{self, Read, Seek, SeekFrom};

use rustix::fs::Timespec;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, HEADER_SIZE, PaxExtensions, SparseEntry};

use super::error::{ArchiveError, shown};

/// Longest path that Linux takes, without the byte at its end.
const LONGEST_PATH: u32 = 4095;

/// One member of an archive, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// As it is in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permissions, `0o7777` at most.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// Since 1970.
    pub(crate) modified: Timespec,
    /// Extended attributes: name and value.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// It has POSIX ACLs, which no image that we make can hold.
    pub(crate) has_acl: bool,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File(Layout),
    /// Its target: any bytes.
    Symlink(Vec<u8>),
    /// The path of another member.
    Hardlink(Vec<u8>),
    /// Major and minor number.
    Character(u32, u32),
    /// Major and minor number.
    Block(u32, u32),
    Fifo,
}

/// Where in the file the bytes of the archive go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All of it, one after the other.
    Whole(u64),
    /// Only some regions: offset and length, ascending, inside of `length`.
    Sparse { length: u64, regions: Vec<(u64, u64)> },
}

/// Reads members one after the other.
#[derive(Debug)]
pub(crate) struct Members<R> {
    input: R,
    parser: Parser,
    /// Bytes of `input` that were read.
    position: u64,
    /// Bytes of the current member's content that were not read yet.
    content: u64,
    /// Zeros behind it.
    padding: u64,
    /// Whether the mark at the archive's end was seen.
    ended: bool,
}

impl<R: Read> Members<R> {
    pub(crate) fn new(input: R) -> Self {
        let limits = Limits { max_path_len: Some(LONGEST_PATH), ..Limits::default() };
        let mut parser = Parser::new(limits);
        // "./" without its dot is the root
        parser.set_allow_empty_path(true);
        Self { input, parser, position: 0, content: 0, padding: 0, ended: false }
    }

    /// Where the next byte of content comes from.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the archive said that it is complete; one that is cut between two members does not.
    pub(crate) fn is_complete(&self) -> bool {
        self.ended
    }

    /// The input, to read what follows the archive.
    pub(crate) fn into_input(self) -> R {
        self.input
    }

    /// The next member; what was left of the last one's content is skipped.
    ///
    /// # Errors
    /// Those of reading, and of what is no tar.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, ArchiveError> {
        self.skip()?;
        if self.ended {
            return Ok(None);
        }
        let (mut buffer, mut wanted) = (Vec::new(), HEADER_SIZE);
        loop {
            let missing = wanted.saturating_sub(buffer.len());
            let count = self.read_some(&mut buffer, missing)?;
            if count < missing {
                return self.end_of_input(&buffer);
            }
            let before = self.position - buffer.len() as u64;
            let event = self.parser.parse(&buffer);
            let (consumed, member) = match event
                .map_err(|error| ArchiveError::syntax(before, &error))?
            {
                ParseEvent::NeedData { min_bytes } => {
                    // never the same again: that would not end
                    wanted = min_bytes.max(buffer.len() + 1);
                    continue;
                }
                ParseEvent::End { .. } => {
                    self.ended = true;
                    return Ok(None);
                }
                ParseEvent::GlobalExtensions { consumed, pax_data } => {
                    check_global(pax_data)?;
                    (consumed, None)
                }
                ParseEvent::Entry { consumed, entry } => (consumed, Some(convert(&entry, None)?)),
                ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size } => {
                    (consumed, Some(convert(&entry, Some((&sparse_map, real_size)))?))
                }
            };
            if consumed != buffer.len() {
                let reason = "its headers do not fit each other".to_owned();
                return Err(ArchiveError::Damaged { position: before, reason });
            }
            if let Some((member, content)) = member {
                self.content = content;
                self.padding = content.next_multiple_of(HEADER_SIZE as u64) - content;
                // a volume's name, say, is nothing to unpack
                if let Some(member) = member {
                    return Ok(Some(member));
                }
                self.skip()?;
            }
            buffer.clear();
            wanted = HEADER_SIZE;
        }
    }

    /// What it means that no whole header came.
    fn end_of_input(&self, rest: &[u8]) -> Result<Option<Member>, ArchiveError> {
        // one block of zeros instead of two: some programs write no more
        if rest.len().is_multiple_of(HEADER_SIZE) && rest.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        Err(ArchiveError::CutShort { after: "inside a header".to_owned(), position: self.position })
    }

    /// Appends up to `count` bytes to the buffer; fewer only at the input's end.
    fn read_some(&mut self, buffer: &mut Vec<u8>, count: usize) -> Result<usize, ArchiveError> {
        let read = (&mut self.input).take(count as u64).read_to_end(buffer);
        let read = read.map_err(|source| ArchiveError::Read { source })?;
        self.position += read as u64;
        Ok(read)
    }

    fn skip(&mut self) -> Result<(), ArchiveError> {
        let rest = self.content + self.padding;
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink());
        let skipped = skipped.map_err(|source| ArchiveError::Read { source })?;
        self.position += skipped;
        (self.content, self.padding) = (0, 0);
        if skipped < rest {
            let after = "inside a file".to_owned();
            return Err(ArchiveError::CutShort { after, position: self.position });
        }
        Ok(())
    }
}

impl<R: Read + Seek> Members<R> {
    /// Goes to the next member without reading the content of this one.
    ///
    /// # Errors
    /// Those of seeking.
    pub(crate) fn seek_over(&mut self) -> Result<(), ArchiveError> {
        let rest = self.content + self.padding;
        let error = |source| ArchiveError::Read { source };
        let by = i64::try_from(rest).map_err(|_| error(io::ErrorKind::InvalidData.into()))?;
        self.input.seek(SeekFrom::Current(by)).map_err(error)?;
        self.position += rest;
        (self.content, self.padding) = (0, 0);
        Ok(())
    }
}

/// The content of the current member.
impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        if length == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..length])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        self.content -= count as u64;
        Ok(count)
    }
}

/// The member, `None` for what is not to be unpacked, and the length of its content.
fn convert(
    entry: &ParsedEntry<'_>,
    sparse: Option<(&[SparseEntry], u64)>,
) -> Result<(Option<Member>, u64), ArchiveError> {
    let bad =
        |what: &str| ArchiveError::Unknown { path: shown(&entry.path), what: what.to_owned() };
    let number = |value: u64| u32::try_from(value).ok().filter(|id| *id != u32::MAX);
    let target = || entry.link_target.as_ref().map(|target| target.to_vec());
    let device = || entry.dev_major.zip(entry.dev_minor);
    let no_target = || bad("a link without a target");
    let no_device = || bad("a device without its number");
    if !entry.pax.is_none_or(is_whole_pax) {
        return Err(bad("with a damaged pax header"));
    }
    let kind = match entry.entry_type {
        EntryType::Directory => Kind::Directory,
        // before 1988 a slash at its end was what made a directory
        EntryType::Regular if entry.path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => {
            Kind::File(layout(entry, sparse).ok_or_else(|| bad("whose sparse map is wrong"))?)
        }
        EntryType::Symlink => Kind::Symlink(target().ok_or_else(no_target)?),
        EntryType::Link => Kind::Hardlink(target().ok_or_else(no_target)?),
        EntryType::Char => device().map(|(a, b)| Kind::Character(a, b)).ok_or_else(no_device)?,
        EntryType::Block => device().map(|(a, b)| Kind::Block(a, b)).ok_or_else(no_device)?,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Other(b'V') => return Ok((None, entry.size)),
        EntryType::Other(b'M') => return Err(bad("a part of an archive of several volumes")),
        other => return Err(bad(&format!("of the unknown type {other:?}"))),
    };
    // GNU tar and Go take links for empty, whatever their header says
    let content = if matches!(kind, Kind::File(_)) { entry.size } else { 0 };
    let owner = number(entry.uid).zip(number(entry.gid));
    let attributes = entry.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
    let member = Member {
        path: entry.path.to_vec(),
        kind,
        mode: entry.mode & 0o7777,
        owner: owner.ok_or_else(|| bad("whose owner has more than 32 bits"))?,
        modified: Timespec {
            tv_sec: i64::try_from(entry.mtime).map_err(|_| bad("with a time that is none"))?,
            tv_nsec: entry.pax.map_or(0, nanoseconds),
        },
        attributes: attributes.collect(),
        has_acl: entry.pax.is_some_and(has_acl),
    };
    Ok((Some(member), content))
}

fn layout(entry: &ParsedEntry<'_>, sparse: Option<(&[SparseEntry], u64)>) -> Option<Layout> {
    let Some((map, length)) = sparse else { return Some(Layout::Whole(entry.size)) };
    let (mut end, mut stored) = (0_u64, 0_u64);
    for region in map {
        let after = region.offset.checked_add(region.length)?;
        if region.offset < end || after > length {
            return None;
        }
        (end, stored) = (after, stored.checked_add(region.length)?);
    }
    let regions = map.iter().map(|region| (region.offset, region.length)).collect();
    (stored == entry.size).then_some(Layout::Sparse { length, regions })
}

/// Whether the records fill the header; what comes behind a damaged one would be lost in silence.
fn is_whole_pax(mut data: &[u8]) -> bool {
    while !data.is_empty() {
        let length = data.iter().position(|byte| *byte == b' ').and_then(|at| {
            std::str::from_utf8(&data[..at]).ok()?.parse::<usize>().ok().filter(|n| *n > at)
        });
        match length.and_then(|length| data.get(length..)) {
            Some(rest) => data = rest,
            None => return false,
        }
    }
    true
}

/// Of a time in a pax header the part behind the point, which ustar does not have.
fn nanoseconds(pax: &[u8]) -> i64 {
    let records = PaxExtensions::new(pax).flatten();
    let time = records.filter(|record| record.key_bytes() == b"mtime").last();
    let digits = time.and_then(|record| record.value().ok()?.split_once('.').map(|(_, d)| d));
    let Some(digits) = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit())) else { return 0 };
    format!("{digits:0<9.9}").parse().unwrap_or(0)
}

/// Whether there is an ACL as text that is not there as an attribute, too (`tar --acls --xattrs` writes both).
fn has_acl(pax: &[u8]) -> bool {
    let has = |key: &[u8]| PaxExtensions::new(pax).flatten().any(|r| r.key_bytes() == key);
    ["access", "default"].iter().any(|kind| {
        has(format!("SCHILY.acl.{kind}").as_bytes())
            && !has(format!("SCHILY.xattr.system.posix_acl_{kind}").as_bytes())
    })
}

/// A header for all members may hold a comment (git writes its commit so); anything else would
/// change the members, and nothing in use writes that.
fn check_global(pax: &[u8]) -> Result<(), ArchiveError> {
    for record in PaxExtensions::new(pax).flatten() {
        if record.key_bytes() != b"comment" {
            let path = shown(record.key_bytes());
            let what = "a pax record for all members".to_owned();
            return Err(ArchiveError::Unknown { path, what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// An archive with one of everything, as GNU tar makes it.
    fn sample(format: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("d".repeat(120))).unwrap();
        std::fs::write(root.join("file"), vec![7; 700]).unwrap();
        std::fs::File::create(root.join("sparse")).unwrap().set_len(1 << 20).unwrap();
        std::os::unix::fs::symlink("x".repeat(120), root.join("link")).unwrap();
        std::fs::hard_link(root.join("file"), root.join("hard")).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-cS", format, "--numeric-owner", "-f", "-", "-C"]).arg(&root).arg(".");
        let output = tar.output().unwrap();
        assert!(output.status.success(), "tar is needed for this test");
        output.stdout
    }

    /// Every member, to the end or an error; how many there were.
    fn read(bytes: &[u8]) -> (usize, Result<(), ArchiveError>) {
        let (mut members, mut count) = (Members::new(bytes), 0);
        loop {
            match members.next() {
                Ok(Some(_)) => count += 1,
                Ok(None) => return (count, Ok(())),
                Err(error) => return (count, Err(error)),
            }
            assert!(count <= bytes.len() / HEADER_SIZE, "more members than blocks");
        }
    }

    #[test]
    fn damage_is_an_error_or_another_archive_and_never_more() {
        let mut random = 1_u64;
        let mut next = move |below: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).unwrap() % below
        };
        let mut refused = 0;
        for format in ["--format=gnu", "--format=pax"] {
            let whole = sample(format);
            assert_eq!(read(&whole).0, 6);
            for _ in 0..3000 {
                let mut bytes = whole.clone();
                let block = next(bytes.len() / HEADER_SIZE) * HEADER_SIZE;
                for _ in 0..=next(3) {
                    bytes[block + next(HEADER_SIZE)] = u8::try_from(next(256)).unwrap();
                }
                // a right sum lets the damage in
                let sum: u32 = (block..block + HEADER_SIZE)
                    .map(
                        |at| if (148..156).contains(&(at - block)) { 32 } else { bytes[at].into() },
                    )
                    .sum();
                if next(4) > 0 {
                    bytes[block + 148..block + 156]
                        .copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
                bytes.truncate(bytes.len() - next(2) * next(bytes.len()));
                refused += usize::from(read(&bytes).1.is_err());
            }
        }
        assert!(refused > 500, "only {refused} were refused");
    }
}
