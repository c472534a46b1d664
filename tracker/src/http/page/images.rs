//! Images: what is published, who runs it, and how it came about.

use std::collections::HashMap;
use std::path::Path;

use maud::{Markup, html};
use proto::usage::RevisionUse;
use store::{Action, HistoryEntry, RevisionRef, Store};

use super::layout::scroll;
use super::text::bytes;
use crate::app::App;
use crate::catalog::{Image, Signed};
use crate::http::usage;

/// Lines of history on the page.
const MAX_HISTORY: usize = 100;

/// Where the history comes from.
#[derive(Debug)]
pub(crate) enum Past {
    /// There is no store.
    NoStore,
    /// The store's own, newest first, and how many there are.
    Known(Vec<HistoryEntry>, usize),
    /// It could not be read.
    Trouble(String),
}

impl Past {
    /// What the page shows of it.
    pub(super) fn read(store: &Path) -> Self {
        match Store::open(store).and_then(|store| store.history()) {
            Ok(entries) => {
                let count = entries.len();
                Self::Known(entries.into_iter().rev().take(MAX_HISTORY).collect(), count)
            }
            Err(error) => Self::Trouble(crate::catalog::describe(&error)),
        }
    }
}

/// The content of the page.
pub(super) fn content(app: &App, past: &Past) -> Markup {
    let catalog = app.catalog();
    let usage = usage::gather(app);
    let runs: HashMap<_, _> = usage
        .revisions
        .iter()
        .map(|row| ((row.name.as_str(), row.revision.as_str()), row))
        .collect();
    let of = |revision: &RevisionRef| -> Option<&RevisionUse> {
        runs.get(&(revision.name.as_str(), revision.id.as_str())).copied()
    };
    html! {
        h1 { "Images" }
        section {
            h2 { "Published" }
            @if app.config.store.is_none() {
                p.empty { "Started without --store: any torrent is tracked, nothing is offered to boot." }
            } @else if catalog.images.is_empty() {
                p.empty {
                    "Nothing is published: nodes that boot wait. Use bee-packer pack and bee-packer publish."
                }
            } @else {
                (scroll("Published images", &html! {
                    table {
                        thead { tr {
                            th scope="col" { "image" } th scope="col" { "booted by channel" }
                            th.n scope="col" { "size" } th scope="col" { "kernel" }
                            th scope="col" { "signed by" } th.n scope="col" { "nodes" }
                            th.n scope="col" { "assigned" } th scope="col" { "info-hash" }
                        } }
                        tbody {
                            @for image in &catalog.images {
                                tr {
                                    td { (image.revision.name) small { code { (image.revision.id) } } }
                                    td { (channels(image)) }
                                    td.n { (bytes(image.length)) }
                                    td { (kernel(image)) }
                                    td { (signed(&image.signed)) }
                                    @match of(&image.revision) {
                                        Some(row) => {
                                            td.n { (row.nodes) small { (row.up) " up" } }
                                            td.n { (row.assigned) @if row.pending > 0 { small { (row.pending) " wait for a boot" } } }
                                        }
                                        None => { td.n { "0" } td.n { "0" } }
                                    }
                                    td {
                                        code { (image.info_hash) }
                                        @if let Some(v2) = &image.info_hash_v2 { small { "v2 " code { (v2) } } }
                                    }
                                }
                            }
                        }
                    }
                }))
                p.hint {
                    "Nodes: those whose present boot has this revision. Signed by: what the signature's file says; \
                     nodes check it against the key in their initrd, this page does not."
                }
            }
        }
        section { h2 { "History" } (history(past)) }
    }
}

fn channels(image: &Image) -> Markup {
    let names: Vec<_> = image.channels.iter().map(|channel| channel.as_str()).collect();
    html! { @if names.is_empty() { "–" } @else { (names.join(", ")) } }
}

fn kernel(image: &Image) -> &str {
    match (&image.kernel_release, image.bootable) {
        (_, false) => "none: not bootable",
        (Some(release), _) => release,
        (None, _) => "yes",
    }
}

fn signed(signed: &Signed) -> Markup {
    html! {
        @match signed {
            Signed::No => "nobody",
            Signed::Unreadable => { span.quiet { "damaged signature" } }
            Signed::By { key, time } => {
                code { (key) } @if let Some(time) = time { small { (time) } }
            }
        }
    }
}

fn history(past: &Past) -> Markup {
    let (entries, count) = match past {
        Past::NoStore => return html! { p.empty { "There is no store." } },
        Past::Trouble(problem) => return html! { p.problem { (problem) } },
        Past::Known(_, 0) => return html! { p.empty { "Nothing was published yet." } },
        Past::Known(entries, count) => (entries, *count),
    };
    let text = |part: Option<String>| part.unwrap_or_else(|| "–".to_owned());
    html! {
        (scroll("History", &html! {
            table {
                thead { tr {
                    th scope="col" { "when" } th scope="col" { "what" } th scope="col" { "image" }
                    th scope="col" { "channel" } th scope="col" { "revision" } th scope="col" { "before" }
                    th.n scope="col" { "nodes" }
                } }
                tbody {
                    @for entry in entries {
                        tr {
                            td { (entry.time) }
                            td { (action(entry.action)) }
                            td { (text(entry.name.as_ref().map(ToString::to_string))) }
                            td { (text(entry.channel.as_ref().map(ToString::to_string))) }
                            td { code { (text(entry.revision.as_ref().map(ToString::to_string))) } }
                            td { code { (text(entry.previous.as_ref().map(ToString::to_string))) } }
                            td.n { (text(entry.nodes.map(|nodes| nodes.to_string()))) }
                        }
                    }
                }
            }
        }))
        @if count > entries.len() { p.empty { "The last " (entries.len()) " of " (count) "." } }
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Publish => "published",
        Action::Rollback => "rolled back",
        Action::Unpublish => "withdrawn",
        Action::Prune => "removed",
        Action::Assign => "assigned to nodes",
        Action::Unassign => "nodes follow their channel again",
        Action::Found => "found so",
        _ => "changed",
    }
}
