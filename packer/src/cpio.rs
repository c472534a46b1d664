//! The archive format of initrds: cpio, "newc" (Documentation/driver-api/early-userspace/buffer-format.rst
//! of the kernel). Read to the end of a stream; written for a few files.

use std::io::{self, Read, Write};

/// Magic number of the format, without and with checksums.
const MAGIC: [&[u8; 6]; 2] = [b"070701", b"070702"];

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// Longest name that is believed.
const MAX_NAME: usize = 4096;

/// One entry's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Without a leading `./` or `/`.
    pub(crate) path: String,
    /// Type and permissions, as in stat(2).
    pub(crate) mode: u32,
    /// Identifies hard links.
    pub(crate) inode: u32,
    /// Bytes that follow; of hard links only the last has them.
    pub(crate) length: u64,
}

impl Entry {
    /// Whether it is a regular file.
    pub(crate) fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// Whether an archive begins with these bytes.
pub(crate) fn begins_with(bytes: &[u8]) -> bool {
    MAGIC.iter().any(|magic| bytes.starts_with(*magic))
}

/// Reads one archive, from its first byte to the end of its last entry, and hands on each entry with
/// its contents; returns the number of bytes read.
pub(crate) fn read(
    stream: &mut impl Read,
    mut each: impl FnMut(Entry, Vec<u8>),
) -> io::Result<u64> {
    let mut at = 0;
    loop {
        let mut header = [0; 110];
        stream.read_exact(&mut header)?;
        if !begins_with(&header) {
            return Err(bad("not an archive in cpio's new format"));
        }
        let field = |n: usize| {
            let digits = header.get(6 + 8 * n..14 + 8 * n).unwrap_or_default();
            let text = std::str::from_utf8(digits).map_err(|_| bad("damaged header"))?;
            u32::from_str_radix(text, 16).map_err(|_| bad("damaged header"))
        };
        let (length, name_length) = (u64::from(field(6)?), field(11)? as usize);
        if name_length == 0 || name_length > MAX_NAME {
            return Err(bad("a name of impossible length"));
        }
        let mut name = vec![0; name_length];
        stream.read_exact(&mut name)?;
        at += 110 + name_length as u64;
        at += skip_padding(stream, at)?;
        name.pop();
        let name = String::from_utf8_lossy(&name).into_owned();
        if name == TRAILER {
            return Ok(at);
        }
        let mut contents = Vec::new();
        if stream.take(length).read_to_end(&mut contents)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += length;
        at += skip_padding(stream, at)?;
        let path = name.trim_start_matches("./").trim_start_matches('/').to_owned();
        each(Entry { path, mode: field(1)?, inode: field(0)?, length }, contents);
    }
}

/// Every part begins at a multiple of four.
fn skip_padding(stream: &mut impl Read, at: u64) -> io::Result<u64> {
    let count = at.next_multiple_of(4) - at;
    io::copy(&mut stream.take(count), &mut io::sink())
}

/// Writes an archive of directories (`None`) and files, owned by root, without times, and padded to
/// 512 bytes as cpio(1) does.
pub(crate) fn write(entries: &[(&str, Option<&[u8]>)]) -> io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    let trailer = (TRAILER, Some(&[][..]));
    for (inode, (path, contents)) in entries.iter().chain([&trailer]).enumerate() {
        let (mode, links) = if contents.is_some() { (0o100_644, 1) } else { (0o040_755, 2) };
        let mode = if *path == TRAILER { 0 } else { mode };
        let contents = contents.unwrap_or_default();
        let length = u32::try_from(contents.len()).map_err(|_| bad("a file of 4 GiB"))?;
        let fields =
            [inode + 1, mode, 0, 0, links, 0, length as usize, 0, 0, 0, 0, path.len() + 1, 0];
        archive.extend(b"070701");
        for field in fields {
            write!(archive, "{field:08X}")?;
        }
        archive.extend(path.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(contents);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive.resize(archive.len().next_multiple_of(512), 0);
    Ok(archive)
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_cpio_agrees() {
        let files = [("kernel", None), ("kernel/a", Some(&b"12345"[..])), ("b", Some(&b""[..]))];
        let archive = write(&files).unwrap();
        assert_eq!(archive.len() % 512, 0);
        let mut seen = Vec::new();
        read(&mut &archive[..], |entry, contents| seen.push((entry, contents))).unwrap();
        let names: Vec<&str> = seen.iter().map(|(entry, _)| entry.path.as_str()).collect();
        assert_eq!(names, ["kernel", "kernel/a", "b"]);
        assert_eq!(seen[1].1, b"12345");
        assert!(seen[1].0.is_file() && !seen[0].0.is_file());

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.cpio");
        std::fs::write(&path, &archive).unwrap();
        let list = std::process::Command::new("cpio")
            .args(["-it", "--quiet"])
            .stdin(std::fs::File::open(&path).unwrap())
            .output()
            .expect("this test needs cpio");
        assert!(list.status.success(), "{list:?}");
        assert_eq!(String::from_utf8_lossy(&list.stdout), "kernel\nkernel/a\nb\n");
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let archive = write(&[("a", Some(&b"12345"[..]))]).unwrap();
        let end = read(&mut &archive[..], |_, _| ()).unwrap();
        for cut in 0..usize::try_from(end).unwrap() - 4 {
            assert!(read(&mut &archive[..cut], |_, _| ()).is_err(), "{cut}");
        }
        for at in 0..110 {
            let mut spoilt = archive.clone();
            spoilt[at] = b'~';
            // it may still be read, but never beyond its end
            let _ = read(&mut &spoilt[..], |_, _| ());
        }
    }
}
