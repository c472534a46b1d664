//! Orders to the tracker to reimage nodes in batches, and what it says of them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::node_id::NodeId;

/// Where a [`RolloutOrder`] goes (`POST`), and a list of all [`Rollout`]s (`GET`). Below it: `/N`, `/N/stop`,
/// `/N/resume`, with a number or `last`.
pub const ROLLOUTS_PATH: &str = "/api/v1/rollouts";

/// Longest answer, in bytes: some ten thousand nodes.
pub const MAX_ROLLOUT_LEN: u64 = 16 << 20;

/// Seconds that a node has to come up, unless the order says something else.
pub const PATIENCE_S: u64 = 1200;

/// A part of all nodes: `10%`, or a number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Share {
    /// Hundredths, 0 to 100.
    Percent(u8),
    /// This many.
    Nodes(u32),
}

/// A text that is no [`Share`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no part of the nodes; write it like 10% or 12")]
pub struct ShareError(String);

impl Share {
    /// Whether it is none of however many.
    #[must_use]
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Percent(0) | Self::Nodes(0))
    }

    /// So many of `all`, rounded down.
    #[must_use]
    pub fn at_most(self, all: usize) -> usize {
        match self {
            Self::Percent(percent) => all.saturating_mul(usize::from(percent)) / 100,
            Self::Nodes(nodes) => usize::try_from(nodes).unwrap_or(usize::MAX),
        }
    }

    /// So many of `all`, rounded up, and 1 at least.
    #[must_use]
    pub fn at_least_one(self, all: usize) -> usize {
        let part = match self {
            Self::Percent(percent) => all.saturating_mul(usize::from(percent)).div_ceil(100),
            Self::Nodes(_) => self.at_most(all),
        };
        part.max(1)
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let wrong = || ShareError(text.chars().take(40).collect());
        match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.parse().ok().filter(|percent| *percent <= 100);
                percent.map(Self::Percent).ok_or_else(wrong)
            }
            None => text.parse().map(Self::Nodes).map_err(|_| wrong()),
        }
    }
}

impl TryFrom<String> for Share {
    type Error = ShareError;

    fn try_from(text: String) -> Result<Self, ShareError> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Nodes(nodes) => write!(f, "{nodes}"),
        }
    }
}

/// Reboots nodes into a revision, batch by batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutOrder {
    /// `NAME@REV`, or `NAME` or `REV` where that can mean one published revision only; none: what the channel points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// All nodes must belong to this channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// MAC addresses, or names.
    pub nodes: Vec<String>,
    /// Addresses of names, for those that the tracker's inventory does not have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Vec<NodeId>>,
    /// Kernel arguments behind all others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel_args: String,
    /// Nodes that are rebooted together.
    pub batch: Share,
    /// Nodes that may fail before it stops.
    pub max_failed: Share,
    /// Nodes that must hold the image before the next batch; none: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_copies: Option<u32>,
    /// Seconds that a node has to come up.
    pub patience_s: u64,
}

/// What a rollout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Batches are begun.
    Running,
    /// No batch is begun, and no node rebooted.
    Stopped,
    /// Each node is up or has failed.
    Done,
}

/// What a node of a rollout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// Its batch has not begun.
    Waiting,
    /// Its batch has begun.
    Due,
    /// It is being rebooted.
    Rebooting,
    /// It was rebooted, and does not seed the revision yet.
    Booting,
    /// The audit looks at it.
    Auditing,
    /// It seeds the revision.
    Up,
    /// It did not come up.
    Failed,
}

impl MemberState {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Due,
        Self::Rebooting,
        Self::Booting,
        Self::Auditing,
        Self::Up,
        Self::Failed,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Due => "due",
            Self::Rebooting => "rebooting",
            Self::Booting => "booting",
            Self::Auditing => "auditing",
            Self::Up => "up",
            Self::Failed => "failed",
        }
    }
}

/// A node of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// As the order named it, or as the inventory does.
    pub name: String,
    /// Its addresses.
    pub macs: Vec<NodeId>,
    /// What it does.
    pub state: MemberState,
    /// Its batch, from 1 on; 0 before.
    pub batch: u32,
    /// Why it has failed, or what there is to say.
    pub detail: String,
    /// When it came into this state, in milliseconds of Unix time.
    pub since_ms: i64,
}

/// A rollout, as the tracker tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its number.
    pub id: i64,
    /// `NAME@REV`
    pub revision: String,
    /// What it does.
    pub phase: Phase,
    /// Why it was stopped.
    pub reason: String,
    /// What the next batch waits for.
    pub held: Option<String>,
    /// When it was ordered, in milliseconds of Unix time.
    pub started_ms: i64,
    /// Nodes of a batch.
    pub batch: usize,
    /// Nodes that may fail.
    pub max_failed: usize,
    /// Nodes that must hold the image before the next batch.
    pub min_copies: usize,
    /// Nodes that hold it now.
    pub copies: usize,
    /// Seconds that a node has to come up.
    pub patience_s: u64,
    /// All nodes, in the order of their batches.
    pub nodes: Vec<Member>,
}

impl Rollout {
    /// How many nodes are in a state.
    #[must_use]
    pub fn count(&self, state: MemberState) -> usize {
        self.nodes.iter().filter(|node| node.state == state).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_or_numbers() {
        let share = |text: &str| text.parse::<Share>();
        assert_eq!(share("10%").unwrap().at_least_one(128), 13);
        assert_eq!(share("2%").unwrap().at_most(128), 2);
        assert_eq!(share("2%").unwrap().at_most(40), 0);
        assert_eq!(share("0").unwrap().at_least_one(40), 1);
        assert_eq!(share("12").unwrap().at_least_one(40), 12);
        assert_eq!(share("100%").unwrap().at_least_one(40), 40);
        for text in ["", "%", "-1", "101%", "300%", "1.5%", "ten", "4294967296"] {
            assert!(share(text).unwrap_err().to_string().contains("10% or 12"), "{text}");
        }
        let json = serde_json::to_string(&Share::Percent(7)).unwrap();
        assert_eq!(
            (json.as_str(), serde_json::from_str(&json).unwrap()),
            ("\"7%\"", Share::Percent(7))
        );
    }

    #[test]
    fn words_are_those_of_json() {
        for state in MemberState::ALL {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.word()));
        }
    }
}
