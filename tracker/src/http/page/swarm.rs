//! The swarm: who gave how much to whom, as far as nodes tell.

use maud::{Markup, html};
use proto::event::Sources;
use proto::node_id::NodeId;

use super::layout::scroll;
use super::text::{bytes, rate, share};
use super::{TorrentRow, torrents};
use crate::app::{App, lock};
use crate::fleet::exchange::{Availability, Exchanges};

mod matrix;
mod pieces;

/// Rows of givers.
const MAX_GIVERS: usize = 30;

/// What a node took and gave.
struct Trade {
    id: NodeId,
    name: String,
    took: Sources,
    gave: u64,
    upload_rate: u64,
}

/// The content of the page.
pub(super) fn content(app: &App) -> Markup {
    let inventory = app.inventory();
    let mut trades = Vec::new();
    // nodes by tenths of the image that they have; the last is complete
    let mut progress = [0_usize; 11];
    {
        let nodes = lock(&app.nodes);
        for node in nodes.all() {
            let name = inventory.of(node.id).map(|entry| entry.name.to_string());
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10")]
            let tenth = (node.percent.clamp(0.0, 100.0) / 10.0) as usize;
            if node.sources.total() > 0 || node.stage == "fetch" {
                progress[tenth.min(10)] += 1;
                trades.push(Trade {
                    id: node.id,
                    name: name.unwrap_or_else(|| node.id.to_string()),
                    took: node.sources,
                    gave: node.sent(),
                    upload_rate: node.progress.upload_rate,
                });
            }
        }
    }
    let mut took = Sources::default();
    trades.iter().for_each(|trade| took += trade.took);
    let gave = trades.iter().fold(0_u64, |sum, trade| sum.saturating_add(trade.gave));
    trades.sort_by_key(|trade| std::cmp::Reverse(trade.gave));
    let exchanges = Exchanges::of(app);
    let torrents: Vec<_> = torrents(app)
        .into_iter()
        .map(|row| {
            let known = row.revision.as_ref();
            let pieces = known.and_then(|of| exchanges.availability(of, row.counts.seeds));
            (row, pieces)
        })
        .collect();
    html! {
        h1 { "Swarm" }
        section { h2 { "Torrents" } (table(&torrents)) }
        section {
            h2 { "How often pieces are there" }
            @if torrents.iter().all(|(_, pieces)| pieces.is_none()) {
                p.empty { "No node that fetches has told its pieces." }
            }
            @for (_, of) in &torrents { @if let Some(of) = of { (pieces::availability(of)) } }
            p.hint {
                "Complete peers as they announced themselves, and the pieces that fetching nodes told within the \
                 last ten seconds. Of images with more than 2048 pieces they tell groups of pieces, so that the \
                 numbers are lower bounds."
            }
        }
        section { h2 { "How much of the image nodes have" } (histogram(&progress)) }
        section {
            h2 { "Who gave how much to whom" }
            dl.tiles {
                div { dt { "admin host to nodes" } dd { (bytes(took.admin)) } }
                div { dt { "web seeds to nodes" } dd { (bytes(took.web)) } }
                div { dt { "nodes took from nodes" } dd { (bytes(took.peers)) } }
                div { dt { "nodes say they gave" } dd { (bytes(gave)) } }
            }
            (matrix::matrix(&exchanges.matrix()))
            h3 { "Nodes that gave most" }
            (givers(&trades, gave))
            p.hint {
                "Each node names the sixteen that gave it most, every ten seconds and when it is complete; what \
                 came from further ones are the others, and what they gave is a sum of their own. What was given \
                 includes repeated bytes, so that it is a little more than what was taken."
            }
        }
    }
}

fn table(rows: &[(TorrentRow, Option<Availability>)]) -> Markup {
    html! {
        @if rows.is_empty() { p.empty { "Nothing is published, and nobody announced." } } @else {
            (scroll("Torrents", &html! {
                table {
                    thead { tr {
                        th scope="col" { "image" } th.n scope="col" { "complete" }
                        th.n scope="col" { "fetching" } th.n scope="col" { "finished" }
                        th.n scope="col" { "rarest piece" } th scope="col" { "info-hash" }
                    } }
                    tbody {
                        @for (row, pieces) in rows {
                            tr {
                                td {
                                    @match &row.revision { Some(r) => (r), None => "–" }
                                }
                                td.n { (row.counts.seeds) } td.n { (row.counts.leechers) }
                                td.n { (row.counts.completed) }
                                td.n {
                                    @match pieces.as_ref().and_then(Availability::rarest) {
                                        Some((copies, _)) => {
                                            @if pieces.as_ref().is_some_and(|of| of.at_least) { "at least " }
                                            (copies) "×"
                                        }
                                        None => { "at least " (row.counts.seeds) "×" }
                                    }
                                }
                                td { code { (row.info_hash) } }
                            }
                        }
                    }
                }
            }))
            p.hint {
                "Complete, fetching and finished (since this tracker started): from announces. Where no \
                 fetching node tells its pieces, all that is known of the rarest one is that complete peers \
                 have it."
            }
        }
    }
}

fn histogram(progress: &[usize; 11]) -> Markup {
    let most = progress.iter().copied().max().unwrap_or(0);
    let (most, total) = (count(most).max(1.0), progress.iter().sum::<usize>());
    let label = |tenth: usize| match tenth {
        10 => "100 %".to_owned(),
        tenth => format!("{} %", tenth * 10),
    };
    let words: Vec<_> = progress
        .iter()
        .enumerate()
        .filter(|(_, nodes)| **nodes > 0)
        .map(|(tenth, nodes)| format!("{nodes} from {}", label(tenth)))
        .collect();
    let summary = format!("Nodes by the share of the image that they have: {}", words.join(", "));
    html! {
        @if total == 0 { p.empty { "Nobody fetched anything in its present boot." } } @else {
            figure {
                svg viewBox="0 0 620 150" role="img" aria-label=(summary) {
                    @for (tenth, nodes) in progress.iter().enumerate() {
                        @let height = count(*nodes) / most * 105.0;
                        @let x = 10.0 + count(tenth) * 55.0;
                        rect.(if tenth == 10 { "seeding" } else { "fetch" }) x=(x) width="46"
                            y=(format!("{:.1}", 122.0 - height)) height=(format!("{height:.1}")) {}
                        text x=(x + 23.0) y=(format!("{:.1}", 117.0 - height)) text-anchor="middle" {
                            @if *nodes > 0 { (nodes) }
                        }
                        text x=(x + 23.0) y="140" text-anchor="middle" { (label(tenth)) }
                    }
                }
            }
            p.hint {
                "From the progress that nodes report: each bar is the nodes that have at least this share. With \
                 pieces spread evenly, as rarest-first makes them, a piece is held by about the sum of these \
                 shares: " (format!("{:.1}", copies(progress))) " copies among the nodes."
            }
        }
    }
}

/// Copies of the image that nodes hold together, from the middle of each tenth.
fn copies(progress: &[usize; 11]) -> f64 {
    let middle = |tenth: usize| if tenth == 10 { 1.0 } else { (count(tenth) + 0.5) / 10.0 };
    progress.iter().enumerate().map(|(tenth, nodes)| count(*nodes) * middle(tenth)).sum()
}

fn givers(trades: &[Trade], gave: u64) -> Markup {
    html! {
        @if !trades.is_empty() {
            (scroll("What nodes gave and took", &html! {
                table {
                    thead { tr {
                        th scope="col" { "node" } th.n scope="col" { "gave" }
                        th.n scope="col" { "of all that was given" } th.n scope="col" { "gives now" }
                        th.n scope="col" { "gave per byte taken" } th scope="col" { "took from" }
                    } }
                    tbody {
                        @for trade in trades.iter().take(MAX_GIVERS) {
                            tr {
                                td { a href={ "/nodes/" (trade.id) } { (trade.name) } }
                                td.n { (bytes(trade.gave)) }
                                td.n { (format!("{:.1} %", share(trade.gave, gave))) }
                                td.n { (rate(trade.upload_rate)) }
                                td.n { (format!("{:.2}", share(trade.gave, trade.took.total()) / 100.0)) }
                                td { (super::nodes::sources(trade.took)) }
                            }
                        }
                    }
                }
            }))
            @if trades.len() > MAX_GIVERS {
                p.empty { "The " (MAX_GIVERS) " that gave most, of " (trades.len()) "." }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a drawing of small numbers")]
fn count(number: usize) -> f64 {
    number as f64
}
