//! Connects to known peers until there are enough.

use std::sync::Arc;
use std::time::Duration;

use super::handshake;
use super::link::{self, Side};
use super::tasks;
use super::torrent::Shared;
use crate::config::{self, Role, SessionConfig};
use crate::log;

fn wanted(config: &SessionConfig, age: Duration) -> usize {
    config::peers_wanted(config.target_peers, config.settled_peers, age)
}

/// Starts as many dials as are due.
pub(crate) fn dial_more(shared: &Arc<Shared>) {
    let config = &shared.session.config;
    loop {
        let address = {
            let now = shared.now();
            let mut state = shared.lock();
            let Some(core) = &state.core else { return };
            let complete = core.is_done();
            let (links, dialing) = (state.links.len(), state.book.dialing());
            // a complete node waits to be asked, unless nobody does
            let (target, dials) = match (complete, config.role) {
                (true, Role::Node) => (1, 1),
                _ => (wanted(config, now.saturating_sub(state.started)), config.max_dials),
            };
            if links + dialing >= target || dialing >= dials {
                return;
            }
            match state.book.next(now, complete) {
                Some(address) => address,
                None => return,
            }
        };
        let shared = shared.clone();
        let torrent = shared.tasks.clone();
        tasks::spawn(&torrent, async move {
            let hello = shared.hello();
            let limit = shared.session.config.connect_timeout;
            let dialed = tokio::select! {
                dialed = handshake::dial(address, hello, limit) => dialed,
                () = shared.cancel.cancelled() => return,
            };
            match dialed {
                Ok((stream, theirs)) => link::run(shared, stream, theirs, Side::Dialled).await,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(|s| format!(": {s}"));
                    let text = format!("{address}: {error}{}", cause.unwrap_or_default());
                    log::debug!(peer = %address, %error, "dial failed");
                    let now = shared.now();
                    let mut state = shared.lock();
                    state.book.failed(address, now);
                    if error.is_unreachable() {
                        state.book.not_reached(address);
                    }
                    state.trouble.dial = Some(text);
                }
            }
        });
    }
}
