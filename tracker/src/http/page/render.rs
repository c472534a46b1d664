//! The page's HTML. Everything that came from outside goes through [`Esc`].

use std::fmt::{self, Write as _};

use super::html::{Esc, bytes, duration, rate, share};
use super::{MAX_ROWS, Row, View};

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn page(view: &View) -> String {
    let mut out = String::with_capacity(8192 + view.rows.len() * 700);
    // Writing to a String cannot fail.
    let _ = write_page(&mut out, view);
    out
}

fn write_page(out: &mut String, view: &View) -> fmt::Result {
    let up = view.stages.iter().find(|(stage, _)| *stage == "seeding").map_or(0, |(_, n)| *n);
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"2\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{up}/{} up · Beeswarm</title><style>{STYLE}</style></head><body>",
        view.nodes
    )?;
    header(out, view)?;
    out.write_str("<main>\n")?;
    problems(out, view)?;
    nodes(out, view)?;
    torrents(out, view)?;
    images(out, view)?;
    out.write_str("</main>\n")?;
    writeln!(
        out,
        "<footer>bee-tracker {} on {} · up for {} · machines read \
         <a href=\"/api/v1/nodes\">nodes</a>, <a href=\"/api/v1/swarm\">swarm</a>, \
         <a href=\"/metrics\">metrics</a></footer></body></html>",
        env!("CARGO_PKG_VERSION"),
        Esc(&view.tracker),
        duration(view.uptime)
    )
}

fn header(out: &mut String, view: &View) -> fmt::Result {
    out.write_str("<header><h1>Beeswarm</h1><dl class=\"tiles\">")?;
    let mut tile = |label: &str, value: &dyn fmt::Display, class: &str| {
        write!(out, "<div class=\"{class}\"><dt>{label}</dt><dd>{value}</dd></div>")
    };
    tile("nodes", &view.nodes, "")?;
    tile("need attention", &view.troubled, if view.troubled > 0 { "bad" } else { "" })?;
    tile("fetching together", &rate(view.rate), "")?;
    let total = view.sources.total();
    let from = |part| format!("{:.0} %", share(part, total));
    tile("from peers", &from(view.sources.peers), "")?;
    tile("from admin host", &from(view.sources.admin.saturating_add(view.sources.web)), "")?;
    out.write_str("</dl>")?;
    stages(out, view)?;
    out.write_str("</header>\n")
}

fn stages(out: &mut String, view: &View) -> fmt::Result {
    if view.nodes == 0 {
        return Ok(());
    }
    out.write_str("<div class=\"stages\" aria-hidden=\"true\">")?;
    for (stage, count) in view.stages.iter().filter(|(_, count)| *count > 0) {
        write!(out, "<i class=\"s-{stage}\" style=\"flex-grow:{count}\"></i>")?;
    }
    out.write_str("</div><ul class=\"legend\">")?;
    for (stage, count) in view.stages.iter().filter(|(_, count)| *count > 0) {
        write!(out, "<li><i class=\"s-{stage}\"></i>{stage} <b>{count}</b></li>")?;
    }
    out.write_str("</ul>")
}

fn problems(out: &mut String, view: &View) -> fmt::Result {
    for problem in &view.problems {
        writeln!(out, "<p class=\"problem\">{}</p>", Esc(problem))?;
    }
    Ok(())
}

fn nodes(out: &mut String, view: &View) -> fmt::Result {
    out.write_str("<section><h2>Nodes</h2>")?;
    if view.rows.is_empty() {
        return writeln!(
            out,
            "<p class=\"empty\">No node was heard yet. Nodes appear as soon as their firmware asks for \
             <code>http://{}/boot.ipxe</code>.</p></section>",
            Esc(&view.tracker)
        );
    }
    out.write_str(
        "<div class=\"scroll\"><table><thead><tr><th>node<th>stage<th>image\
         <th class=\"n\">rate<th class=\"n\">peers<th>received from<th class=\"n\">last heard<th>\
         trouble</tr></thead><tbody>\n",
    )?;
    for row in &view.rows {
        node(out, row)?;
    }
    out.write_str("</tbody></table></div>")?;
    if view.nodes > view.rows.len() {
        let more = view.nodes - view.rows.len();
        write!(
            out,
            "<p class=\"empty\">The first {MAX_ROWS}; {more} more in \
             <a href=\"/api/v1/nodes\">the API</a>.</p>"
        )?;
    }
    out.write_str("</section>\n")
}

fn node(out: &mut String, row: &Row) -> fmt::Result {
    let class = if row.trouble.is_some() { " class=\"trouble\"" } else { "" };
    write!(
        out,
        "<tr{class}><td><a href=\"/api/v1/nodes/{}\"><code>{}</code></a><small>{}{}</small>",
        Esc(row.id),
        Esc(row.name.clone().unwrap_or_else(|| row.id.to_string())),
        Esc(&row.address),
        if row.unproved { " · not authenticated" } else { "" }
    )?;
    write!(
        out,
        "<td><div class=\"bar\"><i class=\"s-{}\" style=\"width:{:.1}%\"></i></div>\
         <small>{0} {}</small>",
        Esc(row.stage),
        row.percent,
        Percent(row)
    )?;
    match &row.revision {
        Some(r) => write!(out, "<td>{}<small><code>{}</code></small>", Esc(&r.name), Esc(&r.id))?,
        None => out.write_str("<td>")?,
    }
    let fetching = row.stage == "fetch";
    let shown = |text: String| if fetching { text } else { String::new() };
    let peers = shown(row.peers.to_string());
    write!(out, "<td class=\"n\">{}<td class=\"n\">{peers}<td>", shown(rate(row.rate)))?;
    sources(out, row)?;
    let quiet = if row.silent { " quiet" } else { "" };
    write!(out, "<td class=\"n{quiet}\">{} ago", duration(row.heard))?;
    let trouble = row.trouble.as_deref().unwrap_or_default();
    writeln!(out, "<td class=\"why\">{}</tr>", Esc(trouble))
}

/// The percentage, where it says something.
struct Percent<'a>(&'a Row);

impl fmt::Display for Percent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.stage {
            "fetch" | "failed" => write!(f, "{:.1} %", (self.0.percent * 10.0).floor() / 10.0),
            _ => Ok(()),
        }
    }
}

fn sources(out: &mut String, row: &Row) -> fmt::Result {
    let total = row.sources.total();
    if total == 0 {
        return Ok(());
    }
    let parts =
        [("peers", row.sources.peers), ("admin", row.sources.admin), ("web", row.sources.web)];
    out.write_str("<div class=\"bar\">")?;
    for (name, part) in parts {
        write!(out, "<i class=\"f-{name}\" style=\"width:{:.1}%\"></i>", share(part, total))?;
    }
    out.write_str("</div><small>")?;
    let mut separator = "";
    for (name, part) in parts.into_iter().filter(|(_, part)| *part > 0) {
        write!(out, "{separator}{name} {}", bytes(part))?;
        separator = " · ";
    }
    out.write_str("</small>")
}

fn torrents(out: &mut String, view: &View) -> fmt::Result {
    if view.torrents.is_empty() {
        return Ok(());
    }
    out.write_str(
        "<section><h2>Torrents</h2><div class=\"scroll\"><table><thead><tr><th>image\
         <th class=\"n\">complete<th class=\"n\">fetching<th class=\"n\">finished\
         <th>info-hash</tr></thead><tbody>\n",
    )?;
    for row in &view.torrents {
        let name = row.revision.as_ref().map_or_else(|| "–".to_owned(), ToString::to_string);
        writeln!(
            out,
            "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td><code>{}</code></tr>",
            Esc(name),
            row.counts.seeds,
            row.counts.leechers,
            row.counts.completed,
            row.info_hash
        )?;
    }
    out.write_str("</tbody></table></div></section>\n")
}

fn images(out: &mut String, view: &View) -> fmt::Result {
    out.write_str("<section><h2>Images published</h2>")?;
    if !view.has_store {
        return out.write_str(
            "<p class=\"empty\">Started without --store: any torrent is tracked, nothing is offered \
             to boot.</p></section>\n",
        );
    }
    if view.catalog.images.is_empty() {
        return out.write_str(
            "<p class=\"empty\">Nothing is published: nodes that boot wait. Use bee-packer pack and \
             bee-packer publish.</p></section>\n",
        );
    }
    out.write_str(
        "<div class=\"scroll\"><table><thead><tr><th>image<th>revision<th>booted by channel\
         <th class=\"n\">size<th>kernel</tr></thead><tbody>\n",
    )?;
    for image in &view.catalog.images {
        let channels: Vec<_> = image.channels.iter().map(|c| c.as_str()).collect();
        let channels = if channels.is_empty() { "–".to_owned() } else { channels.join(", ") };
        let kernel = match (&image.kernel_release, image.bootable) {
            (_, false) => "none: not bootable",
            (Some(release), _) => release,
            (None, _) => "yes",
        };
        writeln!(
            out,
            "<tr><td>{}<td><code>{}</code><td>{}<td class=\"n\">{}<td>{}</tr>",
            Esc(&image.revision.name),
            Esc(&image.revision.id),
            Esc(channels),
            bytes(image.length),
            Esc(kernel)
        )?;
    }
    out.write_str("</tbody></table></div></section>\n")
}
