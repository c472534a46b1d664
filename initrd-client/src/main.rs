//! `bee-initrd-client`: see `--help`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use initrd_client::cli::{self, Command};
use initrd_client::discover::chain;
use initrd_client::exit::Exit;
use initrd_client::narrator::{Narrator, Style};
use initrd_client::{boot, fetch};

/// Longest wait for the tracker to take the last events, in the boot and after a fetch.
const LAST_WORDS: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    let (command, style) = match cli::parse(std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => {
            // if standard error is closed, the exit code has to do
            let _ = writeln!(std::io::stderr(), "bee-initrd-client: {error}");
            return Exit::Usage.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bee-initrd-client: no event loop: {error}");
            return Exit::Failure.into();
        }
    };
    runtime.block_on(run(command, style)).into()
}

async fn run(command: Command, style: Style) -> Exit {
    let mut out = std::io::stdout();
    let mut narrator = Narrator::new(style, Box::new(std::io::stdout()));
    let failure = match command {
        Command::Help => {
            let _ = write!(out, "{}{}", cli::HELP, Exit::HELP);
            return Exit::Success;
        }
        Command::Version => {
            let _ = writeln!(out, "bee-initrd-client {}", env!("CARGO_PKG_VERSION"));
            return Exit::Success;
        }
        Command::Fetch(options) => match fetch::run(options, &mut narrator).await {
            Ok(()) => None,
            Err(error) => Some((chain(&error), error.exit())),
        },
        Command::Boot(options) => {
            if options.cmdline.is_none() {
                narrator.use_kernel_log();
            }
            match boot::run(options, &mut narrator).await {
                Ok(()) => None,
                Err(error) => Some((chain(&error), error.exit())),
            }
        }
    };
    if let Some((message, exit)) = &failure {
        narrator.failed(message, *exit);
    }
    narrator.flush(LAST_WORDS).await;
    failure.map_or(Exit::Success, |(_, exit)| exit)
}
