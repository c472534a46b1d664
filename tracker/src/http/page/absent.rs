//! A node that is known and was never heard: of the inventory, or told what to boot.

use maud::{Markup, html};
use proto::node_id::NodeId;

use crate::app::{App, lock};
use crate::fleet::not_asked;
use crate::http::boot;

/// The content of its page, by its addresses; `None`: nobody knows it.
pub(super) fn content(app: &App, macs: &[NodeId]) -> Option<Markup> {
    let first = *macs.first()?;
    let inventory = app.inventory();
    let entry = inventory.of(first);
    let told = lock(&app.assignments).find(macs);
    if entry.is_none() && told.is_none() {
        return None;
    }
    let all: Vec<_> = macs.iter().map(ToString::to_string).collect();
    let trouble = not_asked::never_heard(app, macs);
    Some(html! {
        h1 { (inventory.name(first)) }
        @if let Some(trouble) = trouble {
            div.problem {
                b { (trouble.cause.title()) } ": " (trouble.detail)
                small { "→ " (trouble.cause.remedy()) }
            }
        }
        p.empty { "Not heard yet: its firmware has not asked what to boot, and no event came." }
        dl.facts {
            dt { "addresses" } dd { code { (all.join(" ")) } }
            @if let Some(rack) = entry.and_then(|entry| entry.rack.as_ref()) { dt { "rack" } dd { (rack) } }
            @if let Some(group) = entry.and_then(|entry| entry.group.as_ref()) { dt { "group" } dd { (group) } }
            dt { "assigned" }
            dd { @match &told { Some(told) => (told.revision), None => "no: it follows its channel" } }
            dt { "would boot now" } dd { (boot::outlook(app, first)) }
        }
    })
}
