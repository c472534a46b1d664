//! What is in an initrd, and what takes the room.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cpio;
use crate::error::PackError;
use crate::initrd_error::InitrdError;

/// How compressed initrds begin, and who unpacks them.
const COMPRESSED: [(&[u8], &str); 5] = [
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x1f\x8b", "gzip"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x04\x22\x4d\x18", "lz4"),
];

/// Groups, in the order in which a path is compared with them.
const GROUPS: [&str; 9] = [
    "CPU microcode",
    "drivers of network cards",
    "other kernel modules",
    "firmware",
    "bee-initrd-client",
    "systemd and udev",
    "libraries for cryptography",
    "other libraries",
    "programs, scripts and the rest",
];

/// An initrd that was read.
#[derive(Debug)]
pub struct Contents {
    /// Length of the file in bytes.
    pub packed: u64,
    /// Its regular files, in the order of the archive.
    pub files: Vec<ContentFile>,
    /// Everything that is in a group, by group.
    bytes: Vec<Vec<u8>>,
    /// Bytes of the file that are not compressed.
    plain: u64,
}

/// A file in an initrd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentFile {
    /// Without a leading `/`.
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// Which group.
    group: usize,
}

/// Files that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they are.
    pub name: &'static str,
    /// How many.
    pub files: usize,
    /// Bytes, unpacked.
    pub length: u64,
    /// Bytes of the packed initrd that they take, about: each group is compressed by itself, and
    /// what that gives is scaled to the whole.
    pub share: u64,
}

/// Reads the initrd at `path`: archives and compressed archives, one after the other.
///
/// # Errors
/// [`PackError::Read`], [`InitrdError::NotAnInitrd`].
pub fn read(path: &Path) -> Result<Contents, PackError> {
    let read_error = |source| PackError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read_error)?;
    let packed = file.metadata().map_err(read_error)?.len();
    let bytes = vec![Vec::new(); GROUPS.len()];
    let mut contents = Contents { packed, files: Vec::new(), bytes, plain: 0 };
    contents.read(&mut file).map_err(|e| {
        let path = path.to_owned();
        PackError::Initrd(InitrdError::NotAnInitrd { path, reason: e.to_string() })
    })?;
    Ok(contents)
}

impl Contents {
    fn read(&mut self, file: &mut File) -> io::Result<()> {
        let mut inodes = BTreeSet::new();
        let mut at = 0;
        while at < self.packed {
            file.seek(SeekFrom::Start(at))?;
            let mut head = Vec::new();
            file.take(4096).read_to_end(&mut head)?;
            // archives are padded with zeros
            if let Some(zeros) = head.iter().position(|byte| *byte != 0) {
                at += zeros as u64;
                head.drain(..zeros);
            } else {
                at += head.len() as u64;
                continue;
            }
            file.seek(SeekFrom::Start(at))?;
            if cpio::begins_with(&head) {
                let mut reader = BufReader::new(&*file);
                let length =
                    cpio::read(&mut reader, |entry, data| self.add(entry, &data, &mut inodes))?;
                at += length;
                self.plain += length;
                continue;
            }
            let known = COMPRESSED.iter().find(|(magic, _)| head.starts_with(magic));
            let (_, program) = known.ok_or_else(|| io::Error::other("unknown compression"))?;
            self.unpack(program, file, &mut inodes)?;
            return Ok(());
        }
        Ok(())
    }

    /// The rest of the file, which is compressed.
    fn unpack(&mut self, program: &str, file: &File, inodes: &mut BTreeSet<u32>) -> io::Result<()> {
        let mut command = Command::new(program);
        command.args(["-d", "-c"]).stdin(file.try_clone()?).stdout(Stdio::piped());
        if program == "zstd" {
            command.arg("--long=27");
        }
        let mut child = command.stderr(Stdio::null()).spawn().map_err(|error| {
            io::Error::other(format!("{program}, which unpacks it, cannot be run: {error}"))
        })?;
        let mut result = Err(io::ErrorKind::BrokenPipe.into());
        if let Some(out) = child.stdout.take() {
            let mut out = BufReader::new(out);
            result = cpio::read(&mut out, |entry, data| self.add(entry, &data, inodes));
            // what comes after is padding
            io::copy(&mut out, &mut io::sink())?;
        }
        let status = child.wait()?;
        result?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{program}: {status}")))
        }
    }

    fn add(&mut self, entry: cpio::Entry, data: &[u8], inodes: &mut BTreeSet<u32>) {
        // of hard links only one has the bytes
        if !entry.is_file() || (data.is_empty() && !inodes.insert(entry.inode)) {
            return;
        }
        let group = group_of(&entry.path);
        if let Some(bytes) = self.bytes.get_mut(group) {
            bytes.extend(data);
        }
        self.files.push(ContentFile { path: entry.path, length: entry.length, group });
    }

    /// What takes the room, by group.
    ///
    /// # Errors
    /// When zstd cannot be run.
    pub fn groups(&self) -> io::Result<Vec<Group>> {
        let mut groups = Vec::new();
        for (index, name) in GROUPS.into_iter().enumerate() {
            let members = || self.files.iter().filter(|file| file.group == index);
            let (files, length) = (members().count(), members().map(|file| file.length).sum());
            let share = match self.bytes.get(index) {
                Some(bytes) if index > 0 => compressed(bytes)?,
                _ => 0,
            };
            groups.push(Group { name, files, length, share });
        }
        let sum: u64 = groups.iter().map(|group| group.share).sum();
        let whole = self.packed - self.plain;
        for group in &mut groups {
            group.share = group.share * whole / sum.max(1);
        }
        if let Some(microcode) = groups.first_mut() {
            microcode.share = self.plain;
        }
        groups.retain(|group| group.files > 0);
        Ok(groups)
    }
}

/// How long these bytes are when they are compressed.
fn compressed(bytes: &[u8]) -> io::Result<u64> {
    let mut zstd = Command::new("zstd")
        .args(["-12", "-q", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (input, output) = (zstd.stdin.take(), zstd.stdout.take());
    let (Some(mut input), Some(mut output)) = (input, output) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let length = std::thread::scope(|scope| {
        let counter = scope.spawn(move || io::copy(&mut output, &mut io::sink()));
        input.write_all(bytes)?;
        drop(input);
        counter.join().map_err(|_| io::Error::from(io::ErrorKind::Other))?
    })?;
    let status = zstd.wait()?;
    if status.success() { Ok(length) } else { Err(io::Error::other(format!("zstd: {status}"))) }
}

/// The index of a path's group.
fn group_of(path: &str) -> usize {
    let name = path.rsplit('/').next().unwrap_or_default();
    let has = |part: &str| path.contains(part);
    let library = has("/lib") && (name.contains(".so.") || name.ends_with(".so"));
    if path.starts_with("kernel/x86/microcode") {
        0
    } else if has("lib/modules/") {
        if has("/drivers/net/") { 1 } else { 2 }
    } else if has("lib/firmware/") {
        3
    } else if name == "bee-initrd-client" {
        4
    } else if ["systemd", "udev", "systemctl", "journalctl"].iter().any(|part| has(part)) {
        5
    } else if library && ["libcrypto", "libgcrypt", "libgpg-error"].iter().any(|part| has(part)) {
        6
    } else if library {
        7
    } else {
        8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initrd_of_several_parts_is_read_and_adds_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("initrd");
        let early = cpio::write(&[("kernel/x86/microcode/GenuineIntel.bin", Some(&[7; 700]))]);
        let noise: Vec<u8> =
            (0..20_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let main = cpio::write(&[
            ("usr/bin/bee-initrd-client", Some(&noise[..40_000])),
            ("usr/lib/modules/6.1/kernel/drivers/net/ethernet/e1000e.ko", Some(&noise[..])),
            ("usr/lib/x86_64-linux-gnu/libcrypto.so.3", Some(b"x")),
        ]);
        std::fs::write(dir.path().join("main"), main.unwrap()).unwrap();
        let main =
            Command::new("zstd").args(["-19", "-q", "-c"]).arg(dir.path().join("main")).output();
        let early = early.unwrap();
        std::fs::write(&path, [&early[..], &main.unwrap().stdout].concat()).unwrap();
        let contents = read(&path).unwrap();
        assert_eq!(contents.files.len(), 4);
        let groups = contents.groups().unwrap();
        let names: Vec<&str> = groups.iter().map(|group| group.name).collect();
        assert_eq!(
            names,
            [GROUPS[0], GROUPS[1], "bee-initrd-client", "libraries for cryptography"]
        );
        assert_eq!(groups[0].length, 700);
        let sum: u64 = groups.iter().map(|group| group.share).sum();
        assert!(sum <= contents.packed && sum + 600 > contents.packed, "{sum} {groups:?}");
    }

    #[test]
    fn what_is_no_initrd_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for bytes in [&b"MZ, a kernel"[..], b"\x28\xb5\x2f\xfd broken", b"070701"] {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("no initrd"), "{error}");
        }
    }
}
