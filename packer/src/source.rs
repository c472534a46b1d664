//! Where the root comes from: as a directory, whatever it was.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::archive::{self, Compression, Opened};
use crate::error::PackError;
use crate::event::{Observer, Stage};
use crate::file_stamp::FileStamp;
use crate::oci::{self, Container, Format, Platform, Wanted};
use crate::recipe;
use crate::tool::Place;

/// What `--source` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory, or a file that is told by its contents.
    Path(PathBuf),
    /// A tar on standard input.
    Stdin,
    /// An image layout: a directory.
    Oci {
        /// The directory.
        path: PathBuf,
        /// Which image in it.
        tag: Option<String>,
    },
    /// A tar with an image in it.
    ImageArchive {
        /// The file.
        path: PathBuf,
        /// How the image is found in it.
        format: Format,
        /// Which image in it.
        tag: Option<String>,
    },
    /// A recipe.
    Recipe(PathBuf),
}

impl Source {
    /// Takes `-` for standard input, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]` and
    /// `docker-archive:FILE[:TAG]` for images, `recipe:FILE` and `….toml` for recipes, anything else
    /// for a path.
    #[must_use]
    pub fn parse(text: OsString) -> Self {
        if text == "-" {
            return Self::Stdin;
        }
        let after = |prefix: &str| {
            let rest = text.as_bytes().strip_prefix(prefix.as_bytes())?;
            Some(split_tag(OsStr::from_bytes(rest)))
        };
        if let Some((path, tag)) = after("oci:") {
            return Self::Oci { path, tag };
        }
        for (prefix, format) in [("oci-archive:", Format::Oci), ("docker-archive:", Format::Docker)]
        {
            if let Some((path, tag)) = after(prefix) {
                return Self::ImageArchive { path, format, tag };
            }
        }
        if let Some(path) = text.as_bytes().strip_prefix(b"recipe:") {
            return Self::Recipe(OsStr::from_bytes(path).into());
        }
        let path = PathBuf::from(text);
        if path.extension() == Some(OsStr::new("toml")) {
            Self::Recipe(path)
        } else {
            Self::Path(path)
        }
    }

    /// The file or directory; none for standard input.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdin => None,
            Self::Path(path) | Self::Recipe(path) => Some(path),
            Self::Oci { path, .. } | Self::ImageArchive { path, .. } => Some(path),
        }
    }
}

/// A path and the tag behind a colon: the first colon before which there is a path that exists, since the full
/// name of an image (`site/node:v1`) has some of its own; otherwise the last. A path that exists has no tag,
/// whatever is in it.
fn split_tag(text: &OsStr) -> (PathBuf, Option<String>) {
    let bytes = text.as_bytes();
    let whole = (PathBuf::from(text), None);
    if whole.0.exists() {
        return whole;
    }
    let colons = || bytes.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    let before = |colon: usize| PathBuf::from(OsStr::from_bytes(&bytes[..colon]));
    let found = colons().find(|colon| *colon > 0 && before(*colon).exists());
    let tag =
        |colon: usize| std::str::from_utf8(&bytes[colon + 1..]).ok().filter(|t| !t.is_empty());
    match (found, colons().next_back()) {
        (Some(colon), _) => (before(colon), tag(colon).map(str::to_owned)),
        (None, Some(colon)) => match tag(colon) {
            Some(tag) if !tag.contains('/') => (before(colon), Some(tag.to_owned())),
            _ => whole,
        },
        (None, None) => whole,
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path)
            | Self::Oci { path, .. }
            | Self::ImageArchive { path, .. }
            | Self::Recipe(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

/// A source that was looked at: it is there, and of a known kind.
#[derive(Debug)]
pub(crate) struct Plan {
    kind: Kind,
    /// Of a file that must stay as it is.
    file: Option<FileStamp>,
}

#[derive(Debug)]
enum Kind {
    Directory(PathBuf),
    Tar { name: PathBuf, opened: (Opened, Compression) },
    Image { container: Container, wanted: Wanted },
    Recipe(Box<recipe::Plan>),
}

/// A root as a directory.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    /// For the manifest: what kind of source it was, and facts of it.
    pub(crate) facts: Vec<(&'static str, String)>,
}

/// Looks at a source, without changing anything. `platform` is for images.
///
/// # Errors
/// [`PackError::Source`], [`PackError::NotATar`].
pub(crate) fn examine(source: &Source, platform: &Platform) -> Result<Plan, PackError> {
    let file = match source {
        Source::Path(path) | Source::ImageArchive { path, .. } => FileStamp::take(path),
        Source::Stdin | Source::Oci { .. } | Source::Recipe(_) => None,
    };
    Ok(Plan { kind: examine_kind(source, platform)?, file })
}

fn examine_kind(source: &Source, platform: &Platform) -> Result<Kind, PackError> {
    let image = |container, format, tag: &Option<String>| {
        let wanted = Wanted { format, tag: tag.clone(), platform: platform.clone() };
        Ok(Kind::Image { container, wanted })
    };
    let open = |path: &PathBuf| {
        File::open(path).map_err(|source| PackError::Source { path: path.clone(), source })
    };
    match source {
        Source::Stdin => {
            let name = PathBuf::from("standard input");
            let error = |source| PackError::Source { path: name.clone(), source };
            let file = io::stdin().as_fd().try_clone_to_owned().map_err(error)?;
            let opened = archive::open(File::from(file), &name)?;
            Ok(Kind::Tar { name, opened })
        }
        Source::Oci { path, tag } => {
            open(path)?;
            image(Container::Directory(path.clone()), Format::Oci, tag)
        }
        Source::ImageArchive { path, format, tag } => {
            archive::open(open(path)?, path)?;
            image(Container::Archive(path.clone()), *format, tag)
        }
        Source::Recipe(path) => Ok(Kind::Recipe(Box::new(recipe::Plan::read(path)?))),
        Source::Path(path) => {
            let error = |e| PackError::Source { path: path.clone(), source: e };
            if fs::metadata(path).map_err(error)?.is_dir() {
                // read it now: a source without permission is not an empty source
                fs::read_dir(path).map_err(error)?;
                return if oci::is_layout(path) {
                    image(Container::Directory(path.clone()), Format::Oci, &None)
                } else {
                    Ok(Kind::Directory(path.clone()))
                };
            }
            let opened = archive::open(open(path)?, path)?;
            if oci::is_image(open(path)?, opened.1) {
                return image(Container::Archive(path.clone()), Format::Any, &None);
            }
            Ok(Kind::Tar { name: path.clone(), opened })
        }
    }
}

impl Plan {
    /// The step of making a directory of it, if there is one.
    pub(crate) fn stage(&self) -> Option<Stage> {
        match self.kind {
            Kind::Directory(_) => None,
            Kind::Tar { .. } | Kind::Image { .. } => Some(Stage::Unpack),
            Kind::Recipe(_) => Some(Stage::Build),
        }
    }

    /// Makes a directory of it, below `work` if it is none.
    ///
    /// The image is then made of the directory in any case, so that a tar and the tree that it was
    /// made of give the same image, and dracut finds the kernel modules as files.
    ///
    /// # Errors
    /// [`PackError::ChangedFile`], [`PackError::NotARoot`], those of the kind of source.
    pub(crate) fn prepare(
        self,
        work: &Path,
        place: &Place<'_>,
        observe: Observer<'_>,
    ) -> Result<Root, PackError> {
        let Self { kind, file } = self;
        let prepared = kind.prepare(work, place, observe);
        // a change explains whatever else went wrong
        file.map_or(Ok(()), |file| file.compare())?;
        prepared
    }
}

impl Kind {
    fn prepare(
        self,
        work: &Path,
        place: &Place<'_>,
        observe: Observer<'_>,
    ) -> Result<Root, PackError> {
        let into = work.join("root");
        let (root, given) = match self {
            Self::Directory(path) => {
                refuse_store_inside(&path, place.store)?;
                (Root::new(path.clone(), "directory"), path)
            }
            Self::Tar { name, opened } => {
                archive::unpack(opened, &name, &into, place, observe)?;
                (Root::new(into, "tar"), name)
            }
            Self::Image { container, wanted } => {
                let facts = oci::unpack(&container, &wanted, work, &into, place, observe)?;
                let (Container::Directory(path) | Container::Archive(path)) = container;
                (Root { path: into, facts }, path)
            }
            Self::Recipe(plan) => {
                plan.build(&into, place, observe)?;
                (Root { path: into.clone(), facts: plan.facts() }, into)
            }
        };
        if looks_like_a_root(&root.path) {
            return Ok(root);
        }
        Err(PackError::NotARoot { path: given, inside: root_inside(&root.path) })
    }
}

fn looks_like_a_root(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).symlink_metadata().is_ok();
    has("usr") || (has("etc") && has("bin"))
}

/// The name of a root in `dir`: live-build has it in `chroot` beside its configuration, and a tar is often made
/// of the directory instead of what is in it.
fn root_inside(dir: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let roots = entries.filter(|entry| is_directory(entry) && looks_like_a_root(&entry.path()));
    roots.map(|entry| PathBuf::from(entry.file_name())).min()
}

impl Root {
    fn new(path: PathBuf, kind: &str) -> Self {
        Self { path, facts: vec![("source", kind.to_owned())] }
    }
}

fn refuse_store_inside(source: &Path, store: &Path) -> Result<(), PackError> {
    let (real, real_store) = (fs::canonicalize(source), fs::canonicalize(store));
    match (real, real_store) {
        (Ok(real), Ok(real_store)) if real_store.starts_with(&real) => {
            Err(PackError::StoreInSource { store: store.to_owned(), path: source.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_is_called_decides() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("with:colon");
        fs::create_dir(&odd).unwrap();
        let own = |tag: &str| Some(tag.to_owned());
        let docker = |path: &str, tag| Source::ImageArchive {
            path: path.into(),
            format: Format::Docker,
            tag,
        };
        for (text, expected) in [
            ("-".to_owned(), Source::Stdin),
            ("./-".to_owned(), Source::Path("./-".into())),
            ("root.tar.zst".to_owned(), Source::Path("root.tar.zst".into())),
            ("node.toml".to_owned(), Source::Recipe("node.toml".into())),
            ("recipe:node".to_owned(), Source::Recipe("node".into())),
            ("./oci:x".to_owned(), Source::Path("./oci:x".into())),
            ("oci:/no/dir".to_owned(), Source::Oci { path: "/no/dir".into(), tag: None }),
            ("oci:/no/dir:v1".to_owned(), Source::Oci { path: "/no/dir".into(), tag: own("v1") }),
            (format!("oci:{}", odd.display()), Source::Oci { path: odd.clone(), tag: None }),
            (
                format!("oci:{}:v1", odd.display()),
                Source::Oci { path: odd.clone(), tag: own("v1") },
            ),
            (
                format!("docker-archive:{}:site/node:v1", odd.display()),
                docker(odd.to_str().unwrap(), own("site/node:v1")),
            ),
            ("docker-archive:f.tar:v1".to_owned(), docker("f.tar", own("v1"))),
            ("docker-archive:a:b/f.tar".to_owned(), docker("a:b/f.tar", None)),
        ] {
            assert_eq!(Source::parse(text.clone().into()), expected, "{text}");
        }
    }
}
