//! Whether a directory stays as it is while it is packed.
//!
//! mksquashfs reads a tree for minutes. A package manager or a user that writes to it meanwhile
//! gives an image that is neither the old nor the new tree, so it is looked at before and after.
//! The change time of an inode cannot be set by anybody (inode(7)): what has the same one, number
//! and size is the same.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::error::PackError;
use crate::image::EMPTIED;
use crate::overlay;
use crate::pattern::Patterns;

/// Changed paths that an error names.
const NAMED: usize = 8;

/// What a tree is to the packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Source,
    Overlay,
}

/// What a tree looked like.
#[derive(Debug)]
pub(crate) struct Snapshot {
    root: PathBuf,
    role: Role,
    entries: HashMap<PathBuf, Stamp>,
    obstacle: Option<Obstacle>,
}

/// Why a tree cannot be the lower layer of an overlay mount without losing something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It holds layers itself (of podman, of docker): their marks would take effect, or vanish.
    Layers(PathBuf),
    /// Something is mounted in it: an overlay shows the directory below.
    Mount(PathBuf),
}

/// What tells a changed file. A directory's own times do not count: its entries are looked at.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let dir = meta.is_dir();
        Self {
            inode: meta.ino(),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            size: if dir { 0 } else { meta.size() },
            changed: if dir { (0, 0) } else { (meta.ctime(), meta.ctime_nsec()) },
        }
    }
}

impl Snapshot {
    /// Looks at everything of `root` that is packed. `marks`: also for obstacles to an overlay.
    ///
    /// # Errors
    /// [`PackError::Read`], [`PackError::Source`]. What vanishes meanwhile is no error here.
    pub(crate) fn take(
        root: &Path,
        excludes: &mut Patterns,
        marks: bool,
    ) -> Result<Self, PackError> {
        Self::look(root, Role::Source, excludes, marks)
    }

    /// Looks at everything of an overlay that is laid over a root: nothing of it is excluded.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) fn of_overlay(root: &Path) -> Result<Self, PackError> {
        Self::look(root, Role::Overlay, &mut Patterns::none(), false)
    }

    fn look(
        root: &Path,
        role: Role,
        excludes: &mut Patterns,
        marks: bool,
    ) -> Result<Self, PackError> {
        let meta = fs::metadata(root)
            .map_err(|source| PackError::Source { path: root.to_owned(), source })?;
        let device = meta.dev();
        let obstacle_of_root =
            marks.then(|| obstacle(root, Path::new(""), &meta, device)).flatten();
        let entries = HashMap::new();
        let mut this = Self { root: root.to_owned(), role, entries, obstacle: obstacle_of_root };
        let mut left = vec![PathBuf::new()];
        while let Some(dir) = left.pop() {
            let absolute = root.join(&dir);
            let error = |source| PackError::Read { path: absolute.clone(), source };
            let entries = match fs::read_dir(&absolute) {
                Ok(entries) => entries,
                Err(e) if is_gone(&e) => continue,
                Err(e) => return Err(error(e)),
            };
            for entry in entries {
                let entry = entry.map_err(error)?;
                let meta = match entry.metadata() {
                    Ok(meta) => meta,
                    Err(e) if is_gone(&e) => continue,
                    Err(e) => return Err(error(e)),
                };
                let path = dir.join(entry.file_name());
                let is_skipped = role == Role::Overlay && overlay::is_history(&path);
                if is_skipped || excludes.matches(path.as_os_str().as_bytes(), meta.is_dir()) {
                    continue;
                }
                let emptied = EMPTIED.iter().any(|d| path == Path::new(d));
                if marks && this.obstacle.is_none() && !emptied {
                    this.obstacle = obstacle(&entry.path(), &path, &meta, device);
                }
                if meta.is_dir() && !emptied {
                    left.push(path.clone());
                }
                this.entries.insert(path, Stamp::of(&meta));
            }
        }
        Ok(this)
    }

    /// What stands against an overlay mount, if it was looked for.
    pub(crate) fn obstacle(&self) -> Option<&Obstacle> {
        self.obstacle.as_ref()
    }

    /// Compares with the tree as it is now; `excludes` are those of the source.
    ///
    /// # Errors
    /// [`PackError::Changed`] with some of the paths, those of [`Self::take`].
    pub(crate) fn compare(&self, excludes: &mut Patterns) -> Result<(), PackError> {
        let now = match self.role {
            Role::Source => Self::look(&self.root, self.role, excludes, false)?,
            Role::Overlay => Self::of_overlay(&self.root)?,
        };
        let mut changed: Vec<&Path> = Vec::new();
        for (path, stamp) in &self.entries {
            if now.entries.get(path) != Some(stamp) {
                changed.push(path);
            }
        }
        changed.extend(now.entries.keys().filter(|p| !self.entries.contains_key(*p)).map(|p| &**p));
        if changed.is_empty() {
            return Ok(());
        }
        changed.sort();
        let named: Vec<String> =
            changed.iter().take(NAMED).map(|path| format!("    /{}", path.display())).collect();
        let more = match changed.len() - named.len() {
            0 => String::new(),
            more => format!("\n    and {more} more"),
        };
        let (what, or) = match self.role {
            Role::Source => ("source", ", or leave those files out with --exclude"),
            Role::Overlay => ("overlay", ""),
        };
        Err(PackError::Changed {
            what,
            or,
            path: self.root.clone(),
            count: changed.len(),
            list: named.join("\n") + &more,
        })
    }
}

/// Gone between the list and the look, or not to be read (mksquashfs then says so).
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// What an overlay mount would not show as it is.
fn obstacle(absolute: &Path, path: &Path, meta: &Metadata, device: u64) -> Option<Obstacle> {
    if meta.dev() != device {
        return Some(Obstacle::Mount(path.to_owned()));
    }
    let whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
    let marked = || {
        let names = xattr::list(absolute).ok()?;
        let mark = |name: &[u8]| {
            name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
        };
        names.into_iter().any(|name| mark(name.as_bytes())).then_some(())
    };
    (whiteout || marked().is_some()).then(|| Obstacle::Layers(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn patterns(texts: &[&str]) -> Patterns {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        Patterns::new("--exclude", &texts).unwrap()
    }

    #[test]
    fn every_change_is_seen_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in ["etc", "tmp", "var/log"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let changes: [(&str, &dyn Fn()); 6] = [
            ("/etc/new", &|| fs::write(root.join("etc/new"), "").unwrap()),
            ("/etc/file", &|| fs::write(root.join("etc/file"), "other").unwrap()),
            ("/etc/file", &|| {
                fs::set_permissions(root.join("etc/file"), fs::Permissions::from_mode(0o600))
                    .unwrap();
            }),
            ("/etc/file", &|| {
                // the same content and time: another inode
                fs::copy(root.join("etc/file"), root.join("etc/f")).unwrap();
                fs::rename(root.join("etc/f"), root.join("etc/file")).unwrap();
            }),
            ("/etc/file", &|| fs::remove_file(root.join("etc/file")).unwrap()),
            ("/etc", &|| {
                fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
            }),
        ];
        let mut excludes = patterns(&["var/log/*"]);
        for (path, change) in changes {
            fs::write(root.join("etc/file"), "first").unwrap();
            let before = Snapshot::take(root, &mut excludes, true).unwrap();
            before.compare(&mut excludes).unwrap();
            // what is not packed may change
            fs::write(root.join("tmp/other"), "x").unwrap();
            fs::write(root.join("var/log/other"), "x").unwrap();
            before.compare(&mut excludes).unwrap();
            change();
            let error = before.compare(&mut excludes).unwrap_err().to_string();
            assert!(error.contains(&format!("    {path}\n")), "{error}");
        }
    }

    #[test]
    fn what_an_overlay_mount_would_swallow_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("srv")).unwrap();
        let look = || {
            let found = Snapshot::take(dir.path(), &mut patterns(&[]), true).unwrap();
            found.obstacle().cloned()
        };
        assert_eq!(look(), None);
        let path = dir.path().join("srv");
        if xattr::set(&path, "user.overlay.opaque", b"y").is_ok() {
            assert_eq!(look(), Some(Obstacle::Layers("srv".into())));
        }
    }
}
