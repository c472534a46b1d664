//! Finding what goes into the initrd: our client and our dracut module.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::PackError;
use crate::initrd_error::InitrdError;

const CLIENT: &str = "bee-initrd-client";
const MODULE: &str = "55beeswarm";
const HOOK: &str = "initramfs-tools";

/// The client: as given, or next to this program, in `/usr/lib/beeswarm`, in `PATH`.
///
/// # Errors
/// [`PackError::NoClient`] with the paths tried; [`PackError::Read`] when the given one is absent.
pub(crate) fn client(given: Option<&Path>) -> Result<PathBuf, PackError> {
    let mut tried: Vec<PathBuf> = own_dir().map(|dir| dir.join(CLIENT)).into_iter().collect();
    tried.push(Path::new("/usr/lib/beeswarm").join(CLIENT));
    let path = env::var_os("PATH").unwrap_or_default();
    tried.extend(env::split_paths(&path).map(|dir| dir.join(CLIENT)));
    choose(given, &tried, Path::is_file)?
        .ok_or_else(|| PackError::NoClient { looked: list(&tried) })
}

/// The dracut module: as given, or installed in dracut's own place, or next to this program.
///
/// # Errors
/// [`PackError::NoDracutModule`] with the paths tried; [`PackError::Read`] when the given one has
/// no `module-setup.sh`.
pub(crate) fn dracut_module(given: Option<&Path>) -> Result<PathBuf, PackError> {
    let mut tried = vec![Path::new("/usr/lib/dracut/modules.d").join(MODULE)];
    if let Some(dir) = own_dir() {
        tried.push(dir.join("../lib/dracut/modules.d").join(MODULE));
        tried.push(dir.join(MODULE));
    }
    let has_setup = |dir: &Path| dir.join("module-setup.sh").is_file();
    choose(given, &tried, has_setup)?
        .ok_or_else(|| PackError::NoDracutModule { looked: list(&tried) })
}

/// Our hook for initramfs-tools: as given, or installed, or next to this program.
///
/// # Errors
/// [`InitrdError::NoHook`] with the paths tried; [`PackError::Read`] when the given one has no
/// `hooks/beeswarm`.
pub(crate) fn initramfs_hook(given: Option<&Path>) -> Result<PathBuf, PackError> {
    let mut tried = vec![Path::new("/usr/share/beeswarm").join(HOOK)];
    if let Some(dir) = own_dir() {
        tried.push(dir.join("../share/beeswarm").join(HOOK));
        tried.push(dir.join(HOOK));
    }
    let has_hook = |dir: &Path| dir.join("hooks/beeswarm").is_file();
    choose(given, &tried, has_hook)?
        .ok_or_else(|| PackError::Initrd(InitrdError::NoHook { looked: list(&tried) }))
}

fn own_dir() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.to_owned())
}

/// `given` if it is right, otherwise the first of `tried` that is.
fn choose(
    given: Option<&Path>,
    tried: &[PathBuf],
    right: impl Fn(&Path) -> bool,
) -> Result<Option<PathBuf>, PackError> {
    let found = match given {
        Some(path) if right(path) => Some(path),
        Some(path) => {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(PackError::Read { path: path.to_owned(), source });
        }
        None => tried.iter().map(PathBuf::as_path).find(|path| right(path)),
    };
    found
        .map(|path| {
            path.canonicalize().map_err(|source| PackError::Read { path: path.to_owned(), source })
        })
        .transpose()
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_taken_or_refused_but_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("client");
        std::fs::write(&file, "").unwrap();
        assert_eq!(client(Some(&file)).unwrap(), file.canonicalize().unwrap());
        let missing = dir.path().join("missing");
        assert!(matches!(client(Some(&missing)), Err(PackError::Read { .. })));
        assert!(matches!(dracut_module(Some(dir.path())), Err(PackError::Read { .. })));
        std::fs::write(dir.path().join("module-setup.sh"), "").unwrap();
        assert!(dracut_module(Some(dir.path())).is_ok());
    }

    #[test]
    fn the_first_that_is_right_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| dir.path().join(name));
        std::fs::write(&paths[1], "").unwrap();
        std::fs::write(&paths[2], "").unwrap();
        let found = choose(None, &paths, Path::is_file).unwrap();
        assert_eq!(found, Some(paths[1].canonicalize().unwrap()));
        assert_eq!(choose(None, &paths[..1], Path::is_file).unwrap(), None);
    }
}
