//! The fleet at one moment, as the status page shows it: a copy, so that no lock is held while it is drawn.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::event::Sources;
use proto::event::audit::Verdict;
use proto::node_id::NodeId;

use crate::app::{App, lock};
use crate::inventory::{Entry, Inventory};
use crate::nodes::node::{DISK, NETBOOT};
use crate::nodes::trouble::Trouble;

pub(crate) mod exchange;
pub(crate) mod history;
pub(crate) mod link;
pub(crate) mod not_asked;
mod row;
pub(crate) mod watch;

use not_asked::Told;
use row::Row;

/// Stage of a node of the inventory that was never heard.
pub(crate) const ABSENT: &str = "absent";

/// What stages have in common for the eye: one colour each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// In its firmware, sent to its disk, or not understood.
    Waiting,
    Discover,
    Fetch,
    /// From the last verified piece to the end of the initrd.
    Late,
    Seeding,
    Failed,
}

impl Phase {
    pub(crate) const ALL: [Self; 6] =
        [Self::Seeding, Self::Late, Self::Fetch, Self::Discover, Self::Waiting, Self::Failed];

    pub(crate) fn of(stage: &str) -> Self {
        match stage {
            "discover" => Self::Discover,
            "fetch" => Self::Fetch,
            "verify" | "attach" | "mount" | "handover" => Self::Late,
            "seeding" => Self::Seeding,
            "failed" => Self::Failed,
            _ => Self::Waiting,
        }
    }

    /// Its name in a legend.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Waiting => "in firmware",
            Self::Late => "verify to handover",
            other => other.word(),
        }
    }

    /// Its CSS class, and its name where it is short.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Discover => "discover",
            Self::Fetch => "fetch",
            Self::Late => "late",
            Self::Seeding => "seeding",
            Self::Failed => "failed",
        }
    }
}

/// What a cell shows beside its colour: colours alone are not for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    None,
    /// Something is wrong.
    Trouble,
    /// Nothing is wrong, but what is shown is old: a seeder that no longer reports.
    Old,
}

/// One node on the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) stage: &'static str,
    pub(crate) percent: u8,
    pub(crate) mark: Mark,
    /// Stage and trouble in words.
    pub(crate) title: String,
}

/// A letter per stage.
pub(crate) fn letter(stage: &str, mark: Mark) -> &'static str {
    match (mark, stage) {
        (Mark::Trouble, ABSENT) => "!",
        (_, "failed") => "✗",
        (Mark::Trouble, _) => "!",
        (Mark::Old, _) => "?",
        (_, DISK) => "d",
        (_, NETBOOT) => "n",
        (_, "discover") => "l",
        (_, "fetch") => "f",
        (_, "verify") => "v",
        (_, "attach") => "a",
        (_, "mount") => "m",
        (_, "handover") => "h",
        (_, "seeding") => "✓",
        (_, ABSENT) => "·",
        _ => "u",
    }
}

/// Nodes that stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// `rack r1`, or `10.0.0.0/24`.
    pub(crate) name: String,
    pub(crate) cells: Vec<Cell>,
}

/// A node that needs somebody's eye.
#[derive(Debug, Clone)]
pub(crate) struct Stalled {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) stage: &'static str,
    pub(crate) trouble: Trouble,
    /// Time since its last word; `None`: it never said one.
    pub(crate) heard: Option<Duration>,
}

/// When the last node will have its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) last: Last,
    /// Nodes that fetch and get nothing at the moment: nobody knows how long they will take.
    pub(crate) stuck: usize,
}

/// Of the nodes that get something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Last {
    /// There are none.
    Nobody,
    /// At its present rate, this one is the last.
    In(Duration, String),
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) groups: Vec<Group>,
    /// Number of nodes by stage, in the order of a boot.
    pub(crate) stages: Vec<(&'static str, usize)>,
    /// Nodes that were heard.
    pub(crate) nodes: usize,
    /// Bytes per second over all nodes, as they report.
    pub(crate) rate: u64,
    /// What the nodes have of their images, by where it came from.
    pub(crate) sources: Sources,
    /// What they gave to others.
    pub(crate) sent: u64,
    pub(crate) completion: Completion,
    /// Nodes whose hardware audit has passed, and has failed.
    pub(crate) audited: (usize, usize),
    /// Those longest silent come first.
    pub(crate) stalled: Vec<Stalled>,
}

impl Fleet {
    /// As it is now.
    pub(crate) fn of(app: &App) -> Self {
        let inventory = app.inventory();
        let now = Instant::now();
        let told = not_asked::all(app, now);
        let rows = |node| Row::of(node, &told, now);
        let all = lock(&app.nodes).all().into_iter().map(rows).collect();
        Self::gather(all, &inventory, &told, now)
    }

    fn gather(all: Vec<Row>, inventory: &Inventory, told: &Told, now: Instant) -> Self {
        let stages = crate::nodes::node::STAGES.iter().map(|stage| (*stage, 0)).collect();
        let mut fleet = Self {
            groups: Vec::new(),
            stages,
            nodes: all.len(),
            rate: 0,
            sources: Sources::default(),
            sent: 0,
            completion: Completion { last: Last::Nobody, stuck: 0 },
            audited: (0, 0),
            stalled: Vec::new(),
        };
        let mut groups: BTreeMap<(bool, String), Vec<(String, Cell)>> = BTreeMap::new();
        let mut put = |rack: Option<String>, otherwise: String, cell: Cell| {
            let key = match &rack {
                Some(rack) => (false, natural(rack)),
                None => (true, natural(&otherwise)),
            };
            groups.entry(key).or_default().push((rack.unwrap_or(otherwise), cell));
        };
        let (mut last, mut stuck) = (None, 0);
        for node in &all {
            fleet.count(node);
            let entry = inventory.of(node.id);
            let name = inventory.name(node.id);
            if node.stage == "fetch" {
                match node.left {
                    Some(time) => last = last.max(Some((time, name.clone()))),
                    None => stuck += 1,
                }
            }
            let cell = cell(node, name.clone());
            let rack = entry.and_then(Entry::rack_title);
            put(rack, subnet(node.addr), cell);
            if let Some(trouble) = node.trouble.clone() {
                let heard = Some(now.saturating_duration_since(node.heard));
                let stage = node.stage;
                fleet.stalled.push(Stalled { id: node.id, name, stage, trouble, heard });
            }
        }
        let heard: std::collections::HashSet<NodeId> =
            all.iter().flat_map(|node| node.macs.iter().copied()).collect();
        for entry in inventory.entries() {
            if let Some(id) = entry.macs.first()
                && !entry.macs.iter().any(|mac| heard.contains(mac))
            {
                let name = entry.name.to_string();
                let awaited = entry.macs.iter().any(|mac| told.contains_key(mac));
                let (mark, title) = match awaited {
                    true => (Mark::Trouble, "assigned, but never asked".to_owned()),
                    false => (Mark::None, "not heard yet".to_owned()),
                };
                let cell = Cell { id: *id, name, stage: ABSENT, percent: 0, mark, title };
                put(entry.rack_title(), "not heard yet".to_owned(), cell);
            }
        }
        let last = last.map_or(Last::Nobody, |(time, name)| Last::In(time, name));
        fleet.completion = Completion { last, stuck };
        fleet.stalled.extend(not_asked::by_nobody(told, &heard, inventory));
        fleet.stalled.sort_by_key(|stalled| std::cmp::Reverse(stalled.heard));
        fleet.groups = groups
            .into_values()
            .map(|mut cells| {
                cells.sort_by_cached_key(|(_, cell)| natural(&cell.name));
                let name = cells.first().map(|(name, _)| name.clone()).unwrap_or_default();
                Group { name, cells: cells.into_iter().map(|(_, cell)| cell).collect() }
            })
            .collect();
        fleet
    }

    fn count(&mut self, node: &Row) {
        match self.stages.iter_mut().find(|(stage, _)| *stage == node.stage) {
            Some((_, count)) => *count += 1,
            None => self.stages.push((node.stage, 1)),
        }
        self.rate = self.rate.saturating_add(node.rate);
        self.sources += node.sources;
        self.sent = self.sent.saturating_add(node.sent);
        match node.audit {
            Some(Verdict::Pass) => self.audited.0 += 1,
            Some(Verdict::Fail) => self.audited.1 += 1,
            None => {}
        }
    }

    /// Nodes that stand on their image.
    pub(crate) fn up(&self) -> usize {
        self.stages.iter().find(|(stage, _)| *stage == "seeding").map_or(0, |(_, count)| *count)
    }
}

fn cell(node: &Row, name: String) -> Cell {
    let mark = match node.trouble {
        Some(_) => Mark::Trouble,
        None if node.old => Mark::Old,
        None => Mark::None,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    let percent = node.percent.clamp(0.0, 100.0) as u8;
    let mut title = node.stage.to_owned();
    if matches!(node.stage, "fetch" | "failed") {
        title.push_str(&format!(" {percent} %"));
    }
    if let Some(trouble) = &node.trouble {
        title.push_str(&format!(", {}", trouble.cause.title()));
    }
    if node.audit == Some(Verdict::Pass) {
        title.push_str(", audit passed");
    }
    if mark == Mark::Old {
        title.push_str(", no longer reports");
    }
    Cell { id: node.id, name, stage: node.stage, percent, mark, title }
}

/// Where an address is, for people; the parts are those of [`crate::torrents::subnet`].
pub(crate) fn subnet(addr: IpAddr) -> String {
    match addr.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// A key by which `n2` comes before `n10`.
pub(crate) fn natural(text: &str) -> String {
    let mut key = String::with_capacity(text.len() + 16);
    let mut digits = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if !digits.is_empty() {
            key.push_str(&format!("{digits:0>12}"));
            digits.clear();
        }
        key.push(c);
    }
    key
}

#[cfg(test)]
#[path = "fleet/tests.rs"]
mod tests;
