//! The fleet: its numbers, the map, and who is stuck.

use std::collections::BTreeMap;

use maud::{Markup, html};
use proto::event::Sources;

use super::Parts;
use super::layout::scroll;
use super::text::{duration, rate, share};
use crate::fleet::link::Link;
use crate::fleet::{Cell, Completion, Fleet, Group, Last, Mark, Phase, letter};

/// Stuck nodes that are listed; the rest is on the page of nodes.
const MAX_STALLED: usize = 50;

/// What the head of the page shows beside the fleet.
pub(super) struct Around<'a> {
    pub(super) link: Option<&'a Link>,
    /// Bytes per second by source, measured here.
    pub(super) rates: Sources,
    pub(super) problems: &'a [String],
    /// The line of a rollout that goes on, or was stopped.
    pub(super) rollout: Option<Markup>,
}

/// Numbers and legend.
pub(super) fn head(fleet: &Fleet, around: &Around<'_>) -> Markup {
    let total = fleet.sources.total();
    let stalled = fleet.stalled.len();
    let admin = around.rates.admin.saturating_add(around.rates.web);
    let tile = |label: &str, value: Markup, more: Markup, bad: bool| {
        html! { div.bad[bad] { dt { (label) } dd { (value) } dd.more { (more) } } }
    };
    html! {
        @for problem in around.problems { p.problem { (problem) } }
        @if let Some(rollout) = &around.rollout { (rollout) }
        dl.tiles {
            (tile("nodes up", html! { (fleet.up()) " of " (fleet.nodes) }, html! {}, false))
            (tile("need attention", html! { (stalled) }, html! {
                @if stalled > 0 { a href="#stalled" { "see why" } } @else { "none" }
            }, stalled > 0))
            (tile("fetching together", html! { (rate(fleet.rate)) }, html! {
                @if total > 0 { (share(fleet.sources.peers, total).round()) " % from peers" }
            }, false))
            (tile("admin host's link", html! { (rate(admin)) }, html! {
                @match around.link {
                    Some(link) => { (format!("{:.0}", share(admin, link.rate))) " % of " (rate(link.rate)) }
                    None => { "its speed is not known: --admin-link" }
                }
            }, false))
            (tile("last node has its image", completion(&fleet.completion), html! {
                (after(&fleet.completion))
            }, false))
        }
        ul.legend aria-label="Nodes by stage" {
            @for (stage, count) in fleet.stages.iter().filter(|(_, count)| *count > 0) {
                li {
                    span.key.(Phase::of(stage).word()) aria-hidden="true" {
                        (letter(stage, Mark::None))
                    }
                    (stage) " " b { (count) }
                }
            }
            @if fleet.stalled.iter().any(|s| s.stage != "failed") {
                li { span.key.stuck aria-hidden="true" { "!" } "needs attention" }
            }
        }
    }
}

fn completion(completion: &Completion) -> Markup {
    html! {
        @match (&completion.last, completion.stuck) {
            (Last::In(time, _), _) => { "in " (duration(*time)) }
            (Last::Nobody, 0) => "–",
            (Last::Nobody, _) => "not known",
        }
    }
}

/// Who is the last, and who is not counted.
fn after(completion: &Completion) -> Markup {
    let stuck = match completion.stuck {
        1 => "1 stuck node".to_owned(),
        count => format!("{count} stuck nodes"),
    };
    html! {
        @match (&completion.last, completion.stuck) {
            (Last::In(_, name), 0) => (name),
            (Last::In(_, name), _) => { (name) ", without " (stuck) }
            (Last::Nobody, 0) => "nobody fetches",
            (Last::Nobody, _) => { (stuck) ", nobody else fetches" }
        }
    }
}

/// The map.
pub(super) fn map(fleet: &Fleet, tracker: &str) -> Markup {
    html! {
        @if fleet.groups.is_empty() {
            p.empty {
                "No node was heard yet. Nodes appear as soon as their firmware asks for "
                code { "http://" (tracker) "/boot.ipxe" } "."
            }
        }
        div.groups { @for group in &fleet.groups { (self::group(group)) } }
    }
}

fn group(group: &Group) -> Markup {
    html! {
        section.group {
            h3 { (group.name) " " small { (group.cells.len()) } }
            div.cells { @for cell in &group.cells { (self::cell(cell)) } }
        }
    }
}

fn cell(cell: &Cell) -> Markup {
    html! {
        a id={ "n" (cell.id) } class=(class(cell)) style={ "--p:" (fill(cell)) "%" }
            href={ "/nodes/" (cell.id) } title={ (cell.name) ": " (cell.title) }
        { (letter(cell.stage, cell.mark)) }
    }
}

/// The classes of a cell.
pub(crate) fn class(cell: &Cell) -> String {
    let phase = match cell.stage {
        crate::fleet::ABSENT => crate::fleet::ABSENT,
        stage => Phase::of(stage).word(),
    };
    let mark = match cell.mark {
        Mark::None => "",
        Mark::Trouble => " stuck",
        Mark::Old => " old",
    };
    format!("c {phase}{mark}")
}

/// How much of a cell is filled, in percent: the share of the image while it is fetched.
pub(crate) fn fill(cell: &Cell) -> u8 {
    match Phase::of(cell.stage) {
        Phase::Fetch | Phase::Failed => cell.percent,
        Phase::Waiting => 0,
        _ => 100,
    }
}

/// Who needs attention, and why.
pub(super) fn stalled(fleet: &Fleet) -> Markup {
    let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
    for stalled in &fleet.stalled {
        *causes.entry(stalled.trouble.cause.title()).or_default() += 1;
    }
    html! {
        @if fleet.stalled.is_empty() { p.empty { "Nobody." } } @else {
            ul.causes { @for (cause, count) in causes { li { b { (count) } " " (cause) } } }
            (scroll("Nodes that need attention", &html! {
                table {
                    thead { tr {
                        th scope="col" { "node" } th scope="col" { "stage" } th scope="col" { "cause" }
                        th scope="col" { "what is known, and what to do" }
                        th.n scope="col" { "last heard" }
                    } }
                    tbody {
                        @for stalled in fleet.stalled.iter().take(MAX_STALLED) {
                            tr.trouble {
                                td { a href={ "/nodes/" (stalled.id) } { (stalled.name) } }
                                td { (stalled.stage) }
                                td.why { (stalled.trouble.cause.title()) }
                                td {
                                    (stalled.trouble.detail)
                                    small { "→ " (stalled.trouble.cause.remedy()) }
                                }
                                td.n {
                                    @match stalled.heard {
                                        Some(heard) => { (duration(heard)) " ago" }
                                        None => "never",
                                    }
                                }
                            }
                        }
                    }
                }
            }))
            @if fleet.stalled.len() > MAX_STALLED {
                p.empty {
                    "The " (MAX_STALLED) " that were not heard for longest; all are in "
                    a href="/nodes" { "the list of nodes" } "."
                }
            }
        }
    }
}

/// The whole content of the page.
pub(super) fn content(parts: &Parts, tracker: &str) -> Markup {
    html! {
        h1 { "Fleet" }
        div #head { (parts.head) }
        section aria-labelledby="map-title" {
            h2 #map-title { "Map" }
            p.hint {
                "One cell per node, by rack of the inventory or else by subnet. Colour and letter: stage; \
                 fill: share of the image; ! and a red frame: needs attention; ?: its last word is old."
            }
            div #map { (parts.map(tracker)) }
        }
        section aria-labelledby="stalled" {
            h2 #stalled { "Who needs attention" }
            div #stalls { (parts.stalls) }
        }
        section aria-labelledby="charts-title" {
            h2 #charts-title { "Over time" }
            div #charts { @if let Some(charts) = &parts.charts { (charts) } }
        }
    }
}
