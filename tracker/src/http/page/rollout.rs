//! Nodes that are reimaged in batches: how far it is, what it waits for, who failed and why.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};
use proto::rollout::{Member, MemberState, Phase, Rollout};

use super::layout::scroll;
use super::text::duration;
use crate::state::unix_ms;

/// Rows of nodes on the page: who is up or waits says nothing.
const MAX_ROWS: usize = 200;

/// The content of the page; the newest rollout comes last in `all`, and first on the page.
pub(super) fn content(all: &[Rollout], can_reboot: bool) -> Markup {
    let now = unix_ms(SystemTime::now());
    html! {
        h1 { "Reimage" }
        @match all.last() {
            None => {
                p.empty {
                    "No node was reimaged in batches yet. "
                    @if can_reboot {
                        code { "bee-packer reimage NAME@REV --nodes rack[1-4]n[01-32] --batch 10%" } " does it."
                    } @else {
                        "This bee-tracker cannot reboot nodes: its configuration file has no [reimage]."
                    }
                }
            }
            Some(last) => { (rollout(last, now)) }
        }
        @if all.len() > 1 {
            section {
                h2 { "Before" }
                (scroll("Former rollouts", &html! {
                    table {
                        thead { tr {
                            th.n scope="col" { "number" } th scope="col" { "revision" } th scope="col" { "state" }
                            th.n scope="col" { "up" } th.n scope="col" { "failed" } th.n scope="col" { "nodes" }
                            th scope="col" { "begun" } th scope="col" { "reason" }
                        } }
                        tbody {
                            @for past in all.iter().rev().skip(1) {
                                tr {
                                    td.n { (past.id) }
                                    td { code { (past.revision) } }
                                    td { (phase(past.phase)) }
                                    td.n { (past.count(MemberState::Up)) }
                                    td.n { (past.count(MemberState::Failed)) }
                                    td.n { (past.nodes.len()) }
                                    td { (ago(past.started_ms, now)) " ago" }
                                    td { (past.reason) }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

/// A line for the fleet's page, while somebody may have to look after it.
pub(super) fn line(last: &crate::rollout::Rollout) -> Option<Markup> {
    let count = |state| last.members.iter().filter(|entry| entry.member.state == state).count();
    let stopped = last.phase == Phase::Stopped;
    let line = || {
        html! {
            p.note.problem[stopped] {
                a href="/reimage" { "Rollout " (last.id) } " of " (last.plan.revision) " is " (phase(last.phase)) ": "
                (count(MemberState::Up)) " of " (last.members.len()) " nodes are up, "
                (count(MemberState::Failed)) " failed."
                @if stopped { small { (last.reason) } }
            }
        }
    };
    (last.phase != Phase::Done).then(line)
}

fn rollout(rollout: &Rollout, now: i64) -> Markup {
    let mut shown: Vec<&Member> = rollout
        .nodes
        .iter()
        .filter(|node| !matches!(node.state, MemberState::Waiting | MemberState::Up))
        .collect();
    // those first that somebody has to look at
    shown.sort_by_key(|node| node.state != MemberState::Failed);
    let (batch, batches) = batches(rollout);
    html! {
        section {
            h2 { "Rollout " (rollout.id) ": " code { (rollout.revision) } ", " (phase(rollout.phase)) }
            p {
                (rollout.count(MemberState::Up)) " of " (rollout.nodes.len()) " nodes are up, "
                (rollout.count(MemberState::Failed)) " failed (" (rollout.max_failed) " may), batch "
                (batch) " of " (batches) ". Begun " (ago(rollout.started_ms, now)) " ago. "
                (rollout.copies) " nodes hold the image."
            }
            @if !rollout.reason.is_empty() { p.problem { (rollout.reason) } }
            @if rollout.phase == Phase::Stopped {
                p { code { "bee-packer reimage --resume" } " goes on, and tries those again that failed." }
            }
            @if let Some(held) = &rollout.held { p.problem { "The next batch waits: " (held) "." } }
            (scroll("Nodes by state", &html! {
                table.even {
                    thead { tr { @for state in MemberState::ALL { th.n scope="col" { (state.word()) } } } }
                    tbody { tr { @for state in MemberState::ALL { td.n { (rollout.count(state)) } } } }
                }
            }))
        }
        section {
            h2 { "Nodes that reboot, or failed" }
            @if shown.is_empty() { p.empty { "None at the moment." } }
            @else {
                (scroll("Nodes that reboot, or failed", &html! {
                    table {
                        thead { tr {
                            th scope="col" { "node" } th.n scope="col" { "batch" } th scope="col" { "state" }
                            th scope="col" { "for" } th scope="col" { "why" }
                        } }
                        tbody {
                            @for node in shown.iter().take(MAX_ROWS) {
                                @let failed = node.state == MemberState::Failed;
                                tr.trouble[failed] {
                                    td { (link(node)) }
                                    td.n { (node.batch) }
                                    td { span.quiet[failed] { (node.state.word()) } }
                                    td { (ago(node.since_ms, now)) }
                                    td { (node.detail) }
                                }
                            }
                        }
                    }
                }))
                @if shown.len() > MAX_ROWS {
                    p.hint {
                        "The first " (MAX_ROWS) " of " (shown.len()) "; " a href="/api/v1/rollouts/last" { "all" } "."
                    }
                }
            }
        }
    }
}

fn link(node: &Member) -> Markup {
    html! {
        @match node.macs.first() {
            Some(mac) => a href={ "/nodes/" (mac) } { (node.name) },
            None => (node.name),
        }
    }
}

/// The batch that it is in, and how many there will be.
fn batches(rollout: &Rollout) -> (u32, usize) {
    let batch = rollout.nodes.iter().map(|node| node.batch).max().unwrap_or(0);
    let left = rollout.nodes.iter().filter(|node| node.batch == 0).count();
    let begun = usize::try_from(batch).unwrap_or(usize::MAX);
    (batch, begun.saturating_add(left.div_ceil(rollout.batch.max(1))))
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Stopped => "stopped",
        Phase::Done => "done",
    }
}

fn ago(then_ms: i64, now_ms: i64) -> String {
    duration(Duration::from_millis(u64::try_from(now_ms - then_ms).unwrap_or(0)))
}
