//! What all pages have around their content.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");

/// How often a browser without JavaScript asks again, in seconds.
const REFRESH: u32 = 5;

/// The pages that the navigation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Fleet,
    Nodes,
    Swarm,
    Images,
    Reimage,
}

impl Tab {
    const ALL: [Self; 5] = [Self::Fleet, Self::Nodes, Self::Swarm, Self::Images, Self::Reimage];

    fn path(self) -> &'static str {
        match self {
            Self::Fleet => "/",
            Self::Nodes => "/nodes",
            Self::Swarm => "/swarm",
            Self::Images => "/images",
            Self::Reimage => "/reimage",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fleet => "Fleet",
            Self::Nodes => "Nodes",
            Self::Swarm => "Swarm",
            Self::Images => "Images",
            Self::Reimage => "Reimage",
        }
    }
}

/// How a page keeps itself up to date where there is JavaScript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Live {
    /// It takes its parts from the stream.
    Parts,
    /// It is fetched again every few seconds.
    Whole,
}

/// A table that may be wider than the window, reached and moved by keyboard.
pub(super) fn scroll(label: &str, table: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (table) } }
}

/// A whole page. `content` goes into `<main>`.
pub(super) fn page(title: &str, tab: Tab, live: Live, tracker: &str, content: &Markup) -> String {
    let live = match live {
        Live::Parts => "parts",
        Live::Whole => "whole",
    };
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Beeswarm" }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                style { (PreEscaped(STYLE)) }
                noscript { meta http-equiv="refresh" content=(REFRESH); }
                script src="/page.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    p.brand { a href="/" { "Beeswarm" } }
                    nav aria-label="Pages" {
                        @for other in Tab::ALL {
                            a href=(other.path()) aria-current=[(other == tab).then_some("page")] {
                                (other.name())
                            }
                        }
                    }
                }
                div #dead role="alert" hidden {}
                main #main data-live=(live) tabindex="-1" { (content) }
                footer {
                    p {
                        "bee-tracker " (env!("CARGO_PKG_VERSION")) " on " (tracker) " · machines read "
                        a href="/api/v1/nodes" { "nodes" } ", "
                        a href="/api/v1/swarm" { "swarm" } ", "
                        a href="/metrics" { "metrics" }
                    }
                }
            }
        }
    };
    markup.into_string()
}
