//! The status page: rendered here, read without JavaScript; with it, it keeps itself up to date.

use std::time::Instant;

use maud::Markup;
use proto::hash::InfoHash;
use proto::node_id::NodeId;
use store::RevisionRef;

use super::*;
use crate::app::lock;
use crate::fleet::Fleet;
use crate::fleet::history::Window;
use crate::torrents::Counts;

mod absent;
mod charts;
pub(super) mod images;
mod layout;
pub(super) mod map;
mod node;
mod nodes;
mod rollout;
mod swarm;
pub(crate) mod text;

use layout::{Live, Tab};

const SCRIPT: &str = include_str!("page/page.js");
const ICON: &str = include_str!("page/icon.svg");

/// What a page may do: run our script, ask us, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; \
                      connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// One torrent.
pub(super) struct TorrentRow {
    pub(super) info_hash: InfoHash,
    pub(super) revision: Option<RevisionRef>,
    pub(super) counts: Counts,
}

/// The parts of the fleet's page that change.
pub(super) struct Parts {
    pub(super) fleet: Fleet,
    pub(super) head: Markup,
    pub(super) stalls: Markup,
    /// Drawn only where they are wanted: they are most of the work.
    pub(super) charts: Option<Markup>,
}

impl Parts {
    pub(super) fn of(app: &App, charts: Option<Window>) -> Self {
        let fleet = Fleet::of(app);
        let (samples, rates) = {
            let history = lock(&app.history);
            (charts.map(|window| (window, history.samples(window))), history.rates())
        };
        let link = app.link.as_ref();
        let draw = |(window, samples): (Window, Vec<_>)| {
            charts::charts(&samples, link, window, Instant::now())
        };
        let problems = app.problems();
        let rollout = lock(&app.rollouts).all().last().and_then(rollout::line);
        let around = map::Around { link, rates, problems: &problems, rollout };
        Self {
            head: map::head(&fleet, &around),
            stalls: map::stalled(&fleet),
            charts: samples.map(draw),
            fleet,
        }
    }

    pub(super) fn map(&self, tracker: &str) -> Markup {
        map::map(&self.fleet, tracker)
    }
}

/// `GET /`: the fleet. `?window=day` shows the charts of the last day.
pub(super) async fn fleet(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let window = match query.as_deref() {
        Some("window=day") => Window::Day,
        _ => Window::Short,
    };
    let tracker = tracker(&headers, ends);
    let page = move |app: &Arc<App>| {
        let parts = Parts::of(app, Some(window));
        let title = format!("{}/{} up", parts.fleet.up(), parts.fleet.nodes);
        let live = if window == Window::Day { Live::Whole } else { Live::Parts };
        let content = map::content(&parts, &tracker);
        respond(&title, Tab::Fleet, live, &tracker, &content)
    };
    draw(&app, page).await.unwrap_or_else(|failed| failed)
}

/// `GET /nodes`
pub(super) async fn nodes(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
) -> Response<Body> {
    let tracker = tracker(&headers, ends);
    let page = move |app: &Arc<App>| {
        respond("Nodes", Tab::Nodes, Live::Whole, &tracker, &nodes::content(app))
    };
    draw(&app, page).await.unwrap_or_else(|failed| failed)
}

/// `GET /nodes/{id}`: by any address of the node, or its name in the inventory.
pub(super) async fn node(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let tracker = tracker(&headers, ends);
    let inventory = app.inventory();
    let missing = || {
        let content = maud::html! {
            h1 { "Not heard" }
            p { "No node with the address or name " code { (id) } " was heard yet." }
        };
        let mut response = respond("Not heard", Tab::Nodes, Live::Whole, &tracker, &content);
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    };
    let (mac, entry) = match id.parse::<NodeId>() {
        Ok(mac) => (Some(mac), inventory.of(mac)),
        Err(_) => (None, inventory.named(&id)),
    };
    let macs = entry.map_or_else(|| mac.into_iter().collect(), |entry| entry.macs.clone());
    let home = {
        let nodes = lock(&app.nodes);
        mac.iter().chain(&macs).find_map(|mac| nodes.get(*mac)).map(|node| node.id)
    };
    let Some(home) = home else {
        let Some(content) = absent::content(&app, &macs) else { return missing() };
        let title = macs.first().map_or(id.clone(), |mac| inventory.name(*mac));
        return respond(&title, Tab::Nodes, Live::Whole, &tracker, &content);
    };
    let past = match read_state(&app, move |state| state.past_boots(home)).await {
        Ok(past) => past.unwrap_or_default(),
        Err(response) => return response,
    };
    let nodes = lock(&app.nodes);
    let Some(node) = nodes.get(home) else { return missing() };
    let content = node::content(node, &inventory, &past, Instant::now());
    let title = inventory.name(node.id);
    respond(&title, Tab::Nodes, Live::Whole, &tracker, &content)
}

/// `GET /swarm`
pub(super) async fn swarm(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
) -> Response<Body> {
    let tracker = tracker(&headers, ends);
    match app.swarm_page.get(draw(&app, |app| swarm::content(app))).await {
        Ok(content) => respond("Swarm", Tab::Swarm, Live::Whole, &tracker, &content),
        Err(refused) => refused,
    }
}

/// `GET /reimage`: what is reimaged in batches.
pub(super) async fn rollouts(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
) -> Response<Body> {
    let all: Vec<_> = lock(&app.rollouts).all().iter().map(|rollout| rollout.view()).collect();
    let content = rollout::content(&all, app.power.is_some());
    respond("Reimage", Tab::Reimage, Live::Whole, &tracker(&headers, ends), &content)
}

/// `GET /images`
pub(super) async fn images(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
) -> Response<Body> {
    let past = match app.config.store.clone() {
        None => Arc::new(images::Past::NoStore),
        // the store is on a disk that may be slow: nobody's drawing waits for it
        Some(root) => {
            let read = on_thread(&app, move |_| images::Past::read(&root));
            match app.past.get(read).await {
                Ok(past) => past,
                Err(failed) => return failed,
            }
        }
    };
    let tracker = tracker(&headers, ends);
    let page = move |app: &Arc<App>| {
        respond("Images", Tab::Images, Live::Whole, &tracker, &images::content(app, &past))
    };
    draw(&app, page).await.unwrap_or_else(|refused| refused)
}

/// `GET /page.js`
pub(super) async fn script() -> Response<Body> {
    answer(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT)
}

/// `GET /icon.svg`
pub(super) async fn icon() -> Response<Body> {
    answer(StatusCode::OK, "image/svg+xml", ICON)
}

/// How the reader reached this tracker.
pub(super) fn tracker(headers: &HeaderMap, ends: Ends) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.map_or_else(|| ends.local.to_string(), str::to_owned)
}

fn respond(title: &str, tab: Tab, live: Live, tracker: &str, content: &Markup) -> Response<Body> {
    let page = layout::page(title, tab, live, tracker, content);
    let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", page);
    let policy = HeaderValue::from_static(POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// Published torrents, whether announced or not, and the announced ones when there is no store.
pub(super) fn torrents(app: &App) -> Vec<TorrentRow> {
    let catalog = app.catalog();
    let announced = app.torrents.all();
    let mut rows: Vec<_> = catalog
        .images
        .iter()
        .map(|image| {
            let known = announced.iter().find(|(hash, _)| *hash == image.info_hash);
            let none = Counts { seeds: 0, leechers: 0, completed: 0 };
            TorrentRow {
                info_hash: image.info_hash,
                revision: Some(image.revision.clone()),
                counts: known.map_or(none, |(_, counts)| *counts),
            }
        })
        .collect();
    let foreign = announced.into_iter().filter(|(h, _)| catalog.by_info_hash(h).is_none());
    rows.extend(foreign.map(|(info_hash, counts)| TorrentRow {
        info_hash,
        revision: None,
        counts,
    }));
    rows
}
