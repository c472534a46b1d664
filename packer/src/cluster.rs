//! Asking the tracker which nodes run what.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use clap::Args;
use proto::usage::{MAX_USAGE_LEN, RevisionUse, SETTLED_AFTER_S, USAGE_PATH, Usage};
use store::{Nodes, RevisionRef};

use client::{Client, TlsArgs};

/// Port of a plain URL without one.
const HTTP: u16 = 80;

/// Where the tracker is.
#[derive(Debug, Args)]
pub(crate) struct TrackerArgs {
    /// Tracker that knows which nodes run what: http://HOST:PORT, https://HOST:PORT
    #[arg(long, value_name = "URL", env = "BEESWARM_TRACKER_URL")]
    pub(crate) tracker_url: Option<String>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

impl TrackerArgs {
    /// What the tracker answers; `None` when none was named.
    pub(crate) fn usage(&self) -> anyhow::Result<Option<Usage>> {
        self.tracker_url.as_deref().map(|url| ask(url, &self.tls)).transpose()
    }
}

/// For requests to the tracker with that URL; its announce URL does as well.
pub(crate) fn client(url: &str, tls: &TlsArgs, token: Option<String>) -> anyhow::Result<Client> {
    let origin = url.trim_end_matches('/').trim_end_matches("/announce").trim_end_matches('/');
    Ok(Client::new(origin, HTTP, tls, token)?)
}

fn ask(url: &str, tls: &TlsArgs) -> anyhow::Result<Usage> {
    let answer = client(url, tls, None)?
        .send(USAGE_PATH, None, MAX_USAGE_LEN)
        .context("cannot ask the tracker which nodes run what")?;
    Usage::parse(&answer).map_err(|reason| {
        anyhow::anyhow!("{url}{USAGE_PATH} is no answer of this version's bee-tracker: {reason}")
    })
}

/// Which revisions must stay, by the tracker's word.
///
/// # Errors
/// When the tracker started so lately that it cannot know all nodes.
pub(crate) fn nodes(usage: &Usage) -> anyhow::Result<Nodes> {
    if !usage.is_settled() {
        bail!(
            "the tracker started {} s ago and may not have heard of all nodes yet: try again in {} s",
            usage.uptime_s,
            SETTLED_AFTER_S - usage.uptime_s
        );
    }
    let reference = |row: &RevisionUse| -> anyhow::Result<RevisionRef> {
        format!("{}@{}", row.name, row.revision)
            .parse()
            .context("the tracker names a revision that cannot be")
    };
    let rows = usage.revisions.iter().filter(|row| row.in_use());
    let running = rows.map(reference).collect::<anyhow::Result<_>>()?;
    // by this host's clock, which the times in the store are of; whole seconds are the shorter time
    let known_since = SystemTime::now().checked_sub(Duration::from_secs(usage.remembers_s()));
    Ok(Nodes { running, known_since })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_that_just_started_is_not_believed() {
        let row = |revision: &str, peers| RevisionUse {
            name: "debian".into(),
            revision: revision.into(),
            nodes: 0,
            up: 0,
            peers,
            assigned: 0,
            pending: 0,
        };
        let mut usage = Usage {
            uptime_s: SETTLED_AFTER_S - 1,
            remembers_s: Some(9_000),
            revisions: vec![row("0123456789ab", 1), row("ba9876543210", 0)],
        };
        assert!(nodes(&usage).unwrap_err().to_string().contains("try again in 1 s"));
        usage.uptime_s += 1;
        let known = nodes(&usage).unwrap();
        assert_eq!(known.running, ["debian@0123456789ab".parse().unwrap()]);
        let ago = |known: Nodes| known.known_since.unwrap().elapsed().unwrap().as_secs();
        assert!((9_000..9_100).contains(&ago(known)));
        // without a word of its memory, that of its process
        usage.remembers_s = None;
        assert!((200..300).contains(&ago(nodes(&usage).unwrap())));
    }
}
