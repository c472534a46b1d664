//! The limits of the one program that every node loads before anything else.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::StaticTarget;
use crate::steps::Outcome;

/// The program that they are for.
pub(super) const PROGRAM: &str = "bee-initrd-client";

/// Most bytes of the program, stripped.
const MAX_PROGRAM: u64 = 1024 * 1024;

/// Most bytes that an initrd grows by: dracut is told to compress with zstd -19.
const MAX_COMPRESSED: u64 = 450 * 1024;

/// What a program takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    program: u64,
    /// By zstd -19.
    compressed: u64,
}

impl Sizes {
    /// Measures a program with the zstd of the system.
    pub(super) fn of(path: &Path) -> anyhow::Result<Sizes> {
        let program =
            path.metadata().with_context(|| format!("cannot look at {}", path.display()))?.len();
        let mut zstd = Command::new("zstd");
        let output = zstd.args(["-19", "--quiet", "--stdout"]).arg(path).output();
        let output = output.context("cannot start zstd; install it (Debian, Fedora: zstd)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "zstd fails on {}: {said}", path.display());
        Ok(Sizes { program, compressed: output.stdout.len() as u64 })
    }

    /// What is too large.
    pub(super) fn problems(self) -> Vec<String> {
        let limits = [
            (self.program, MAX_PROGRAM, "stripped"),
            (self.compressed, MAX_COMPRESSED, "after zstd -19"),
        ];
        let over = limits.into_iter().filter(|(is, most, _)| is > most);
        over.map(|(is, most, how)| {
            format!(
                "{PROGRAM} has {is} bytes {how}, {} more than the {most} that it may have; \
                 ARCHITECTURE.md, \"The size of the initrd client\", says what takes room",
                is - most
            )
        })
        .collect()
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROGRAM} has {} bytes, {} after zstd -19", self.program, self.compressed)
    }
}

/// Builds the program as `dist` does and holds it against the limits.
///
/// # Errors
/// When it cannot be built with musl, for which the limits are, or not measured.
pub(crate) fn step() -> anyhow::Result<Outcome> {
    let target = StaticTarget::choose()?;
    ensure!(target.is_musl(), "the limits are for musl, and rustup cannot add {}", target.triple);
    target.build("initrd", &[PROGRAM])?;
    let sizes = Sizes::of(&target.built("initrd").join(PROGRAM))?;
    Ok(match sizes.problems() {
        problems if problems.is_empty() => Outcome::Passed { notes: vec![sizes.to_string()] },
        problems => Outcome::Failed { problems },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_too_many_is_a_problem() {
        let largest = Sizes { program: MAX_PROGRAM, compressed: MAX_COMPRESSED };
        assert_eq!(largest.problems(), Vec::<String>::new());
        let program = Sizes { program: MAX_PROGRAM + 1, ..largest }.problems();
        assert!(program.len() == 1 && program[0].contains("stripped, 1 more"), "{program:?}");
        let both = Sizes { program: 2 << 20, compressed: 2 << 20 }.problems();
        assert!(both.len() == 2 && both[1].contains("zstd -19"), "{both:?}");
    }

    #[test]
    fn a_file_is_measured_as_it_is_and_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let sizes = Sizes::of(&path).unwrap();
        assert!(sizes.program == 100_000 && (1..1000).contains(&sizes.compressed), "{sizes}");
        assert!(Sizes::of(&dir.path().join("none")).is_err());
    }
}
