//! `GET /api/v1/stream`: what changes on the fleet's page, as server-sent events.
//!
//! One task renders for all readers, once a second and only while there are readers. A reader gets everything
//! at first and then what has changed: `head`, `stalls`, `charts` and `map` are HTML in a JSON string,
//! `cells` is a list of `[id, class, fill, letter, title]`, `tick` the tracker's clock in milliseconds. Ticks
//! come every second, so a reader that hears nothing knows that the tracker is gone. `?ticks` gives nothing else:
//! pages that are fetched again as a whole need no part of the fleet's.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::page::{self, Parts, map};
use super::*;
use crate::fleet::history::{self, Seen, Window};
use crate::fleet::watch::Watch;
use crate::fleet::{Cell, letter};

/// Time between two renderings.
const EVERY: Duration = Duration::from_secs(1);

/// Seconds of news that a reader may lag behind; then it gets everything again.
const BACKLOG: usize = 16;

/// Readers at once; each holds a connection.
const MAX_READERS: usize = 256;

/// A reader that takes nothing for this long is gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Where news go, and where only ticks go.
#[derive(Debug)]
pub(crate) struct Readers {
    news: broadcast::Sender<Bytes>,
    ticks: broadcast::Sender<Bytes>,
}

impl Default for Readers {
    fn default() -> Self {
        Self { news: broadcast::channel(BACKLOG).0, ticks: broadcast::channel(BACKLOG).0 }
    }
}

impl Readers {
    /// How many there are.
    fn count(&self) -> usize {
        self.news.receiver_count() + self.ticks.receiver_count()
    }
}

/// What readers have seen.
#[derive(Default)]
struct Shown {
    cells: Vec<Cell>,
    layout: Vec<(String, usize)>,
    head: String,
    stalls: String,
}

impl Shown {
    /// The events that lead from what was shown to what is now.
    fn advance(&mut self, parts: &Parts, tracker: &str) -> String {
        let mut out = tick();
        let groups = &parts.fleet.groups;
        let layout: Vec<_> = groups.iter().map(|g| (g.name.clone(), g.cells.len())).collect();
        let cells: Vec<&Cell> = groups.iter().flat_map(|group| &group.cells).collect();
        let same_place = |(old, new): (&Cell, &&Cell)| old.id == new.id && old.name == new.name;
        if layout == self.layout && self.cells.iter().zip(&cells).all(same_place) {
            let changed = self.cells.iter().zip(&cells).filter(|(old, new)| *old != **new);
            let changed: Vec<_> = changed.map(|(_, cell)| news(cell)).collect();
            if !changed.is_empty() {
                event(&mut out, "cells", &changed);
            }
        } else {
            event(&mut out, "map", &parts.map(tracker).into_string());
        }
        self.cells = cells.into_iter().cloned().collect();
        self.layout = layout;
        let mut html = |name: &str, new: &str, old: &mut String| {
            if *old != *new {
                event(&mut out, name, &new);
                new.clone_into(old);
            }
        };
        html("head", &parts.head.0, &mut self.head);
        html("stalls", &parts.stalls.0, &mut self.stalls);
        if let Some(charts) = &parts.charts {
            event(&mut out, "charts", &charts.0);
        }
        out
    }
}

fn news(cell: &Cell) -> (String, String, u8, &'static str, String) {
    let title = format!("{}: {}", cell.name, cell.title);
    let id = format!("n{}", cell.id);
    (id, map::class(cell), map::fill(cell), letter(cell.stage, cell.mark), title)
}

fn event(out: &mut String, name: &str, value: &impl serde::Serialize) {
    // JSON has no line ends of its own: one line of data
    if let Ok(data) = serde_json::to_string(value) {
        out.push_str(&format!("event: {name}\ndata: {data}\n\n"));
    }
}

/// The tracker's clock.
fn tick() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut out = String::new();
    event(&mut out, "tick", &u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    out
}

/// Renders for the readers until `stop`, and samples the fleet for the charts.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut shown = Shown::default();
    let mut watch = Watch::default();
    let mut seconds = 0_u64;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        // a chart changes when there is a new sample, and not before
        let sampled = seconds.is_multiple_of(history::EVERY.as_secs());
        let step = move |app: &Arc<App>| {
            advance(app, sampled, &mut shown, &mut watch);
            (shown, watch)
        };
        // not in the queue of those who read pages: a tick that is late says that the tracker is gone.
        // What was shown is forgotten with a failure: all is sent again
        (shown, watch) = on_thread(&app, step).await.unwrap_or_default();
        seconds = seconds.wrapping_add(1);
    }
}

/// One second's work.
fn advance(app: &App, sampled: bool, shown: &mut Shown, watch: &mut Watch) {
    if sampled {
        let seen = crate::app::lock(&app.nodes).all().into_iter().map(Seen::from).collect();
        crate::app::lock(&app.history).record(seen, std::time::Instant::now());
        if app.notices.receiver_count() > 0 {
            let stalled = crate::fleet::Fleet::of(app).stalled;
            watch.changes(&stalled).into_iter().for_each(|notice| app.notify(notice));
        }
    }
    // errors say that the last reader has gone
    if app.readers.news.receiver_count() > 0 {
        let parts = Parts::of(app, sampled.then_some(Window::Short));
        let news = shown.advance(&parts, "this host");
        let _ = app.readers.news.send(news.into());
    }
    let _ = app.readers.ticks.send(tick().into());
}

/// `GET /api/v1/stream[?ticks]`
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Extension(life): Extension<Life>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let ticks = query.as_deref() == Some("ticks");
    let from = if ticks { &app.readers.ticks } else { &app.readers.news };
    // counted with this one: of many that come at once none slips through
    let news = from.subscribe();
    if app.readers.count() > MAX_READERS {
        let message = format!("{MAX_READERS} pages are open already; try again");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    let tracker = (!ticks).then(|| page::tracker(&headers, ends));
    let (to, from) = mpsc::channel(2);
    tokio::spawn(forward(app, news, to, tracker, life));
    let body = Body::new(Stream(from));
    answer(StatusCode::OK, "text/event-stream", body)
}

/// `tracker`: how the reader reached us; `None`: it wants ticks only.
async fn forward(
    app: Arc<App>,
    mut news: broadcast::Receiver<Bytes>,
    to: mpsc::Sender<Bytes>,
    tracker: Option<String>,
    Life(life): Life,
) {
    let everything = async |app: &Arc<App>| {
        let retry = "retry: 1000\n\n".to_owned();
        let Some(tracker) = tracker.clone() else { return Some(Bytes::from(retry + &tick())) };
        let drawn = draw_patiently(app, move |app| {
            let parts = Parts::of(app, Some(Window::Short));
            Bytes::from(retry + &Shown::default().advance(&parts, &tracker))
        });
        drawn.await.ok()
    };
    let Some(mut next) = everything(&app).await else { return };
    loop {
        if !matches!(tokio::time::timeout(PATIENCE, to.send(next)).await, Ok(Ok(()))) {
            return;
        }
        next = tokio::select! {
            received = news.recv() => match received {
                Ok(news) => news,
                Err(RecvError::Lagged(_)) => match everything(&app).await {
                    Some(all) => all,
                    None => return,
                },
                Err(RecvError::Closed) => return,
            },
            // the reader has gone
            () = to.closed() => return,
            () = life.cancelled() => return,
        };
    }
}

/// A body that is what comes through a channel.
pub(super) struct Stream(pub(super) mpsc::Receiver<Bytes>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|news| news.map(|news| Ok(Frame::data(news))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_pages_that_open_at_once_only_so_many_are_taken() {
        let (app, _) = App::open(crate::Config::default()).unwrap();
        let app = Arc::new(app);
        let end = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let open = async |query: Option<&str>| {
            let ends = Extension(Ends { peer: end, local: end });
            let life = Extension(Life(app.stop.child_token()));
            let query = RawQuery(query.map(str::to_owned));
            stream(State(app.clone()), ends, life, query, HeaderMap::new()).await
        };
        let mut taken = Vec::new();
        for n in 0..MAX_READERS {
            taken.push(open((n % 2 == 0).then_some("ticks")).await);
        }
        assert!(taken.iter().all(|answer| answer.status() == StatusCode::OK));
        for query in [None, Some("ticks")] {
            assert_eq!(open(query).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        // a tick needs nothing to be drawn, however many wait for that
        let turn = app.drawing.acquire().await.unwrap();
        drop(taken);
        while app.readers.count() >= MAX_READERS {
            tokio::task::yield_now().await;
        }
        let mut body = open(Some("ticks")).await.into_body();
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let first = frame.unwrap().unwrap().into_data().unwrap();
        assert!(first.starts_with(b"retry: 1000\n\nevent: tick\n"), "{first:?}");
        drop(turn);
        // its connection is to end: so does the stream, in order
        app.stop.cancel();
        let end = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        assert!(end.is_none());
    }
}
