//! `--order`: files whose data lies first in the image, in this order. Who reads an image as it comes
//! from the network can start when its beginning is there.
//!
//! The list is one path per line, from the root on, with or without a `/` in front; a line that begins
//! with `#` is a comment. `bee-seeder record-order` writes one.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use proto::hash::Sha256Digest;

use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::tool::Place;
use crate::tree::Tree;

/// Longest list, in bytes: a million paths.
const MAX_LIST: u64 = 64 << 20;

/// Longest path, in bytes (`PATH_MAX` without its end).
const MAX_PATH: usize = 4095;

/// How many paths a warning names.
const NAMED: usize = 3;

/// Priority of what is not listed. mksquashfs knows -32768 to 32767 and takes high ones first.
const OTHERS: usize = 0;

/// Priority of what comes right behind the listed files.
const BEHIND: usize = 1;

/// Priority of the first file.
const FIRST: usize = 32_767;

/// A list that was read, of paths that may be in the root.
#[derive(Debug, Clone)]
pub struct Order {
    file: PathBuf,
    digest: Sha256Digest,
    paths: Vec<PathBuf>,
}

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It cannot be read.
    #[error("cannot read --order {file}")]
    Read {
        /// The list.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than a list.
    #[error("--order {file} is longer than 64 MiB: give a list of paths, one per line")]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// One of its lines.
    #[error("--order {file}, line {line}")]
    Line {
        /// The list.
        file: PathBuf,
        /// From 1 on.
        line: usize,
        /// What is wrong.
        source: LineError,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// `/` or nothing but dots.
    #[error("it names the whole root: give the path of a file")]
    WholeRoot,
    /// `..` in it.
    #[error("`..` leads out of the root: give the path from the root on")]
    LeadsOut,
    /// A zero byte.
    #[error("it has a zero byte, which no path has: is this a list of paths, one per line?")]
    NotText,
    /// Longer than any path.
    #[error("it is longer than {MAX_PATH} bytes: is this a list of paths, one per line?")]
    TooLong,
}

impl Order {
    /// Reads the list at `file`.
    ///
    /// # Errors
    /// [`OrderError`] with the line, if it is one.
    pub fn read(file: &Path) -> Result<Self, OrderError> {
        let file = file.to_owned();
        let mut bytes = Vec::new();
        let read = File::open(&file).and_then(|f| f.take(MAX_LIST + 1).read_to_end(&mut bytes));
        match read {
            Err(source) => return Err(OrderError::Read { file, source }),
            Ok(_) if bytes.len() as u64 > MAX_LIST => return Err(OrderError::TooLong { file }),
            Ok(_) => {}
        }
        match parse(&bytes) {
            Err((line, source)) => Err(OrderError::Line { file, line, source }),
            Ok(paths) => Ok(Self { file, digest: Sha256Digest::of(&bytes), paths }),
        }
    }

    /// For the manifest: SHA-256 of the list, as it was given.
    pub(crate) fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Writes what `mksquashfs -sort` takes to `output`, for the tree at `root` whose directories
    /// `emptied` stay empty. A warning counts the paths that are no files there.
    ///
    /// mksquashfs collects files shorter than `block_size` bytes in blocks, and writes such a block when
    /// the next file does not fit into it. So that the last listed files do not wait for that until the
    /// end of the image, short files that are not listed follow them, enough to fill a block.
    ///
    /// # Errors
    /// [`PackError::Read`], those of writing.
    pub(crate) fn write_sort_file(
        &self,
        root: &Path,
        emptied: &[&str],
        block_size: u32,
        output: &Path,
        place: &Place<'_>,
        observe: Observer<'_>,
    ) -> Result<(), PackError> {
        let error = |source| PackError::Read { path: root.to_owned(), source };
        let tree = Tree::open(root).map_err(error)?;
        let (mut seen, mut found, mut unknown) = (HashSet::new(), Vec::new(), Vec::new());
        for path in &self.paths {
            let real = tree.file(path).map_err(error)?;
            match real.filter(|(real, _)| !emptied.iter().any(|dir| real.starts_with(dir))) {
                Some((real, meta)) => {
                    // a file has several names at times, also in the list
                    if seen.insert((meta.dev(), meta.ino())) {
                        found.push(real);
                    }
                }
                None => unknown.push(path),
            }
        }
        self.warn(&unknown, found.len(), observe);
        let mut lines = Vec::new();
        for (at, path) in found.iter().enumerate() {
            // there are more files than priorities at times: the last ones share one
            sort_line(path, FIRST.saturating_sub(at).max(BEHIND + 1), &mut lines);
        }
        if !found.is_empty() {
            for path in behind(root, emptied, block_size, &seen).map_err(error)? {
                sort_line(&path, BEHIND, &mut lines);
            }
        }
        fs::write(output, lines).map_err(|e| place.write_error(output.to_owned(), e))
    }

    fn warn(&self, unknown: &[&PathBuf], found: usize, observe: Observer<'_>) {
        if unknown.is_empty() && found > 0 {
            return;
        }
        let names: Vec<_> =
            unknown.iter().take(NAMED).map(|path| format!("/{}", path.display())).collect();
        let more = if unknown.len() > NAMED { ", …" } else { "" };
        let mut text = format!(
            "--order {}: {} of {} paths are no files of the image: {}{more}",
            self.file.display(),
            unknown.len(),
            self.paths.len(),
            names.join(", ")
        );
        if self.paths.is_empty() {
            text = format!("--order {} names no path", self.file.display());
        }
        observe(Event::Warning { text });
    }
}

/// Short files in the order of their paths, until they fill a block; `seen` are those that come before.
fn behind(
    root: &Path,
    emptied: &[&str],
    block_size: u32,
    seen: &HashSet<(u64, u64)>,
) -> io::Result<Vec<PathBuf>> {
    let (mut bytes, mut chosen) = (0, Vec::new());
    let mut left = vec![PathBuf::new()];
    while let Some(dir) = left.pop() {
        if emptied.iter().any(|name| dir == Path::new(name)) {
            continue;
        }
        let mut names: Vec<_> = fs::read_dir(root.join(&dir))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        let mut folders = Vec::new();
        for name in names {
            let path = dir.join(name);
            let meta = fs::symlink_metadata(root.join(&path))?;
            if meta.is_dir() {
                folders.push(path);
                continue;
            }
            let short = (1..u64::from(block_size)).contains(&meta.len());
            if meta.is_file() && short && !seen.contains(&(meta.dev(), meta.ino())) {
                bytes += meta.len();
                chosen.push(path);
                if bytes >= u64::from(block_size) {
                    return Ok(chosen);
                }
            }
        }
        left.extend(folders.into_iter().rev());
    }
    Ok(chosen)
}

/// `PATH PRIORITY`, where a backslash takes the meaning of a space and of itself away.
fn sort_line(path: &Path, priority: usize, lines: &mut Vec<u8>) {
    debug_assert!(priority > OTHERS, "what is listed comes before the others");
    for byte in path.as_os_str().as_bytes() {
        // whatever isspace(3) takes for a space
        if b" \t\x0b\x0c\r\n\\#".contains(byte) {
            lines.push(b'\\');
        }
        lines.push(*byte);
    }
    lines.extend(format!(" {priority}\n").into_bytes());
}

/// Paths relative to the root; an error has the number of its line, from 1 on.
fn parse(bytes: &[u8]) -> Result<Vec<PathBuf>, (usize, LineError)> {
    let mut paths = Vec::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let error = |kind| Err((at + 1, kind));
        if line.len() > MAX_PATH {
            return error(LineError::TooLong);
        }
        if line.contains(&0) {
            return error(LineError::NotText);
        }
        let mut path = PathBuf::new();
        for component in Path::new(OsStr::from_bytes(line)).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => return error(LineError::LeadsOut),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if path.as_os_str().is_empty() {
            return error(LineError::WholeRoot);
        }
        paths.push(path);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_list_is_read_line_by_line() {
        let text = b"# recorded\n/usr/bin/tool\n\n./etc//hostname\r\n/with a space\n  /indented\n";
        let paths = parse(text).unwrap();
        let expected = ["usr/bin/tool", "etc/hostname", "with a space", "  /indented"];
        assert_eq!(paths, expected.map(PathBuf::from));
        assert!(parse(b"").unwrap().is_empty());
        let long = [b"/a\n".to_vec(), vec![b'x'; 5000]].concat();
        for (bad, line, kind) in [
            (&b"/a\n/usr/../../etc/shadow\n"[..], 2, LineError::LeadsOut),
            (b"#\n#\n//\n", 3, LineError::WholeRoot),
            (b".\n", 1, LineError::WholeRoot),
            (b"/a\n\0\x7fELF\n", 2, LineError::NotText),
            (&long, 2, LineError::TooLong),
        ] {
            assert_eq!(parse(bad), Err((line, kind)));
        }
    }

    #[test]
    fn the_sort_file_has_each_file_once_and_the_rest_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for folder in ["usr/lib", "run", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/usr/lib/two words", root.join("etc/link")).unwrap();
        for name in ["usr/lib/two words", "usr/lib/b", "etc/#short", "run/x"] {
            fs::write(root.join(name), name).unwrap();
        }
        fs::write(root.join("usr/lib/long"), vec![1; 5000]).unwrap();
        fs::hard_link(root.join("usr/lib/b"), root.join("usr/lib/same")).unwrap();
        let list = dir.path().join("list");
        fs::write(&list, "/etc/link\n/lib/b\n/usr/lib/same\n/gone\n/run/x\n/usr\n").unwrap();
        let order = Order::read(&list).unwrap();
        let (output, warnings) = (dir.path().join("sort"), RefCell::new(Vec::new()));
        let observe = |event: Event| warnings.borrow_mut().push(event);
        let place = Place { store: dir.path(), step: "sorting" };
        order.write_sort_file(&root, &["run"], 4096, &output, &place, &observe).unwrap();
        let expected = "usr/lib/two\\ words 32767\nusr/lib/b 32766\netc/\\#short 1\n";
        assert_eq!(fs::read_to_string(output).unwrap(), expected);
        let text = format!("{warnings:?}");
        assert!(
            text.contains("3 of 6 paths are no files of the image: /gone, /run/x, /usr"),
            "{text}"
        );
    }

    #[test]
    fn errors_name_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        fs::write(&list, "/a\n\n/b/..\n").unwrap();
        let error = anyhow::Error::from(Order::read(&list).unwrap_err());
        let text = format!("{error:#}");
        assert!(text.contains(&format!("{}, line 3", list.display())), "{text}");
        assert!(text.contains("leads out of the root"), "{text}");
        let error = Order::read(&dir.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
