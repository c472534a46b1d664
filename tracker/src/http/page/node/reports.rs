//! What a node reports beside the stages of its boot: its console, and what was found of its hardware.

use std::time::{Duration, Instant};

use maud::{Markup, html};
use proto::event::audit::{Audit, Verdict};

use super::super::layout::scroll;
use super::super::text::duration;
use super::moment;
use crate::nodes::node::Node;
use crate::state::EndedBoot;

/// Past boots whose consoles are on the page: the newest.
const MAX_CONSOLES: usize = 5;

/// A verdict for people.
pub(in crate::http::page) fn passed(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "passed",
        Verdict::Fail => "failed",
    }
}

/// What the hardware audit came to, and what it looked at.
pub(super) fn audit(audit: &Audit) -> Markup {
    let bad = audit.verdict == Verdict::Fail;
    html! {
        section {
            h2 { "Hardware audit" }
            p { b.quiet[bad] { (passed(audit.verdict)) } @if !audit.text.is_empty() { ": " (audit.text) } }
            @if !audit.findings.is_empty() {
                (scroll("Findings of the hardware audit", &html! {
                    table {
                        thead { tr {
                            th scope="col" { "what" } th scope="col" { "verdict" } th scope="col" { "found" }
                        } }
                        tbody {
                            @for finding in &audit.findings {
                                @let bad = finding.verdict == Verdict::Fail;
                                tr.trouble[bad] {
                                    td { (finding.name) }
                                    td { span.quiet[bad] { (passed(finding.verdict)) } }
                                    td { (finding.detail) }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

/// The last lines of its console, and those of boots before that ended in trouble.
pub(super) fn consoles(node: &Node, past: &[EndedBoot], now: Instant) -> Markup {
    let ended: Vec<_> =
        past.iter().filter(|ended| !ended.boot.console.is_empty()).take(MAX_CONSOLES).collect();
    html! {
        section {
            h2 { "Console" }
            @match node.timeline.console() {
                Some((console, entry)) => {
                    @let age: Duration = now.saturating_duration_since(entry.received);
                    (lines("Console of this boot", &console.lines))
                    p.hint { "Its last lines, as they were " (duration(age)) " ago. Lines that differ in numbers only are one." }
                }
                None => p.empty {
                    "Nothing came in this boot: a node sends the last lines of its console when it fails, and when it is stuck."
                }
            }
            @for ended in ended {
                @let title = format!("Boot that ended {}", moment(ended.ended_ms));
                h3 { (title) }
                (lines(&title, &ended.boot.console))
            }
        }
    }
}

fn lines(label: &str, lines: &[String]) -> Markup {
    scroll(label, &html! { pre { (lines.join("\n")) } })
}
