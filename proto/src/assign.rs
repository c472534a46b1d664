//! Orders to the tracker: which node boots what. They need the admin's token.

use serde::{Deserialize, Serialize};

use crate::node_id::NodeId;

/// What nodes were told, `GET`.
pub const ASSIGNMENTS_PATH: &str = "/api/v1/assignments";

/// Where an [`AssignOrder`] goes, `POST`.
pub const ASSIGN_PATH: &str = "/api/v1/assign";

/// Where an [`UnassignOrder`] goes, `POST`.
pub const UNASSIGN_PATH: &str = "/api/v1/unassign";

/// Longest order and answer, in bytes: tens of thousands of nodes.
pub const MAX_ORDER_LEN: usize = 1 << 20;

/// Lets nodes boot a revision from their next boot on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignOrder {
    /// `NAME@REV`, or `NAME` when one revision of it is published.
    pub revision: String,
    /// MAC addresses, or names in the tracker's inventory.
    pub nodes: Vec<String>,
    /// Kernel arguments behind all others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel_args: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// `NAME@REV`
    pub revision: String,
    /// All addresses that boot it.
    pub nodes: Vec<NodeId>,
}

/// Lets nodes follow their channel again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnassignOrder {
    /// MAC addresses, or names in the tracker's inventory; null: all. Left out it is an error: an order that
    /// forgets to say for whom it is must not be one for all.
    #[serde(deserialize_with = "Option::deserialize")]
    pub nodes: Option<Vec<String>>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unassigned {
    /// Addresses that did not follow their channel before.
    pub nodes: Vec<NodeId>,
}
