//! `bee-seeder`: hands out images.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use beeswarm_seeder::cli::{Cli, Command, Common};
use beeswarm_seeder::config::{self, NodeOptions, SeedOptions, WatchOptions};
use beeswarm_seeder::exit::Exit;
use beeswarm_seeder::output::Output;
use beeswarm_seeder::record::{self, RecordError, RecordOptions, init};
use beeswarm_seeder::session::Signals;
use beeswarm_seeder::{node, seed, watch};
use clap::Parser;
use sys::notify::Notifier;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|program| init::is_meant(&program)) {
        let error = init::run(args);
        let _ = writeln!(std::io::stderr(), "{}: {error}", init::NAME);
        return Exit::Failure.into();
    }
    let Cli { command, common } = Cli::parse();
    log();
    let (exit, result) = match command {
        Command::Seed(options) => seed(options, &common),
        Command::Watch(options) => watch(options, &common),
        Command::Node(options) => node(options, &common),
        Command::RecordOrder(options) => outcome(record(&options), |_| Exit::Failure),
    };
    if let Err(error) = result {
        // Nobody to tell: the exit code remains.
        let _ = writeln!(std::io::stderr(), "bee-seeder: {error:#}");
    }
    exit.into()
}

/// To standard error without time: the journal adds it. `RUST_LOG` takes a level.
fn log() {
    let level = std::env::var("RUST_LOG").ok().and_then(|level| level.parse().ok());
    let logger = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(level.unwrap_or(tracing::Level::INFO));
    logger.without_time().init();
}

type Outcome = (Exit, anyhow::Result<()>);

/// Splits an error into what the shell sees and what people read.
fn outcome<E>(result: Result<(), E>, exit: impl FnOnce(&E) -> Exit) -> Outcome
where
    E: std::error::Error + Send + Sync + 'static,
{
    match result {
        Ok(()) => (Exit::Stopped, Ok(())),
        Err(error) => (exit(&error), Err(error.into())),
    }
}

fn failed(exit: Exit, error: impl Into<anyhow::Error>) -> Outcome {
    (exit, Err(error.into()))
}

fn seed(options: SeedOptions, common: &Common) -> Outcome {
    let file = config::read::<SeedOptions>(common.config.as_deref());
    let settings = match file.and_then(|file| options.resolve(file)) {
        Ok(settings) => settings,
        Err(error) => return failed(Exit::Usage, error),
    };
    let output = Output::new(common.json);
    run(2, |notifier, stop| async move {
        outcome(seed::run(settings, output, &notifier, stop).await, seed::SeedError::exit)
    })
}

fn watch(options: WatchOptions, common: &Common) -> Outcome {
    let file = config::read::<WatchOptions>(common.config.as_deref());
    let settings = match file.and_then(|file| options.resolve(file)) {
        Ok(settings) => settings,
        Err(error) => return failed(Exit::Usage, error),
    };
    let output = Output::new(common.json);
    run(4, |notifier, stop| async move {
        outcome(watch::run(settings, output, &notifier, stop).await, watch::WatchError::exit)
    })
}

fn record(options: &RecordOptions) -> Result<(), RecordError> {
    record::run(options, || {
        if options.output.is_some() {
            // whoever started us may wait for this, or be gone
            let _ = writeln!(std::io::stdout(), "recording");
        }
    })
}

fn node(options: NodeOptions, common: &Common) -> Outcome {
    let settings = match config::read::<NodeOptions>(common.config.as_deref()) {
        Ok(file) => options.resolve(file),
        Err(error) => return failed(Exit::Usage, error),
    };
    // Before the runtime, which starts threads.
    let prepared = match node::prepare(settings) {
        Ok(prepared) => prepared,
        Err(error) => return outcome(Err(error), node::NodeError::exit),
    };
    let output = Output::new(common.json);
    run(1, |notifier, stop| async move {
        outcome(prepared.run(output, &notifier, stop).await, node::NodeError::exit)
    })
}

/// Runs a command until it ends, or until a second signal ends it at once.
fn run<F>(threads: usize, command: impl FnOnce(Notifier, CancellationToken) -> F) -> Outcome
where
    F: Future<Output = Outcome>,
{
    if let Err(error) = sys::limits::raise_open_files() {
        tracing::warn!(err = %error, "going on with the present limit");
    }
    let runtime = match Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(Exit::Failure, error),
    };
    let outcome = runtime.block_on(async {
        // Before anybody is told that we are there: a signal from then on ends us in order.
        let signals = match Signals::catch().context("cannot catch signals") {
            Ok(signals) => signals,
            Err(error) => return failed(Exit::Failure, error),
        };
        let stop = CancellationToken::new();
        tokio::select! {
            outcome = command(Notifier::from_env(), stop.clone()) => outcome,
            () = signals.obey(stop) => (Exit::Stopped, Ok(())),
        }
    });
    Runtime::shutdown_background(runtime);
    outcome
}
