//! The folder of one run: `.lab/runs/N`, with `.lab/runs/latest` pointing at it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::workspace::lab_folder;

/// How many runs are kept.
const KEPT: usize = 8;

/// Logs and results of this run.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    // held as long as the run lasts: runs share caches and the store
    _lock: Flock<File>,
}

impl RunFolder {
    /// Makes the next folder and removes the oldest ones.
    pub(crate) fn create() -> Result<RunFolder> {
        let runs = lab_folder().join("runs");
        fs::create_dir_all(&runs).with_context(|| format!("cannot create {}", runs.display()))?;
        let lock = runs.join("lock");
        let file =
            File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .context("another demo is running in this repository")?;
        let numbers = numbers(&runs)?;
        for old in numbers.iter().rev().skip(KEPT - 1) {
            let path = runs.join(old.to_string());
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove the old run {}", path.display()))?;
        }
        let number = numbers.last().map_or(1, |last| last + 1);
        let path = runs.join(number.to_string());
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let latest = runs.join("latest");
        // it may not be there; a real trouble shows in the next line
        let _ = fs::remove_file(&latest);
        symlink(number.to_string(), &latest).context("cannot point .lab/runs/latest at the run")?;
        Ok(RunFolder { path, _lock: lock })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The runs that are there, oldest first.
fn numbers(runs: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(runs).with_context(|| format!("cannot read {}", runs.display()))? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
