//! Names of log files: one pair per process, never two processes in one file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The folder of a lab's logs, and the names that are taken.
#[derive(Debug)]
pub(crate) struct Logs {
    folder: PathBuf,
    taken: Mutex<HashSet<String>>,
}

impl Logs {
    pub(crate) fn new(folder: PathBuf) -> Logs {
        Logs { folder, taken: Mutex::default() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Paths for a process's standard error and standard output.
    pub(crate) fn pair(&self, wanted: &str) -> (PathBuf, PathBuf) {
        // a panic while this was held leaves a set of names, which is still good
        let mut taken = self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut name = wanted.to_owned();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}-{number}");
        }
        (self.folder.join(format!("{name}.log")), self.folder.join(format!("{name}.out")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_processes_share_a_file() {
        let logs = Logs::new(PathBuf::from("/logs"));
        assert_eq!(logs.pair("a").0, Path::new("/logs/a.log"));
        assert_eq!(logs.pair("a").1, Path::new("/logs/a-2.out"));
        assert_eq!(logs.pair("a").0, Path::new("/logs/a-3.log"));
    }
}
