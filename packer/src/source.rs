//! Where the root comes from: as a directory, whatever it was.

use std::fs;
use std::path::{Path, PathBuf};

use crate::archive;
use crate::error::PackError;
use crate::event::Stage;
use crate::tool::Place;

/// A root as a directory.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    /// For the manifest: `directory` or `tar`.
    pub(crate) kind: &'static str,
}

/// Makes a directory of what `--source` says; a tar is unpacked into `work`.
///
/// The image is then made of the directory in any case, so that a tar and the tree that it was
/// made of give the same image, and dracut finds the kernel modules as files.
pub(crate) fn prepare(source: &Path, work: &Path, store: &Path) -> Result<Root, PackError> {
    let error = |e| PackError::Source { path: source.to_owned(), source: e };
    let meta = fs::metadata(source).map_err(error)?;
    let root = if meta.is_dir() {
        // read it now: a source without permission is not an empty source
        fs::read_dir(source).map_err(error)?;
        let (real, real_store) = (fs::canonicalize(source), fs::canonicalize(store));
        if let (Ok(real), Ok(real_store)) = (real, real_store)
            && real_store.starts_with(&real)
        {
            return Err(PackError::StoreInSource {
                store: store.to_owned(),
                path: source.to_owned(),
            });
        }
        Root { path: source.to_owned(), kind: "directory" }
    } else {
        let compression = archive::recognise(source)?;
        let into = work.join("root");
        let place = Place { store, step: Stage::Unpack.describe() };
        archive::unpack(source, compression, &into, &place)?;
        Root { path: into, kind: "tar" }
    };
    let has = |name: &str| root.path.join(name).symlink_metadata().is_ok();
    if has("usr") || (has("etc") && has("bin")) {
        Ok(root)
    } else {
        Err(PackError::NotARoot { path: source.to_owned() })
    }
}
