//! The swarm as its nodes tell it: who gave how much to whom, and how often each piece is there.
//!
//! A node tells who gave it most (sixteen at most) and the others as a sum, so no byte is missing, but of a
//! long list of small givers the names are. Pieces beyond 2048 are told in groups; then counts are lower bounds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use proto::event::exchange::{Exchange, Holding};
use proto::node_id::NodeId;
use store::RevisionRef;

use super::{natural, subnet};
use crate::app::{App, lock};
use crate::inventory::{Entry, Inventory};
use crate::nodes::node::Node;

/// Rows and columns of a matrix that people can read.
pub(crate) const MAX_SIDE: usize = 24;

/// Somebody who gives or takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// A seeder whose peer id says that it is the admin's.
    Admin,
    /// A node: a key by which names are sorted, its name, its id.
    Node(String, String, NodeId),
    /// A rack, or a subnet: the key, the name.
    Group(String, String),
    /// An address that is no node's: a foreign client, or a node that was not heard.
    Host(IpAddr),
    /// All that the receivers did not name.
    Others,
}

/// What one gave to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) from: Party,
    pub(crate) to: NodeId,
    pub(crate) bytes: u64,
}

/// Who gave how much to whom, as a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Matrix {
    pub(crate) givers: Vec<Party>,
    pub(crate) takers: Vec<Party>,
    /// Bytes, by place in `givers` and in `takers`.
    pub(crate) bytes: BTreeMap<(usize, usize), u64>,
    /// Whether rows and columns are racks or subnets.
    pub(crate) grouped: bool,
    /// Parties that did not fit, and their bytes.
    pub(crate) left_out: (usize, u64),
}

/// How often the pieces of one image are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Availability {
    pub(crate) revision: RevisionRef,
    pub(crate) pieces: u32,
    /// Whether a piece may be there more often than is told, since pieces were told in groups.
    pub(crate) at_least: bool,
    /// Number of pieces by copies.
    pub(crate) by_copies: BTreeMap<u32, u32>,
}

impl Availability {
    /// Copies of the rarest piece, and how many pieces are as rare.
    pub(crate) fn rarest(&self) -> Option<(u32, u32)> {
        self.by_copies.first_key_value().map(|(copies, pieces)| (*copies, *pieces))
    }
}

/// A node, without the lock that holds it.
struct Told {
    id: NodeId,
    addr: IpAddr,
    name: String,
    group: String,
    revision: Option<RevisionRef>,
    complete: bool,
    exchange: Option<Exchange>,
}

/// What all nodes told.
pub(crate) struct Exchanges {
    nodes: Vec<Told>,
    admins: BTreeSet<IpAddr>,
}

impl Exchanges {
    /// As it is now.
    pub(crate) fn of(app: &App) -> Self {
        let inventory = app.inventory();
        let told = lock(&app.nodes).all().into_iter().map(|n| told(n, &inventory)).collect();
        Self { nodes: told, admins: app.torrents.admins() }
    }

    /// Everything that was given, in order of the receiver.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let mut places: HashMap<IpAddr, Option<&Told>> = HashMap::new();
        for node in &self.nodes {
            // several nodes behind one address cannot be told apart
            let same = |known: &mut Option<&Told>| *known = None;
            places.entry(node.addr).and_modify(same).or_insert(Some(node));
        }
        let mut edges = Vec::new();
        for node in &self.nodes {
            let Some(exchange) = &node.exchange else { continue };
            for gift in &exchange.from {
                let ip = gift.from.to_canonical();
                let from = match places.get(&ip) {
                    _ if self.admins.contains(&ip) => Party::Admin,
                    Some(Some(giver)) => giver.party(),
                    _ => Party::Host(ip),
                };
                edges.push(Edge { from, to: node.id, bytes: gift.bytes });
            }
            if exchange.others > 0 {
                edges.push(Edge { from: Party::Others, to: node.id, bytes: exchange.others });
            }
        }
        edges
    }

    /// As a table of [`MAX_SIDE`] rows and columns at most: nodes when they fit, else racks and subnets,
    /// those first that moved most.
    pub(crate) fn matrix(&self) -> Matrix {
        let edges = self.edges();
        let grouped = edges.iter().map(|edge| edge.to).collect::<BTreeSet<_>>().len() > MAX_SIDE;
        let by_id: HashMap<NodeId, &Told> = self.nodes.iter().map(|n| (n.id, n)).collect();
        let place = |party: &Party| match party {
            Party::Node(_, _, id) if grouped => by_id.get(id).map_or(Party::Others, |n| n.rack()),
            other => other.clone(),
        };
        let mut sums: BTreeMap<(Party, Party), u64> = BTreeMap::new();
        for edge in &edges {
            let Some(to) = by_id.get(&edge.to) else { continue };
            let key = (place(&edge.from), place(&to.party()));
            let sum = sums.entry(key).or_default();
            *sum = sum.saturating_add(edge.bytes);
        }
        let givers = most(sums.iter().map(|((from, _), bytes)| (from, *bytes)));
        let takers = most(sums.iter().map(|((_, to), bytes)| (to, *bytes)));
        let mut matrix = Matrix { grouped, ..Matrix::default() };
        let mut missing = BTreeSet::new();
        for ((from, to), bytes) in &sums {
            match (givers.binary_search(from), takers.binary_search(to)) {
                (Ok(row), Ok(column)) => drop(matrix.bytes.insert((row, column), *bytes)),
                (row, column) => {
                    missing.extend(row.is_err().then_some(from));
                    missing.extend(column.is_err().then_some(to));
                    matrix.left_out.1 = matrix.left_out.1.saturating_add(*bytes);
                }
            }
        }
        matrix.left_out.0 = missing.len();
        (matrix.givers, matrix.takers) = (givers, takers);
        matrix
    }

    /// How often the pieces of an image are there; `complete` is how many complete peers announced
    /// themselves. `None` when no node that fetches it told its pieces.
    pub(crate) fn availability(&self, of: &RevisionRef, complete: usize) -> Option<Availability> {
        let nodes = || self.nodes.iter().filter(|node| node.revision.as_ref() == Some(of));
        let holding = |node: &Told| {
            let holding = node.exchange.as_ref()?.holding.as_ref()?;
            let groups = holding.groups()?;
            (!node.complete).then_some((holding.pieces, groups))
        };
        let partial: Vec<(u32, Vec<bool>)> = nodes().filter_map(holding).collect();
        let pieces = partial.first()?.0;
        let complete = complete.max(nodes().filter(|node| node.complete).count());
        let complete = u32::try_from(complete).unwrap_or(u32::MAX);
        let per = Holding::pieces_per_bit(pieces);
        let count = usize::try_from(pieces.div_ceil(per)).ok()?;
        let mut copies = vec![complete; count];
        // whoever tells of another number of pieces fetches something else
        for (_, groups) in partial.iter().filter(|(of, _)| *of == pieces) {
            for (copies, held) in copies.iter_mut().zip(groups) {
                *copies = copies.saturating_add(u32::from(*held));
            }
        }
        let mut by_copies = BTreeMap::new();
        let mut left = pieces;
        for copies in copies {
            let pieces = per.min(left);
            left -= pieces;
            *by_copies.entry(copies).or_insert(0) += pieces;
        }
        Some(Availability { revision: of.clone(), pieces, at_least: per > 1, by_copies })
    }
}

impl Told {
    fn party(&self) -> Party {
        Party::Node(natural(&self.name), self.name.clone(), self.id)
    }

    fn rack(&self) -> Party {
        Party::Group(natural(&self.group), self.group.clone())
    }
}

fn told(node: &Node, inventory: &Inventory) -> Told {
    let entry = inventory.of(node.id);
    Told {
        id: node.id,
        addr: node.addr.to_canonical(),
        name: inventory.name(node.id),
        group: entry.and_then(Entry::rack_title).unwrap_or_else(|| subnet(node.addr)),
        revision: node.revision.clone(),
        complete: node.percent >= 100.0,
        exchange: node.exchange.clone(),
    }
}

/// The parties that moved most, in their own order.
fn most<'a>(moved: impl Iterator<Item = (&'a Party, u64)>) -> Vec<Party> {
    let mut sums: BTreeMap<&Party, u64> = BTreeMap::new();
    for (party, bytes) in moved {
        let sum = sums.entry(party).or_default();
        *sum = sum.saturating_add(bytes);
    }
    let mut all: Vec<_> = sums.into_iter().collect();
    all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    all.truncate(MAX_SIDE);
    let mut parties: Vec<Party> = all.into_iter().map(|(party, _)| party.clone()).collect();
    parties.sort();
    parties
}

#[cfg(test)]
#[path = "exchange/tests.rs"]
mod tests;
