//! Why a recipe cannot be followed.

use std::io;
use std::path::PathBuf;

/// What is wrong with a recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// It is no TOML, or has a key that is not known, or lacks one. The text names line and key.
    #[error("{0}")]
    Syntax(String),
    /// A value that cannot be used.
    #[error("{key} = {value:?}: {why}")]
    Value {
        /// Which key.
        key: String,
        /// What it says.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A file that the recipe names cannot be used.
    #[error("cannot use {path}, which it names: files must lie in the recipe's folder")]
    File {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
