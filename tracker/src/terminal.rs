//! `bee-tracker nodes`: the nodes of a running tracker in a terminal, by way of its API.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::NodesArgs;

mod client;
mod table;

pub use client::AskError;
use client::Client;
use table::{NodeLine, Screen, StalledLine};

/// Shows the nodes once, or until interrupted.
///
/// # Errors
/// [`AskError`] when the tracker cannot be asked. While watching only the first look counts: later the
/// error is shown, with what was seen last.
pub fn run(args: &NodesArgs) -> Result<(), AskError> {
    let client = Client::new(&args.tracker)?;
    let path = if args.stalled { "/api/v1/stalled" } else { "/api/v1/nodes" };
    let screen = Screen::of_this_process();
    let mut seen = client.ask(path)?;
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
        match client.ask(path) {
            Ok(answer) => (seen, asked, trouble) = (answer, Instant::now(), None),
            Err(error) if args.json => return Err(error),
            Err(error) => trouble = Some(error),
        }
    }
}

fn shown(
    args: &NodesArgs,
    screen: &Screen,
    seen: &Value,
    trouble: Option<(&AskError, Duration)>,
) -> Result<String, AskError> {
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

fn read<T: serde::de::DeserializeOwned>(seen: &Value) -> Result<Vec<T>, AskError> {
    serde_json::from_value(seen.clone()).map_err(AskError::Answer)
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
