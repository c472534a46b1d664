//! What all requests share.
//!
//! Lock order: no two of these locks are ever held together, and none across an `await`. A lock that a
//! panicking task left poisoned is taken all the same: each table is valid after every single step.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

use proto::node_id::NodeId;
use serde::Serialize;
use store::RevisionRef;
use tokio::sync::broadcast;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::nodes::{self, Nodes};
use crate::torrents::{self, Torrents};

/// Notices that a slow listener may lag behind before it misses some.
const NOTICES: usize = 1024;

/// What happened, for `--json`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Notice {
    /// A revision is published, and so tracked from now on.
    Published {
        /// Name and id.
        #[serde(flatten)]
        revision: RevisionRef,
    },
    /// A revision is no longer published.
    Withdrawn {
        /// Name and id.
        #[serde(flatten)]
        revision: RevisionRef,
    },
    /// A node has entered a stage.
    Node {
        /// Which node.
        node: NodeId,
        /// Where it is.
        address: IpAddr,
        /// What it does now.
        stage: &'static str,
    },
}

/// The state behind every request.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) torrents: Torrents,
    pub(crate) nodes: Mutex<Nodes>,
    pub(crate) metrics: Metrics,
    pub(crate) started: Instant,
    pub(crate) notices: broadcast::Sender<Notice>,
    catalog: RwLock<Arc<Catalog>>,
}

impl App {
    pub(crate) fn new(config: Config) -> Self {
        let limits = config.limits;
        let torrents = torrents::Limits {
            torrents: limits.torrents,
            peers_per_torrent: limits.peers_per_torrent,
            peers_per_address: limits.peers_per_address,
        };
        let nodes = nodes::Limits { nodes: limits.nodes, events_per_node: limits.events_per_node };
        Self {
            config,
            torrents: Torrents::new(torrents),
            nodes: Mutex::new(Nodes::new(nodes)),
            metrics: Metrics::default(),
            started: Instant::now(),
            notices: broadcast::channel(NOTICES).0,
            catalog: RwLock::default(),
        }
    }

    /// The store as it was a moment ago; empty without a store.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Takes a new copy of the store, and forgets the torrents that are gone.
    pub(crate) fn replace_catalog(&self, catalog: Catalog) {
        let new = Arc::new(catalog);
        let old = {
            let mut place = self.catalog.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            std::mem::replace(&mut *place, new.clone())
        };
        self.torrents.retain(&new.allowed());
        let missing = |from: &Catalog, there: &Catalog| -> Vec<RevisionRef> {
            let known = |r: &RevisionRef| there.images.iter().any(|image| image.revision == *r);
            from.images.iter().map(|i| i.revision.clone()).filter(|r| !known(r)).collect()
        };
        for revision in missing(&new, &old) {
            tracing::info!(%revision, "published");
            self.notify(Notice::Published { revision });
        }
        for revision in missing(&old, &new) {
            tracing::info!(%revision, "withdrawn");
            self.notify(Notice::Withdrawn { revision });
        }
        for problem in new.problems.iter().filter(|p| !old.problems.contains(p)) {
            tracing::warn!(problem, "part of the store cannot be read");
        }
    }

    /// Adds or takes away the note that the store cannot be read at the moment.
    pub(crate) fn store_trouble(&self, problem: String) {
        let old = self.catalog();
        if !old.problems.contains(&problem) {
            tracing::warn!(problem, "store cannot be read; the last known state stays");
            let problems = vec![problem];
            let mut place = self.catalog.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            *place = Arc::new(Catalog { problems, ..Catalog::clone(&old) });
        }
    }

    pub(crate) fn notify(&self, notice: Notice) {
        // An error says that nobody listens.
        let _ = self.notices.send(notice);
    }
}

/// Takes a lock whose holder cannot have left it half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
