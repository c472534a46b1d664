//! A real root of Debian or Ubuntu for nodes: mmdebstrap makes the base once, our programs come on top each time.
//!
//! ```text
//! recipe (suite, kernel, packages) ─ mmdebstrap ─▶ CACHE/root-KEY.tar   kept; KEY is the recipe's digest
//! base + programs + units + ssh key ─ assemble ──▶ folder for `bee-packer pack --source`
//! ```

use std::io;
use std::path::PathBuf;

mod apt;
mod base;
mod layer;
mod recipe;

pub use apt::UBUNTU_KEYRING;
pub use base::{Base, MMDEBSTRAP};
pub use layer::{Layer, Program, SSH_KEYGEN, demo_key};
pub use recipe::{Kernel, Recipe, SUITES};

/// Why a root could not be built.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A program is missing, or the lab has another trouble.
    #[error(transparent)]
    Lab(#[from] crate::LabError),
    /// A file could not be made, read or written.
    #[error("cannot {operation} {path}")]
    File {
        /// "create", "read", "write".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// mmdebstrap failed.
    #[error(
        "mmdebstrap could not build the {suite} root; the end of {log}:\n{tail}\n\
         Remedy: see that this machine reaches its package mirror (apt-get update works), then run again"
    )]
    Bootstrap {
        /// Debian release.
        suite: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A step of assembling failed.
    #[error("{what} failed: {output}")]
    Step {
        /// Which step.
        what: &'static str,
        /// What it printed.
        output: String,
    },
}

impl RootError {
    /// A file error for `path`.
    fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> RootError {
        let path = path.into();
        move |source| RootError::File { operation, path, source }
    }
}
