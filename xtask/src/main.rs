//! `cargo xtask`: the commands of people who work on Beeswarm or try it.
//!
//! One file per subcommand. A subcommand offers `Args` (clap) and `run(Args) -> anyhow::Result<()>`;
//! to add one, declare its module and add a line to [`Task`] and to `main`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod api_test;
mod bench;
mod check;
mod demo;
mod dist;
mod interrupt;
mod lab_shell;
mod page_test;
mod python;
mod rqbit;
mod steps;
mod sudo;
mod test;
mod workspace;

/// Developer and demo commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", help_expected = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Boots a small cluster from one image: QEMU nodes by network, and nodes as processes
    Demo(demo::Args),
    /// Opens a shell in a lab of network namespaces
    Lab(lab_shell::Args),
    /// Checks formatting, lints, documentation, scripts, units and the workspace's own rules
    Check(check::Args),
    /// Runs everything: the checks, the tests, the lab and the boot
    Test(test::Args),
    /// Measures the swarm in a lab, next to other clients
    Bench(bench::Args),
    /// Shows the status page to a real browser, with live and with recorded nodes
    PageTest(page_test::Args),
    /// Lets schemathesis and Prometheus' library read the tracker's API
    ApiTest(api_test::Args),
    /// Builds the archive that is installed on hosts
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Demo(args) => demo::run(args),
        Task::Lab(args) => lab_shell::run(args),
        Task::Check(args) => check::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(args),
        Task::PageTest(args) => page_test::run(&args),
        Task::ApiTest(args) => api_test::run(&args),
        Task::Dist(args) => dist::run(&args),
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
