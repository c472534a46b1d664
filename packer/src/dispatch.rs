//! Where an order goes: into the store on this host, or to the tracker, with the admin's token or certificate.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use proto::assign::{ASSIGN_PATH, AssignOrder, Assigned, UNASSIGN_PATH, UnassignOrder, Unassigned};
use proto::rollout::{MAX_ROLLOUT_LEN, ROLLOUTS_PATH, Rollout};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::Store;

use crate::cluster;
use client::{AskError, Client, TlsArgs};

/// Where the tracker's unit has its state.
const TOKEN_FILE: &str = "/var/lib/beeswarm/tracker/admin-token";

/// The store, or a tracker.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Directory of the store, on this host: the order is written into it
    #[arg(
        long,
        value_name = "DIR",
        env = "BEESWARM_STORE",
        required_unless_present = "tracker_url"
    )]
    pub(crate) store: Option<PathBuf>,
    /// Tracker that takes the order, when there is no --store here, or --token-file or --cert is given:
    /// http://HOST:PORT, https://HOST:PORT
    #[arg(long, value_name = "URL", env = "BEESWARM_TRACKER_URL")]
    pub(crate) tracker_url: Option<String>,
    /// File with the tracker's admin token, which it made in its state directory
    /// [default: /var/lib/beeswarm/tracker/admin-token, unless --cert is given]
    #[arg(long, value_name = "FILE", env = "BEESWARM_TOKEN_FILE", requires = "tracker_url")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// Who takes the order.
pub(crate) enum Target {
    Store(Store),
    Tracker(Tracker),
}

impl TargetArgs {
    /// The tracker when a token or a certificate is named, or no store is; else the store.
    pub(crate) fn choose(&self) -> anyhow::Result<Target> {
        let by_name = self.token_file.is_some() || self.tls.cert.is_some();
        match (&self.store, &self.tracker_url) {
            (_, Some(_)) if by_name => self.tracker().map(Target::Tracker),
            (Some(store), _) => Ok(Target::Store(Store::open(store)?)),
            (None, _) => self.tracker().map(Target::Tracker),
        }
    }

    /// The tracker, also when there is a store.
    pub(crate) fn tracker(&self) -> anyhow::Result<Tracker> {
        let Some(url) = &self.tracker_url else {
            bail!("give --tracker-url URL, and --token-file FILE or --cert FILE with --key FILE");
        };
        let token = match &self.token_file {
            Some(file) => Some(token(file)?),
            // the certificate is enough
            None if self.tls.cert.is_some() => None,
            None => Some(token(Path::new(TOKEN_FILE))?),
        };
        Ok(Tracker(cluster::client(url, &self.tls, token)?))
    }
}

fn token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| {
        format!(
            "cannot read the tracker's token from {}: it is made by bee-tracker --state, readable by \
             its user and root; name it with --token-file, or give --cert and --key at https://",
            file.display()
        )
    })?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        bail!("{} holds no token: it is one line of hexadecimal digits", file.display());
    }
    Ok(token.to_owned())
}

/// A tracker that takes our orders.
pub(crate) struct Tracker(Client);

impl Tracker {
    pub(crate) fn assign(
        &self,
        revision: String,
        nodes: Vec<String>,
        kernel_args: String,
    ) -> anyhow::Result<Assigned> {
        self.order(ASSIGN_PATH, &AssignOrder { revision, nodes, kernel_args })
    }

    /// `None`: all nodes.
    pub(crate) fn unassign(&self, nodes: Option<Vec<String>>) -> anyhow::Result<Unassigned> {
        self.order(UNASSIGN_PATH, &UnassignOrder { nodes })
    }

    /// Begins a rollout, stops or resumes one: `below` is what comes behind [`ROLLOUTS_PATH`].
    pub(crate) fn rollout(&self, below: &str, order: &impl Serialize) -> anyhow::Result<Rollout> {
        self.order(&format!("{ROLLOUTS_PATH}{below}"), order)
    }

    /// What a rollout does.
    pub(crate) fn look(&self, which: &str) -> Result<Rollout, LookError> {
        look(&self.0, which)
    }

    fn order<T: DeserializeOwned>(&self, path: &str, order: &impl Serialize) -> anyhow::Result<T> {
        let order = serde_json::to_vec(order)?;
        let answer = match self.0.send(path, Some(&order), MAX_ROLLOUT_LEN) {
            Ok(answer) => answer,
            Err(AskError::Status { status, message, .. }) => {
                bail!("the tracker refuses the order ({status}): {message}")
            }
            Err(error) => return Err(error).context("cannot give the order"),
        };
        serde_json::from_slice(&answer)
            .with_context(|| format!("{path} is no answer of this version's bee-tracker"))
    }
}

/// Why a rollout cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// Nobody answers: the rollout goes on, or will.
    #[error("the tracker cannot be asked")]
    Away(#[source] AskError),
    /// The tracker has an answer, but no rollout.
    #[error("{0}")]
    Refused(String),
}

/// Asks any tracker, without a token, what a rollout does; `which` is a number or `last`.
pub(crate) fn look(client: &Client, which: &str) -> Result<Rollout, LookError> {
    let path = format!("{ROLLOUTS_PATH}/{which}");
    let answer = match client.send(&path, None, MAX_ROLLOUT_LEN) {
        Ok(answer) => answer,
        Err(AskError::Status { status: 404, message, .. }) => {
            return Err(LookError::Refused(message));
        }
        Err(error) => return Err(LookError::Away(error)),
    };
    serde_json::from_slice(&answer).map_err(|_| {
        LookError::Refused(format!("{path} is no answer of this version's bee-tracker"))
    })
}
