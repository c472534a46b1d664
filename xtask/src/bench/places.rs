//! Where a benchmark finds our programs and puts its results.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::contender::{self, Symbols};
use super::publish;
use crate::workspace;

/// Folders of one benchmark.
#[derive(Debug)]
pub(crate) struct Places {
    /// Has our programs.
    pub(crate) programs: PathBuf,
    /// Takes logs and results.
    pub(crate) output: PathBuf,
    published: Option<PathBuf>,
}

impl Places {
    /// Builds our programs unless a folder has them, and makes the folder for results.
    ///
    /// # Errors
    /// When `--publish` is no name, nothing can be built, or a folder is missing or cannot be made.
    pub(crate) fn prepare(
        programs: Option<&Path>,
        output: &Path,
        publish: Option<&str>,
    ) -> anyhow::Result<Self> {
        Self::prepare_with(programs, output, publish, Symbols::Stripped)
    }

    /// The same, with programs that are built as a profiler wants them.
    ///
    /// # Errors
    /// As [`Places::prepare`].
    pub(crate) fn prepare_with(
        programs: Option<&Path>,
        output: &Path,
        publish: Option<&str>,
        symbols: Symbols,
    ) -> anyhow::Result<Self> {
        let published = publish.map(|name| publish::folder(workspace::root(), name)).transpose()?;
        let programs = contender::programs(programs, symbols)?;
        fs::create_dir_all(output)
            .with_context(|| format!("cannot create {}", output.display()))?;
        Ok(Self { programs, output: output.canonicalize()?, published })
    }

    /// How their paths are written in results: those of this machine say nothing elsewhere.
    pub(crate) fn aliases(&self) -> [(&Path, &'static str); 3] {
        [(&self.output, "OUTPUT/"), (&self.programs, ""), (workspace::root(), "")]
    }

    /// The folders that results go to.
    pub(crate) fn results(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.output), self.published.as_ref()].into_iter().flatten().map(PathBuf::as_path)
    }
}
