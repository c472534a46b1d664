//! `bee-tracker`: see the library, `beeswarm_tracker`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use beeswarm_tracker::cli::{Cli, Command};
use beeswarm_tracker::dhcp::{self, DhcpOptions};
use beeswarm_tracker::{Config, Notice, Server, terminal};
use clap::Parser as _;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::{self, error::RecvError};

/// Exit code of a wrong command line (also clap's) or configuration.
const USAGE: u8 = 2;

/// What `--json` says besides [`beeswarm_tracker::Notice`].
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Listening {
        address: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        udp: Option<SocketAddr>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tls: Option<SocketAddr>,
    },
    Stopped,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        // what it writes may be read from a terminal: nothing else is said
        Some(Command::DnsmasqConfig(options)) => return dnsmasq_config(options),
        Some(Command::Nodes(args)) => {
            log();
            return match terminal::run(args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.into(), 1),
            };
        }
        None => log(),
    }
    let json = cli.json;
    let config = match Config::load(cli) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), USAGE),
    };
    if let Err(error) = sys::limits::raise_open_files() {
        tracing::warn!(%error, "many connections at once may be refused");
    }
    let runtime = match tokio::runtime::Runtime::new().context("cannot start the runtime") {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let ended = runtime.block_on(run(config, json));
    // a request to a management controller is not waited for
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn dnsmasq_config(options: &DhcpOptions) -> ExitCode {
    let text = match dhcp::render(options) {
        Ok(text) => text,
        Err(error) => return fail(&error.into(), USAGE),
    };
    let written = match &options.output {
        Some(file) => {
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
        }
        None => std::io::stdout().write_all(text.as_bytes()).context("cannot write"),
    };
    written.map_or_else(|error| fail(&error, 1), |()| ExitCode::SUCCESS)
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

async fn run(config: Config, json: bool) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let notifier = sys::notify::Notifier::from_env();
    let server = Server::bind(config).await?;
    let address = server.local_addr();
    let udp = server.udp_addr();
    tracing::info!(%address, "listening");
    if let Some(udp) = udp {
        tracing::info!(address = %udp, "listening for UDP");
    }
    let notices = json.then(|| server.notices());
    let tls = server.tls_addr();
    if let Some(tls) = tls {
        tracing::info!(address = %tls, "listening for TLS");
    }
    // who starts us reads the first line
    print(json, &Line::Listening { address, udp, tls });
    let printer = notices.map(print_notices);
    notifier.ready();
    notifier.status(&format!("listening on {address}"));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = feed_watchdog(&notifier) => {}
    }
    notifier.stopping();
    tracing::info!("stopping");
    server.shutdown();
    tokio::select! {
        () = server.join() => {}
        // a second signal ends it at once
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(printer) = printer {
        printer.abort();
    }
    print(json, &Line::Stopped);
    Ok(())
}

/// Tells a watching service manager that the runtime still turns; never ends.
async fn feed_watchdog(notifier: &sys::notify::Notifier) {
    let Some(every) = notifier.watchdog_interval() else { return std::future::pending().await };
    loop {
        tokio::time::sleep(every).await;
        notifier.watchdog();
    }
}

fn print_notices(mut notices: broadcast::Receiver<Notice>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            match notices.recv().await {
                Ok(notice) => print(true, &notice),
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "notices not printed"),
                Err(RecvError::Closed) => return,
            }
        }
    })
}

/// One JSON object on one line. Whoever read it may have gone: that is no reason to stop serving.
fn print(json: bool, line: &impl Serialize) {
    if let (true, Ok(text)) = (json, serde_json::to_string(line)) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "bee-tracker: {error:#}");
    ExitCode::from(code)
}
