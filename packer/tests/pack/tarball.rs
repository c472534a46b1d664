//! Tar archives that no tar program would write, member by member.

use std::fs;
use std::path::Path;

/// An archive in the making.
#[derive(Debug)]
pub(crate) struct Tarball(Vec<u8>);

impl Tarball {
    /// Nothing in it.
    pub(crate) fn empty() -> Self {
        Self(Vec::new())
    }

    /// What is taken for a root.
    pub(crate) fn root() -> Self {
        let mut tarball = Self::empty();
        for directory in ["etc/", "usr/", "usr/bin/", "srv/"] {
            tarball.add(directory.as_bytes(), b'5', b"", b"");
        }
        tarball.file("etc/hostname", "node\n");
        tarball
    }

    pub(crate) fn file(&mut self, path: &str, content: &str) -> &mut Self {
        self.add(path.as_bytes(), b'0', b"", content.as_bytes())
    }

    pub(crate) fn directory(&mut self, path: &str) -> &mut Self {
        self.add(path.as_bytes(), b'5', b"", b"")
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path.as_bytes(), b'2', target.as_bytes(), b"")
    }

    pub(crate) fn hard_link(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path.as_bytes(), b'1', target.as_bytes(), b"")
    }

    /// A pax header for the next member: key and value.
    pub(crate) fn pax(&mut self, records: &[(&str, &str)]) -> &mut Self {
        let mut text = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            // the length counts its own digits
            let length = (1..).find(|n: &usize| n.to_string().len() + rest.len() == *n).unwrap();
            text.push_str(&format!("{length}{rest}"));
        }
        self.add(b"pax", b'x', b"", text.as_bytes())
    }

    /// A member of any kind, with GNU's records for long names before it.
    pub(crate) fn add(&mut self, path: &[u8], kind: u8, link: &[u8], content: &[u8]) -> &mut Self {
        for (long, record) in [(path, b'L'), (link, b'K')] {
            if long.len() > 100 {
                self.add(b"././@LongLink", record, b"", &[long, b"\0"].concat());
            }
        }
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &path[..path.len().min(100)]);
        put(100, b"0000755\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, b"07346545000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, &link[..link.len().min(100)]);
        put(257, b"ustar  \0");
        put(329, b"0000001\0");
        put(337, b"0000003\0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The members alone, without the mark at the end.
    pub(crate) fn members(&self) -> &[u8] {
        &self.0
    }

    /// The whole archive.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [&*self.0, &[0; 1024]].concat()
    }

    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).unwrap();
    }
}
