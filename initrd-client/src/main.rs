//! `bee-initrd-client`: see `--help`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use initrd_client::cli::{self, Command};
use initrd_client::discover::chain;
use initrd_client::exit::Exit;
use initrd_client::narrator::{Narrator, Style};
use initrd_client::{boot, fetch};

/// Longest wait for the tracker to take the last events, in the boot and after a fetch, which
/// must end within a second of SIGTERM.
const LAST_WORDS: Duration = Duration::from_millis(700);
const LAST_WORDS_OF_FETCH: Duration = Duration::from_millis(250);

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
    let exit = runtime.block_on(run(command, style));
    // a name that is still being looked up holds up nobody
    runtime.shutdown_background();
    exit.into()
}

async fn run(command: Command, style: Style) -> Exit {
    let mut out = std::io::stdout();
    let mut narrator = Narrator::new(style, Box::new(std::io::stdout()));
    let mut last_words = LAST_WORDS;
    let failure = match command {
        Command::Help => {
            let _ = write!(out, "{}{}", cli::HELP, Exit::HELP);
            return Exit::Success;
        }
        Command::Version => {
            let _ = writeln!(out, "bee-initrd-client {}", env!("CARGO_PKG_VERSION"));
            return Exit::Success;
        }
        Command::Fetch(options) => {
            last_words = LAST_WORDS_OF_FETCH;
            match fetch::run(options, &mut narrator).await {
                Ok(()) => None,
                Err(error) => Some((chain(&error), error.exit(), error.exit().cause())),
            }
        }
        Command::Boot(options) => {
            if options.cmdline.is_none() {
                narrator.use_kernel_log();
            }
            match boot::run(options, &mut narrator).await {
                Ok(()) => None,
                Err(error) => Some((chain(&error), error.exit(), error.cause())),
            }
        }
    };
    if let Some((message, exit, cause)) = &failure {
        narrator.failed(message, *exit, *cause);
    }
    narrator.flush(last_words).await;
    failure.map_or(Exit::Success, |(_, exit, _)| exit)
}
