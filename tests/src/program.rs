//! Where the programs of this repository are, for tests that start them.

use std::env;
use std::path::PathBuf;

use crate::error::LabError;

/// Folder that holds the programs, when they are not beside the test.
const FOLDER_VARIABLE: &str = "BEESWARM_PROGRAMS";

/// The path of one of our programs: in `$BEESWARM_PROGRAMS`, or in cargo's target folder beside
/// the running test. A test of one crate cannot name the programs of another to cargo.
///
/// # Errors
/// [`LabError::NotBuilt`] when it is not there.
pub fn program(name: &'static str) -> Result<PathBuf, LabError> {
    let folder = match env::var_os(FOLDER_VARIABLE) {
        Some(folder) => Some(PathBuf::from(folder)),
        // target/debug/deps/test-1234 → target/debug
        None => env::current_exe().ok().and_then(|p| Some(p.parent()?.parent()?.to_owned())),
    };
    folder
        .map(|folder| folder.join(name))
        .filter(|path| path.is_file())
        .ok_or(LabError::NotBuilt { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_the_remedy() {
        let text = program("bee-of-no-kind").unwrap_err().to_string();
        assert!(text.contains("bee-of-no-kind") && text.contains("cargo build"), "{text}");
    }
}
