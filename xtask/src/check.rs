//! `cargo xtask check`: what can be said about the tree without running it.
//!
//! Every check runs, whatever the others say; the failures are listed again at the end. A check
//! whose tool is missing fails and names the package: it never passes for want of a tool.

use clap::Parser;

use crate::steps::{Outcome, Steps};
use crate::workspace::say;
use tools::Program;
use tree::Tree;

mod arrows;
mod cargo;
mod docs;
mod scripts;
mod source;
pub(crate) mod tools;
mod tree;
mod units;

/// Arguments of `cargo xtask check`.
#[derive(Debug, Clone, Default, Parser)]
pub(crate) struct Args {
    /// Run only the checks whose name contains this text
    #[arg(value_name = "TEXT")]
    only: Option<String>,
    /// Install missing tools with apt-get (needs root; always on when CI=true)
    #[arg(long)]
    install: bool,
}

/// One check.
struct Check {
    /// What it proves, in a few words.
    name: &'static str,
    /// Programs it calls.
    needs: &'static [Program],
    run: fn(&Tree) -> anyhow::Result<Outcome>,
}

const CHECKS: &[Check] = &[
    Check { name: "formatting", needs: &[tools::CARGO_FMT], run: cargo::fmt },
    Check { name: "file headers, stubs, unsafe code", needs: &[], run: source::content },
    Check { name: "file length", needs: &[], run: source::length },
    Check { name: "direction of dependencies", needs: &[], run: arrows::direction },
    Check { name: "lints of every crate", needs: &[], run: arrows::lints },
    Check { name: "documents", needs: &[], run: docs::check },
    Check { name: "shell syntax", needs: &[tools::DASH], run: scripts::syntax },
    Check { name: "shellcheck", needs: &[tools::SHELLCHECK], run: scripts::shellcheck },
    Check { name: "systemd units", needs: &[tools::SYSTEMD_ANALYZE], run: units::verify },
    Check { name: "hardening of units", needs: &[tools::SYSTEMD_ANALYZE], run: units::exposure },
    Check { name: "clippy", needs: &[tools::CARGO_CLIPPY], run: cargo::clippy },
    Check { name: "rustdoc", needs: &[], run: cargo::rustdoc },
    Check { name: "fuzz targets compile", needs: &[], run: cargo::fuzz },
];

/// Runs the checks.
///
/// # Errors
/// When one of them fails.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    run_into(args, &mut steps)?;
    let (passed, failed) = (steps.passed(), steps.failed());
    if failed > 0 {
        steps.print_failures();
        anyhow::bail!("{failed} of {} checks failed", passed + failed);
    }
    say(format_args!("all {passed} checks passed"));
    Ok(())
}

/// Runs the checks as steps of a longer run.
///
/// # Errors
/// When no check matches the arguments.
pub(crate) fn run_into(args: &Args, steps: &mut Steps) -> anyhow::Result<()> {
    let tree = Tree::here();
    let chosen: Vec<&Check> = CHECKS
        .iter()
        .filter(|check| args.only.as_ref().is_none_or(|text| check.name.contains(text.as_str())))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        anyhow::bail!("no check has that in its name; there are: {}", names.join(", "));
    }
    let needed: Vec<Program> = chosen.iter().flat_map(|check| check.needs).copied().collect();
    if args.install || tools::in_ci() {
        // a failure shows in the checks that miss their tool
        tools::install_missing(&needed).unwrap_or_else(|error| say(format_args!("{error:#}")));
    }
    for check in chosen {
        steps.run(check.name, || {
            let missing: Vec<String> =
                check.needs.iter().filter_map(Program::missing_message).collect();
            match missing.is_empty() {
                true => (check.run)(&tree),
                false => Ok(Outcome::of(missing)),
            }
        });
    }
    Ok(())
}
