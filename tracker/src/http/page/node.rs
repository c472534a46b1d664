//! One node: the boot it is in, and those before.

pub(super) mod reports;

use std::time::Instant;

use maud::{Markup, html};
use proto::event::{EventKind, VerityUse};
use proto::unix_time::UnixTime;
use std::time::Duration;

use super::layout::scroll;
use super::nodes::{percent, sources};
use super::text::{bytes, duration, rate};
use crate::fleet::Phase;
use crate::inventory::Inventory;
use crate::nodes::node::{Node, Trust};
use crate::nodes::trouble::Cause;
use crate::state::EndedBoot;

/// Stages that past boots are compared by.
const COMPARED: [&str; 7] =
    ["discover", "fetch", "verify", "attach", "mount", "handover", "seeding"];

/// Messages on the page: the newest.
const MAX_MESSAGES: usize = 60;

/// The content of the page.
pub(super) fn content(
    node: &Node,
    inventory: &Inventory,
    past: &[EndedBoot],
    now: Instant,
) -> Markup {
    let heard = now.saturating_duration_since(node.heard);
    let quiet = node.silent(now).is_some() || node.old(now);
    let times = node.timeline.stage_times();
    html! {
        h1 { (inventory.name(node.id)) }
        @if let Some(trouble) = node.trouble(now) {
            div.problem {
                b { (trouble.cause.title()) } ": " (trouble.detail)
                small { "→ " (trouble.cause.remedy()) }
            }
        }
        dl.tiles {
            div { dt { "stage" } dd { (node.stage) } dd.more { (percent(node.percent)) " of the image" } }
            div { dt { "rate" } dd { (rate(node.rate(now))) } dd.more { (node.progress.peers) " peers" } }
            div { dt { "gave to others" } dd { (bytes(node.sent())) } }
            div.bad[quiet] { dt { "last heard" } dd { (duration(heard)) " ago" } }
        }
        (facts(node, inventory))
        section {
            h2 { "This boot" }
            (timeline(&times))
            @if node.sources.total() > 0 { h3 { "Received from" } (sources(node.sources)) }
        }
        @if let Some(audit) = &node.audit { (reports::audit(audit)) }
        section { h2 { "Messages" } (messages(node, now)) }
        (reports::consoles(node, past, now))
        section { h2 { "Boots compared" } (compared(&times, past)) }
    }
}

fn facts(node: &Node, inventory: &Inventory) -> Markup {
    let entry = inventory.of(node.id);
    let macs: Vec<_> = node.macs.iter().map(ToString::to_string).collect();
    html! {
        dl.facts {
            dt { "addresses" } dd { (node.addr) " · " code { (macs.join(" ")) } }
            @if let Some(uuid) = &node.uuid { dt { "board" } dd { code { (uuid) } } }
            @if let Some(rack) = entry.and_then(|entry| entry.rack.as_ref()) { dt { "rack" } dd { (rack) } }
            @if let Some(group) = entry.and_then(|entry| entry.group.as_ref()) { dt { "group" } dd { (group) } }
            dt { "image" }
            dd { @match &node.revision { Some(revision) => (revision), None => "not known" } }
            dt { "boots seen" } dd { (node.boots) }
            dt { "events" }
            dd {
                @match node.trust {
                    Trust::Token => "carry the token of its boot script",
                    Trust::Without => "are not authenticated: anybody on the network may have sent them",
                    Trust::Silent => "none in this boot",
                }
            }
        }
    }
}

/// When each stage began, and how long it took.
fn timeline(times: &[(&'static str, u64)]) -> Markup {
    let Some((_, end)) = times.last() else {
        return html! { p.empty { "No event came in this boot." } };
    };
    let end = (*end).max(1);
    let until = |at: usize| times.get(at + 1).map(|(_, next)| *next);
    html! {
        (scroll("Timeline of this boot", &html! {
            table.timeline {
                thead { tr {
                    th scope="col" { "stage" } th.n scope="col" { "began after" }
                    th.n scope="col" { "took" } th scope="col" { "since the kernel started" }
                } }
                tbody {
                    @for (at, (stage, began)) in times.iter().enumerate() {
                        @let took = until(at).map(|next| next.saturating_sub(*began));
                        tr {
                            td { (stage) }
                            td.n { (seconds(*began)) }
                            td.n { @match took { Some(took) => (seconds(took)), None => "goes on" } }
                            td {
                                div.span aria-hidden="true" {
                                    i.(Phase::of(stage).word())
                                        style={ "--s:" (part(*began, end)) "%;--p:" (part(took.unwrap_or(0), end)) "%" } {}
                                }
                            }
                        }
                    }
                }
            }
        }))
    }
}

fn part(time: u64, of: u64) -> String {
    format!("{:.1}", super::text::share(time, of))
}

fn seconds(milliseconds: u64) -> String {
    let tenths = milliseconds.saturating_add(50) / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// What it said, newest first, without the reports of progress.
fn messages(node: &Node, now: Instant) -> Markup {
    let entries = node.timeline.entries().iter().rev();
    let told: Vec<_> =
        entries.filter(|entry| !hidden(&entry.event.kind)).take(MAX_MESSAGES).collect();
    html! {
        @if told.is_empty() { p.empty { "None." } } @else {
            (scroll("Messages", &html! {
                table {
                    thead { tr {
                        th.n scope="col" { "at" } th.n scope="col" { "came" }
                        th scope="col" { "stage" } th scope="col" { "message" }
                    } }
                    tbody {
                        @for entry in told {
                            tr {
                                td.n { (seconds(entry.event.uptime_ms)) }
                                td.n { (duration(now.saturating_duration_since(entry.received))) " ago" }
                                td { (entry.event.kind.stage()) }
                                td { (message(&entry.event.kind)) }
                            }
                        }
                    }
                }
            }))
        }
    }
}

/// What is shown elsewhere on the page.
fn hidden(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Fetch(_) | EventKind::Exchange(_) | EventKind::Console(_))
}

fn message(kind: &EventKind) -> String {
    match kind {
        EventKind::Discover { source } => source.clone(),
        EventKind::Verify { bytes: length, seconds, hash_failures, .. } => {
            let bad = match hash_failures {
                0 => String::new(),
                count => format!("; {count} pieces came with wrong data and were fetched again"),
            };
            format!("{} in {seconds:.1} s{bad}", bytes(*length))
        }
        EventKind::Attach { device } => device.clone(),
        EventKind::Mount { root, verity: None } => root.clone(),
        EventKind::Mount { root, verity: Some(VerityUse::Active(device)) } => {
            format!("{root}; dm-verity {device} checks each block")
        }
        EventKind::Mount { root, verity: Some(VerityUse::Inactive(reason)) } => {
            format!("{root}; no dm-verity: {reason}")
        }
        EventKind::Handover { peak_memory } => {
            format!("the client took {} at most", bytes(*peak_memory))
        }
        EventKind::Seeding { device, user, uploaded, http } => {
            let mirror = http.map_or("", |_| "; serves kernel and initrd");
            format!("{device} as {user}; {} sent{mirror}", bytes(*uploaded))
        }
        // what was waited for is over, and its cause still says what to look at
        EventKind::Stalled(stall) => {
            format!("{}: {}", Cause::Told(stall.cause).title(), stall.detail)
        }
        EventKind::Failed { message, .. } => message.clone(),
        EventKind::Audit(audit) => format!("{}: {}", reports::passed(audit.verdict), audit.text),
        _ => String::new(),
    }
}

/// When stages began, in this boot and in those before.
fn compared(times: &[(&'static str, u64)], past: &[EndedBoot]) -> Markup {
    let now: Vec<(&str, u64)> = times.to_vec();
    html! {
        (scroll("Boots compared", &html! {
            table {
                thead { tr {
                    th scope="col" { "boot" } th scope="col" { "image" }
                    @for stage in COMPARED { th.n scope="col" { (stage) } }
                    th scope="col" { "trouble" }
                } }
                tbody {
                    tr { td { "this one" } td {} (columns(&now)) td {} }
                    @for ended in past {
                        @let boot = &ended.boot;
                        @let times: Vec<_> =
                            boot.stage_times.iter().map(|t| (t.stage.as_str(), t.uptime_ms)).collect();
                        tr {
                            td {
                                "ended " (moment(ended.ended_ms))
                                small {
                                    "reached " (boot.stage) ", " (percent(boot.percent))
                                    @if let Some(verdict) = boot.audit { ", audit " (reports::passed(verdict)) }
                                }
                            }
                            td { @if let Some(revision) = &boot.revision { (revision) } }
                            (columns(&times))
                            td.why { @if let Some(trouble) = &boot.trouble { (trouble) } }
                        }
                    }
                }
            }
        }))
        p.hint {
            "Seconds from the start of the kernel to each stage. "
            @if past.is_empty() { "No boot before this one is known (past boots need --state)." }
        }
    }
}

fn columns(times: &[(&str, u64)]) -> Markup {
    html! {
        @for stage in COMPARED {
            td.n {
                @if let Some((_, at)) = times.iter().find(|(known, _)| *known == stage) { (seconds(*at)) }
            }
        }
    }
}

fn moment(milliseconds: i64) -> UnixTime {
    let seconds = u64::try_from(milliseconds).unwrap_or(0) / 1000;
    UnixTime(Duration::from_secs(seconds).as_secs())
}
