//! `GET /api/v1/events`: what happens, as it happens, one JSON object on each line.
//!
//! First who is stuck already, then [`Notice`]s as `bee-tracker --json` prints them. A `tick` comes every
//! ten seconds, so that a reader that hears nothing knows that the tracker is gone; `missed` says how many
//! were left out for a reader that was too slow; `end` comes before a stream ends in order, after five
//! minutes at most: read it again.

use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::stream::{PATIENCE, Stream};
use super::*;
use crate::app::Notice;
use crate::fleet::{Fleet, watch};

/// Time between two ticks.
const TICK: Duration = Duration::from_secs(10);

/// Readers at once, those of `--json` among them; each holds a connection.
const MAX_READERS: usize = 64;

/// What only this stream says.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Own {
    Tick { uptime_seconds: u64 },
    Missed { notices: u64 },
    End,
}

/// `GET /api/v1/events`
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(life): Extension<Life>,
) -> Response<Body> {
    // counted with this one: of many that come at once none slips through
    let notices = app.notices.subscribe();
    if app.notices.receiver_count() > MAX_READERS {
        let message = format!("{MAX_READERS} programs read the events already");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    let (to, from) = mpsc::channel(16);
    tokio::spawn(forward(app, notices, to, life));
    answer(StatusCode::OK, "application/x-ndjson", Body::new(Stream(from)))
}

async fn forward(
    app: Arc<App>,
    mut notices: broadcast::Receiver<Notice>,
    to: mpsc::Sender<Bytes>,
    Life(life): Life,
) {
    let tick = || Own::Tick { uptime_seconds: app.started.elapsed().as_secs() };
    let stuck = |app: &Arc<App>| -> String {
        Fleet::of(app).stalled.iter().map(watch::notice).map(|notice| line(&notice)).collect()
    };
    let Ok(stuck) = draw_patiently(&app, stuck).await else { return };
    let first = line(&tick()) + &stuck;
    let mut clock = tokio::time::interval(TICK);
    clock.reset();
    let mut next = first;
    loop {
        let sent = tokio::time::timeout(PATIENCE, to.send(next.into())).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
        next = tokio::select! {
            notice = notices.recv() => match notice {
                Ok(notice) => line(&notice),
                Err(RecvError::Lagged(notices)) => line(&Own::Missed { notices }),
                Err(RecvError::Closed) => return,
            },
            _ = clock.tick() => line(&tick()),
            () = to.closed() => return,
            () = life.cancelled() => break,
        };
    }
    // nobody can be told that nobody listens any more
    let _ = to.try_send(line(&Own::End).into());
}

fn line(value: &impl Serialize) -> String {
    // JSON has no line ends of its own
    serde_json::to_string(value).map(|text| text + "\n").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_readers_that_come_at_once_only_so_many_are_taken() {
        let (app, _) = App::open(crate::Config::default()).unwrap();
        let app = Arc::new(app);
        let life = || Extension(Life(app.stop.child_token()));
        let mut taken = Vec::new();
        // none of their tasks runs in between: this one does not wait for anything
        for _ in 0..MAX_READERS {
            taken.push(events(State(app.clone()), life()).await);
        }
        assert!(taken.iter().all(|answer| answer.status() == StatusCode::OK));
        let refused = events(State(app.clone()), life()).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
