//! `cargo xtask`: the commands of people who work on Beeswarm or try it.
//!
//! One file per subcommand. A subcommand offers `Args` (clap) and `run(Args) -> anyhow::Result<()>`;
//! to add one, declare its module and add a line to [`Task`] and to `main`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod demo;
mod interrupt;
mod lab_shell;
mod sudo;
mod workspace;

/// Developer and demo commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", help_expected = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

// `check`, `test`, `bench` and `dist` belong here as well, each in a module of its own.
#[derive(Debug, Subcommand)]
enum Task {
    /// Boots a small cluster from one image: QEMU nodes by network, and nodes as processes
    Demo(demo::Args),
    /// Opens a shell in a lab of network namespaces
    Lab(lab_shell::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Demo(args) => demo::run(args),
        Task::Lab(args) => lab_shell::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            workspace::complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
