//! Where the kernel arguments are read from: dracut's order, later files win.

use std::io;
use std::path::{Path, PathBuf};

use crate::folder;

/// A source of kernel arguments could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the kernel arguments from {}", path.display())]
pub struct CmdlineError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The files below `root` that dracut reads, first to last (dracut.cmdline(7)): what the initrd was
/// built with, then what the boot loader says. Those that do not exist are skipped.
#[must_use]
pub fn dracut_files(root: &Path) -> Vec<PathBuf> {
    let mut baked = folder::entries(&root.join("etc/cmdline.d"));
    baked.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    baked.push(root.join("etc/cmdline"));
    baked.push(root.join("proc/cmdline"));
    baked.retain(|path| path.exists());
    baked
}

/// The arguments in all of `files` as one line.
///
/// # Errors
/// [`CmdlineError`] when one cannot be read.
pub fn read(files: &[PathBuf]) -> Result<String, CmdlineError> {
    let mut line = String::new();
    for path in files {
        let bytes =
            std::fs::read(path).map_err(|source| CmdlineError { path: path.clone(), source })?;
        // a boot loader may pass any byte; ours are ASCII
        line.push_str(&String::from_utf8_lossy(&bytes));
        line.push(' ');
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_loader_has_the_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("etc/cmdline.d")).unwrap();
        std::fs::create_dir_all(root.join("proc")).unwrap();
        std::fs::write(root.join("etc/cmdline.d/b.conf"), "beeswarm.listen=0.0.0.0:2\n").unwrap();
        std::fs::write(root.join("etc/cmdline.d/a.conf"), "root=beeswarm:/x.torrent\n").unwrap();
        std::fs::write(root.join("etc/cmdline.d/readme"), "root=/dev/sda\n").unwrap();
        std::fs::write(root.join("proc/cmdline"), b"quiet \xff beeswarm.listen=0.0.0.0:3\n")
            .unwrap();
        let line = read(&dracut_files(root)).unwrap();
        let args = proto::kernel_args::KernelArgs::parse(&line).unwrap();
        assert_eq!(
            args.source,
            proto::kernel_args::Source::BakedTorrent("/x.torrent".to_owned()),
            "{line}"
        );
        assert_eq!(args.listen.unwrap().port(), 3, "{line}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(&[PathBuf::from("/nonexistent/cmdline")]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/cmdline"));
    }
}
