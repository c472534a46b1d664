//! Where an order goes: into the store on this host, or to the tracker, with the admin's token.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use proto::assign::{ASSIGN_PATH, AssignOrder, Assigned, UNASSIGN_PATH, UnassignOrder, Unassigned};
use proto::rollout::{MAX_ROLLOUT_LEN, ROLLOUTS_PATH, Rollout};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::Store;
use swarm::http::{self, HttpError, Limits};

use crate::cluster::origin;

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
    /// Tracker that takes the order, when there is no --store here or --token-file is given
    #[arg(long, value_name = "URL", env = "BEESWARM_TRACKER_URL")]
    pub(crate) tracker_url: Option<String>,
    /// File with the tracker's admin token, which it made in its state directory
    /// [default: /var/lib/beeswarm/tracker/admin-token]
    #[arg(long, value_name = "FILE", env = "BEESWARM_TOKEN_FILE", requires = "tracker_url")]
    pub(crate) token_file: Option<PathBuf>,
}

/// Who takes the order.
pub(crate) enum Target {
    Store(Store),
    Tracker(Tracker),
}

impl TargetArgs {
    /// The tracker when a token is named or no store is; else the store.
    pub(crate) fn choose(&self) -> anyhow::Result<Target> {
        match (&self.store, &self.tracker_url) {
            (Some(store), _) if self.token_file.is_none() => Ok(Target::Store(Store::open(store)?)),
            (_, Some(_)) => self.tracker(),
            (_, None) => bail!("give --store DIR, or --tracker-url URL and --token-file FILE"),
        }
    }

    /// The tracker, also when there is a store.
    pub(crate) fn tracker(&self) -> anyhow::Result<Target> {
        match &self.tracker_url {
            Some(url) => {
                let file = self.token_file.as_deref().unwrap_or(Path::new(TOKEN_FILE));
                Ok(Target::Tracker(Tracker { origin: origin(url).to_owned(), token: token(file)? }))
            }
            None => bail!("give --tracker-url URL and --token-file FILE"),
        }
    }
}

fn token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| {
        format!(
            "cannot read the tracker's token from {}: it is made by bee-tracker --state, readable by \
             its user and root; name it with --token-file",
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
pub(crate) struct Tracker {
    origin: String,
    token: String,
}

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
        look(&self.origin, which)
    }

    fn order<T: DeserializeOwned>(&self, path: &str, order: &impl Serialize) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.origin);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let limits = Limits { max_body: MAX_ROLLOUT_LEN, ..Limits::default() };
        let body = serde_json::to_vec(order)?;
        let answer = runtime.block_on(http::post_json_with(&self.token, &url, body, limits));
        let response = match answer {
            Ok(response) => response,
            Err(HttpError::Status { status, body, .. }) => {
                bail!("the tracker refuses the order ({status}): {}", reason(&body))
            }
            Err(error) => {
                return Err(error).context("cannot give the order: is bee-tracker running there?");
            }
        };
        serde_json::from_slice(&response.body)
            .with_context(|| format!("{url} is no answer of this version's bee-tracker"))
    }
}

/// Why a rollout cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// Nobody answers: the rollout goes on, or will.
    #[error("the tracker does not answer")]
    Away(#[source] HttpError),
    /// The tracker has an answer, but no rollout.
    #[error("{0}")]
    Refused(String),
}

/// Asks any tracker, without a token, what a rollout does; `which` is a number or `last`.
pub(crate) fn look(origin: &str, which: &str) -> Result<Rollout, LookError> {
    let refused = |error: &dyn std::fmt::Display| LookError::Refused(error.to_string());
    let url = format!("{origin}{ROLLOUTS_PATH}/{which}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let limits = Limits { max_body: MAX_ROLLOUT_LEN, ..Limits::default() };
    let response = match runtime.map_err(|e| refused(&e))?.block_on(http::get(&url, limits)) {
        Ok(response) => response,
        Err(HttpError::Status { status: 404, body, .. }) => return Err(refused(&reason(&body))),
        Err(error) => return Err(LookError::Away(error)),
    };
    serde_json::from_slice(&response.body)
        .map_err(|_| refused(&format!("{url} is no answer of this version's bee-tracker")))
}

/// The text of the tracker's error.
fn reason(body: &[u8]) -> String {
    let error: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = error.as_ref().and_then(|error| error["error"].as_str());
    text.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned)
}
