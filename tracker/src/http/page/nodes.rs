//! The list of nodes.

use std::time::{Duration, Instant};

use maud::{Markup, html};
use proto::event::Sources;
use proto::event::audit::Verdict;
use proto::node_id::NodeId;
use store::RevisionRef;

use super::layout::scroll;
use super::node::reports::passed;
use super::text::{bytes, duration, rate, share};
use crate::app::{App, lock};
use crate::fleet::Phase;
use crate::inventory::Inventory;
use crate::nodes::node::{Node, Trust};
use crate::nodes::trouble::Trouble;

/// Rows on the page; the rest is in the API. Those in trouble come first.
const MAX_ROWS: usize = 1000;

/// One node.
struct Row {
    id: NodeId,
    name: String,
    /// Its events carry no token.
    unproved: bool,
    address: String,
    stage: &'static str,
    percent: f64,
    rate: u64,
    peers: u32,
    sources: Sources,
    revision: Option<RevisionRef>,
    heard: Duration,
    trouble: Option<Trouble>,
    audit: Option<Verdict>,
    quiet: bool,
}

/// The content of the page.
pub(super) fn content(app: &App) -> Markup {
    let (total, rows) = gather(app);
    html! {
        h1 { "Nodes" }
        @if rows.is_empty() { p.empty { "No node was heard yet." } } @else { (table(&rows)) }
        @if total > rows.len() {
            p.empty {
                "The first " (MAX_ROWS) ", those in trouble before the others; " (total - rows.len())
                " more in " a href="/api/v1/nodes" { "the API" } "."
            }
        }
    }
}

fn gather(app: &App) -> (usize, Vec<Row>) {
    let inventory = app.inventory();
    let nodes = lock(&app.nodes);
    let now = Instant::now();
    let mut all = nodes.all();
    let total = all.len();
    all.sort_by_key(|node| !node.troubled(now));
    (total, all.into_iter().take(MAX_ROWS).map(|node| row(node, &inventory, now)).collect())
}

fn row(node: &Node, inventory: &Inventory, now: Instant) -> Row {
    Row {
        id: node.id,
        name: inventory.name(node.id),
        unproved: node.trust == Trust::Without,
        address: node.addr.to_string(),
        stage: node.stage,
        percent: node.percent,
        rate: node.rate(now),
        peers: node.progress.peers,
        sources: node.sources,
        revision: node.revision.clone(),
        heard: now.saturating_duration_since(node.heard),
        trouble: node.trouble(now),
        audit: node.audit.as_ref().map(|audit| audit.verdict),
        quiet: node.silent(now).is_some() || node.old(now),
    }
}

fn table(rows: &[Row]) -> Markup {
    html! {
        (scroll("Nodes", &html! {
            table {
                thead { tr {
                    th scope="col" { "node" } th scope="col" { "stage" } th scope="col" { "image" }
                    th.n scope="col" { "rate" } th.n scope="col" { "peers" }
                    th scope="col" { "received from" } th.n scope="col" { "last heard" }
                    th scope="col" { "trouble" }
                } }
                tbody { @for row in rows { (line(row)) } }
            }
        }))
    }
}

fn line(row: &Row) -> Markup {
    let fetching = row.stage == "fetch";
    html! {
        tr.trouble[row.trouble.is_some()] {
            td {
                a href={ "/nodes/" (row.id) } { (row.name) }
                small { (row.address) @if row.unproved { " · not authenticated" } }
            }
            td {
                (bar(&[(Phase::of(row.stage).word(), row.percent)]))
                small {
                    (row.stage) @if matches!(row.stage, "fetch" | "failed") { " " (percent(row.percent)) }
                    @if let Some(verdict) = row.audit { " · audit " (passed(verdict)) }
                }
            }
            td { @if let Some(r) = &row.revision { (r.name) small { code { (r.id) } } } }
            td.n { @if fetching { (rate(row.rate)) } }
            td.n { @if fetching { (row.peers) } }
            td { (sources(row.sources)) }
            td.n.quiet[row.quiet] { (duration(row.heard)) " ago" }
            td.why {
                @if let Some(trouble) = &row.trouble {
                    (trouble.cause) ": " (trouble.detail) small { "→ " (trouble.cause.remedy()) }
                }
            }
        }
    }
}

/// Percent, rounded down: 100 is complete.
pub(super) fn percent(percent: f64) -> String {
    format!("{:.1} %", (percent * 10.0).floor() / 10.0)
}

/// A bar of parts, each with its class and its share in percent.
pub(super) fn bar(parts: &[(&str, f64)]) -> Markup {
    html! {
        div.bar aria-hidden="true" {
            @for (class, share) in parts { i.(class) style={ "--p:" (format!("{share:.1}")) "%" } {} }
        }
    }
}

/// Where bytes came from.
pub(super) fn sources(from: Sources) -> Markup {
    let total = from.total();
    if total == 0 {
        return html! {};
    }
    let parts = [("peers", from.peers), ("admin", from.admin), ("web", from.web)];
    let shares: Vec<_> = parts.iter().map(|(name, part)| (*name, share(*part, total))).collect();
    let texts: Vec<_> = parts
        .iter()
        .filter(|(_, part)| *part > 0)
        .map(|(name, part)| format!("{name} {}", bytes(*part)))
        .collect();
    html! { (bar(&shares)) small { (texts.join(" · ")) } }
}
