//! `bee-tracker nodes`: the nodes of a running tracker in a terminal, by way of its API.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::NodesArgs;
use crate::config::DEFAULT_PORT;
use client::{AskError, Client};

mod table;

use table::{NodeLine, Screen, StalledLine};

/// Longest answer, in bytes: ten thousand nodes take a tenth.
const MAX_ANSWER: u64 = 256 << 20;

/// Why the nodes cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NodesError(#[from] Failure);

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the answer cannot be read (is this bee-tracker as new as the one that serves?)")]
    Answer(#[source] serde_json::Error),
}

/// Shows the nodes once, or until interrupted.
///
/// # Errors
/// [`NodesError`] when the tracker cannot be asked. While watching only the first look counts: later the
/// error is shown, with what was seen last.
pub fn run(args: &NodesArgs) -> Result<(), NodesError> {
    Ok(show(args)?)
}

fn show(args: &NodesArgs) -> Result<(), Failure> {
    let client = Client::new(&args.tracker, DEFAULT_PORT, &args.tls, None)?;
    let path = if args.stalled { "/api/v1/stalled" } else { "/api/v1/nodes" };
    let screen = Screen::of_this_process();
    let mut seen = ask(&client, path)?;
    let mut asked = Instant::now();
    let mut trouble = None;
    loop {
        let text = if args.json {
            format!("{seen}\n")
        } else {
            let age = asked.elapsed();
            shown(args, &screen, &seen, trouble.as_ref().map(|error| (error, age)))?
        };
        if !write(&text, args.watch && !args.json && io::stdout().is_terminal()) || !args.watch {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(args.every));
        match ask(&client, path) {
            Ok(answer) => (seen, asked, trouble) = (answer, Instant::now(), None),
            Err(error) if args.json => return Err(error),
            Err(error) => trouble = Some(error),
        }
    }
}

fn ask(client: &Client, path: &str) -> Result<Value, Failure> {
    serde_json::from_slice(&client.send(path, None, MAX_ANSWER)?).map_err(Failure::Answer)
}

fn shown(
    args: &NodesArgs,
    screen: &Screen,
    seen: &Value,
    trouble: Option<(&Failure, Duration)>,
) -> Result<String, Failure> {
    let mut text = if args.stalled {
        table::stalled(&read::<StalledLine>(seen)?, screen)
    } else {
        table::nodes(read::<NodeLine>(seen)?, screen)
    };
    if let Some((error, age)) = trouble {
        let why = crate::catalog::describe(error);
        let line = format!("as it was {} s ago: {why}", age.as_secs());
        text.push_str(&screen.paint(table::RED, &line));
        text.push('\n');
    }
    Ok(text)
}

fn read<T: serde::de::DeserializeOwned>(seen: &Value) -> Result<Vec<T>, Failure> {
    serde_json::from_value(seen.clone()).map_err(Failure::Answer)
}

/// Writes all of it; `again` puts it in the place of what is on the screen. False when nobody reads.
fn write(text: &str, again: bool) -> bool {
    let mut out = io::stdout().lock();
    let text = if again {
        // to the corner, each line to its end, and what is below: nothing flickers
        format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
    } else {
        text.to_owned()
    };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
