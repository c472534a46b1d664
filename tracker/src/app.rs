//! What all requests share.
//!
//! Lock order: no two of these locks are ever held together (but `rollouts`, within which `assignments` may be
//! taken), and none across an `await`; only the journal's own is taken inside, so that changes are written in
//! the order in which memory took them. A lock that a
//! panicking task left poisoned is taken all the same: each table is valid after every single step.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

use proto::node_id::NodeId;
use proto::rollout::Phase;
use serde::Serialize;
use store::{Channel, RevisionName, RevisionRef};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::assignments::Assignments;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::fleet::history::History;
use crate::fleet::link::Link;
use crate::http::kept::Kept;
use crate::http::stream::Readers;
use crate::http::{MAX_WAITING, Past};
use crate::inventory::{Inventory, Stored};
use crate::metrics::Metrics;
use crate::neighbours::Neighbours;
use crate::nodes::trouble::Cause;
use crate::nodes::{self, Nodes};
use crate::power::Power;
use crate::rates::Rates;
use crate::rollout::Rollouts;
use crate::state::{self, Journal, Moved, NotStored, Op, Place, State, StateError};
use crate::tokens::BootTokens;
use crate::torrents::{self, Torrents};

/// Notices that a slow listener may lag behind before it misses some.
const NOTICES: usize = 1024;

/// Key of the last good inventory, in the state's `meta`.
const INVENTORY: &str = "inventory";

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
    /// A node needs somebody's eye.
    Stalled {
        /// Which node.
        node: NodeId,
        /// Its name in the inventory, or its address.
        name: String,
        /// What it does.
        stage: &'static str,
        /// What is wrong.
        cause: Cause,
        /// What is known of it, for people.
        detail: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A node that needed somebody's eye gets on again.
    Recovered {
        /// Which node.
        node: NodeId,
    },
    /// A rollout has begun, goes on, was stopped, or is done.
    Rollout {
        /// Its number.
        id: i64,
        /// What it is now.
        phase: Phase,
        /// Why it was stopped; else empty.
        reason: String,
    },
}

/// The state behind every request.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) torrents: Torrents,
    pub(crate) nodes: Mutex<Nodes>,
    pub(crate) assignments: Mutex<Assignments>,
    pub(crate) rollouts: Mutex<Rollouts>,
    /// How nodes are rebooted; `None`: nobody said.
    pub(crate) power: Option<Arc<Power>>,
    /// What lies on disk; `None`: nothing outlives this process.
    pub(crate) state: Option<State>,
    pub(crate) tokens: BootTokens,
    /// Who really asks for a boot script.
    pub(crate) neighbours: Neighbours,
    pub(crate) metrics: Metrics,
    pub(crate) started: Instant,
    pub(crate) notices: broadcast::Sender<Notice>,
    /// For the charts.
    pub(crate) history: Mutex<History>,
    /// The admin host's link, if its speed is known.
    pub(crate) link: Option<Link>,
    pub(crate) rates: Rates,
    /// Open pages.
    pub(crate) readers: Readers,
    /// Cancelled when the server ends.
    pub(crate) stop: CancellationToken,
    /// Which node fetches a revision's kernel and initrd from the admin host to hand them on, until when.
    pub(crate) mirror_leases: Mutex<HashMap<RevisionRef, (NodeId, Instant)>>,
    /// Held by who draws a page.
    pub(crate) drawing: Semaphore,
    /// Places for those who wait for it.
    pub(crate) waiting: Semaphore,
    /// What the pages of the swarm and of images show, for all their readers.
    pub(crate) swarm_page: Kept<maud::Markup>,
    pub(crate) past: Kept<Past>,
    catalog: RwLock<Arc<Catalog>>,
    inventory: RwLock<(Arc<Inventory>, Option<String>)>,
    channels: Mutex<Channels>,
}

/// Where channels point.
type Channels = BTreeMap<(Channel, RevisionName), RevisionRef>;

/// A change that may not be on disk yet.
#[must_use]
pub(crate) struct Pending<'a>(Option<(&'a Journal, Result<Place, NotStored>)>);

impl Pending<'_> {
    /// Waits for the disk, and answers for all that was changed before as well.
    pub(crate) async fn stored(self) -> Result<(), NotStored> {
        match self.0 {
            Some((journal, place)) => journal.stored(place?).await,
            None => Ok(()),
        }
    }
}

impl App {
    /// Everything as it was when the last tracker ended; also gives the inventory that it knew.
    ///
    /// # Errors
    /// [`StateError`] when the state directory cannot be used.
    pub(crate) fn open(config: Config) -> Result<(Self, Option<Inventory>), StateError> {
        let (state, mut loaded) = match &config.state {
            Some(dir) => State::open(dir).map(|(state, loaded)| (Some(state), loaded))?,
            None => (None, state::Loaded::default()),
        };
        let key = match &state {
            Some(state) => state.boot_key(&loaded)?,
            None => state::passing_key()?,
        };
        let inventory = loaded.meta.get(INVENTORY).and_then(|stored| Stored::restore(stored));
        let app = Self::new(config, state, key);
        if app.state.is_some() {
            let (rows, events) =
                (std::mem::take(&mut loaded.nodes), std::mem::take(&mut loaded.events));
            let past_boots = app.config.limits.past_boots;
            let mut table = lock(&app.nodes);
            table.restore(rows, events, past_boots, loaded.last_row);
            table.remember_since(loaded.meta.get(nodes::memory::KEY));
        }
        *lock(&app.assignments) = Assignments::restore(loaded.assignments);
        *lock(&app.rollouts) = Rollouts::restore(loaded.rollouts);
        *lock(&app.channels) = loaded.channels.into_iter().collect();
        Ok((app, inventory))
    }

    fn new(config: Config, state: Option<State>, key: [u8; state::KEY_LEN]) -> Self {
        let limits = config.limits;
        let torrents = torrents::Limits {
            torrents: limits.torrents,
            peers_per_torrent: limits.peers_per_torrent,
            peers_per_address: limits.peers_per_address,
        };
        let nodes = nodes::Limits { nodes: limits.nodes, events_per_node: limits.events_per_node };
        let link = Link::find(config.admin_link.map(|rate| rate.0), Path::new("/sys/class/net"));
        let rates = Rates::new(limits.requests_per_second);
        let power = config.reimage.clone().map(|settings| Arc::new(Power::new(settings)));
        Self {
            torrents: Torrents::new(torrents),
            nodes: Mutex::new(Nodes::new(nodes).patient(config.seeder_patience)),
            neighbours: Neighbours::new(config.neighbours.clone()),
            config,
            assignments: Mutex::default(),
            rollouts: Mutex::default(),
            power,
            state,
            tokens: BootTokens::new(key),
            metrics: Metrics::default(),
            started: Instant::now(),
            notices: broadcast::channel(NOTICES).0,
            history: Mutex::default(),
            link,
            rates,
            readers: Readers::default(),
            stop: CancellationToken::new(),
            mirror_leases: Mutex::default(),
            drawing: Semaphore::new(1),
            waiting: Semaphore::new(MAX_WAITING),
            swarm_page: Kept::default(),
            past: Kept::default(),
            catalog: RwLock::default(),
            inventory: RwLock::default(),
            channels: Mutex::default(),
        }
    }

    /// Changes nodes, and queues what has changed for the disk.
    pub(crate) fn change_nodes<R>(&self, change: impl FnOnce(&mut Nodes) -> R) -> (R, Pending<'_>) {
        let mut nodes = lock(&self.nodes);
        let result = change(&mut nodes);
        let ops = nodes.log.drain();
        // before the lock is given back: the order on disk is that of memory
        let pending = self.queue(ops);
        drop(nodes);
        (result, pending)
    }

    /// Changes assignments, and queues what has changed for the disk.
    pub(crate) fn change_assignments<R>(
        &self,
        change: impl FnOnce(&mut Assignments) -> (R, Vec<Op>),
    ) -> (R, Pending<'_>) {
        self.change(&self.assignments, change)
    }

    /// Changes rollouts (and assignments with them), and queues what has changed for the disk.
    pub(crate) fn change_rollouts<R>(
        &self,
        change: impl FnOnce(&mut Rollouts) -> (R, Vec<Op>),
    ) -> (R, Pending<'_>) {
        self.change(&self.rollouts, change)
    }

    fn change<T, R>(
        &self,
        table: &Mutex<T>,
        change: impl FnOnce(&mut T) -> (R, Vec<Op>),
    ) -> (R, Pending<'_>) {
        let mut table = lock(table);
        let (result, ops) = change(&mut table);
        // before the lock is given back: the order on disk is that of memory
        let pending = self.queue(ops);
        drop(table);
        (result, pending)
    }

    /// What was queued so far.
    pub(crate) fn queued(&self) -> Pending<'_> {
        self.queue(Vec::new())
    }

    fn queue(&self, ops: Vec<Op>) -> Pending<'_> {
        Pending(self.state.as_ref().map(|state| (&state.journal, state.journal.push(ops))))
    }

    /// Names and settings of nodes.
    pub(crate) fn inventory(&self) -> Arc<Inventory> {
        self.inventory.read().unwrap_or_else(|poisoned| poisoned.into_inner()).0.clone()
    }

    /// Takes a new inventory, and keeps its text for a start with a wrong one.
    pub(crate) fn replace_inventory(&self, inventory: Inventory, text: Option<Stored>) {
        let new = Arc::new(inventory);
        tracing::info!(nodes = new.entries().len(), "inventory read");
        lock(&self.nodes).set_inventory(new.clone());
        *self.inventory.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = (new, None);
        if let Some(value) = text.and_then(|text| text.to_bytes()) {
            // not waited for: the file is still there
            let _ = self.queue(vec![Op::PutMeta { key: INVENTORY, value }]);
        }
    }

    /// Notes that the inventory cannot be used; the former one stays.
    pub(crate) fn inventory_trouble(&self, problem: String) {
        let mut place = self.inventory.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if place.1.as_ref() != Some(&problem) {
            tracing::warn!(problem, "the last good inventory stays in force");
            place.1 = Some(problem);
        }
    }

    /// Everything that somebody has to look after, for people.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.catalog().problems.clone();
        let inventory = self.inventory.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        problems.extend(inventory.1.clone());
        drop(inventory);
        let state = self.state.as_ref().and_then(|state| state.journal.trouble());
        problems.extend(state.map(|trouble| trouble.to_string()));
        problems
    }

    /// Notes where channels point now, and what has changed.
    fn follow_channels(&self, catalog: &Catalog) {
        if !catalog.problems.is_empty() {
            // what could not be read has not gone
            return;
        }
        let images = catalog.images.iter();
        let now: Channels = images
            .flat_map(|image| {
                let at = |channel: &Channel| (channel.clone(), image.revision.name.clone());
                image.channels.iter().map(move |channel| (at(channel), image.revision.clone()))
            })
            .collect();
        let mut known = lock(&self.channels);
        let places: std::collections::BTreeSet<_> = known.keys().chain(now.keys()).collect();
        let keep = self.config.limits.history;
        let moved = places.into_iter().filter(|at| known.get(*at) != now.get(*at)).map(|at| {
            let (channel, image) = at.clone();
            let (revision, former) = (now.get(at).cloned(), known.get(at).cloned());
            Op::Move { moved: Moved { channel, image, revision, former }, keep }
        });
        // not waited for: what a kill keeps from the disk is found again at the next start
        let _ = self.queue(moved.collect());
        *known = now;
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
        let ((), _) = self.change_assignments(|table| ((), table.follow(&new.assignments)));
        self.follow_channels(&new);
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
