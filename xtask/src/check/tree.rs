//! The files of the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::workspace;

/// Folders that are never ours: build output, history, fuzzing results, captures.
const SKIPPED: [&str; 5] = ["target", ".git", ".lab", "corpus", "artifacts"];

/// The checkout.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
}

/// A file of the checkout: its path from the root with `/`, and its text.
#[derive(Debug)]
pub(crate) struct Text {
    /// Path from the root of the checkout.
    pub(crate) path: String,
    /// Content.
    pub(crate) text: String,
}

impl Tree {
    /// The checkout that this program was built from.
    pub(crate) fn here() -> Tree {
        Tree { root: workspace::root().to_owned() }
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Tree {
        Tree { root: root.to_owned() }
    }

    /// Its root folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// All files below the root that satisfy `wanted`, sorted, by path from the root.
    pub(crate) fn files(&self, wanted: impl Fn(&Path) -> bool) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let path = self.root.join(&folder);
            let context = || format!("cannot read folder {}", path.display());
            for entry in fs::read_dir(&path).with_context(context)? {
                let entry = entry.with_context(context)?;
                let name = folder.join(entry.file_name());
                let kind = entry.file_type().with_context(context)?;
                if kind.is_dir() {
                    if !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                        folders.push(name);
                    }
                } else if kind.is_file() && wanted(&name) {
                    found.push(name);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The text of one file.
    pub(crate) fn read(&self, path: &Path) -> anyhow::Result<Text> {
        let full = self.root.join(path);
        let bytes = fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Text { path: path.to_string_lossy().into_owned(), text })
    }

    /// The texts of all files with one of these endings (without the dot).
    pub(crate) fn texts(&self, endings: &[&str]) -> anyhow::Result<Vec<Text>> {
        let wanted = |path: &Path| {
            path.extension().is_some_and(|found| endings.iter().any(|ending| found == *ending))
        };
        self.files(wanted)?.iter().map(|path| self.read(path)).collect()
    }
}
