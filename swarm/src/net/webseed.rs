//! Fetches missing pieces over HTTP (BEP 19) when no peer delivers.
//!
//! One piece at a time, with jitter: when a crowd loses its seeder, its nodes fetch different pieces
//! and hand them on. As soon as peers deliver, the web seed is left alone.

use std::sync::Arc;
use std::time::Duration;

use proto::geometry::PieceIndex;

use super::book::jittered;
use super::torrent::Shared;
use crate::http::{self, Limits};
use crate::log;

/// Without verified bytes from peers for this long, the web seed is asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first wait after a failure; doubles up to a minute.
const RETRY: Duration = Duration::from_secs(2);

/// Wrong pieces after which a web seed is left alone.
const MAX_WRONG: u32 = 3;

/// Watches the fetch until it is complete.
pub(crate) async fn run(shared: Arc<Shared>) {
    tokio::select! {
        () = watch(&shared) => {}
        () = shared.cancel.cancelled() => {}
    }
}

async fn watch(shared: &Arc<Shared>) {
    let mut urls = shared.metainfo.web_seeds.clone();
    fastrand::shuffle(&mut urls);
    let mut wrong = vec![0u32; urls.len()];
    let (mut from_peers, mut quiet_since) = (0, shared.now());
    let (mut at, mut failures) = (0usize, 0u32);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1000))).await;
    loop {
        let (totals, done) = match &shared.lock().core {
            Some(core) => (core.totals(), core.is_done()),
            None => return,
        };
        if done {
            return;
        }
        let now = shared.now();
        if totals.from_admin + totals.from_peers > from_peers {
            from_peers = totals.from_admin + totals.from_peers;
            quiet_since = now;
        }
        let waited = now.saturating_sub(quiet_since);
        if waited < PATIENCE {
            tokio::time::sleep(jittered(Duration::from_secs(1)).min(PATIENCE - waited)).await;
            continue;
        }
        let Some(choice) =
            (0..urls.len()).map(|n| (at + n) % urls.len()).find(|n| wrong[*n] < MAX_WRONG)
        else {
            log::warn!("no web seed serves this image");
            return;
        };
        at = choice;
        match fetch(shared, &urls[choice]).await {
            Fetched::Good => failures = 0,
            Fetched::Nothing => tokio::time::sleep(jittered(Duration::from_secs(1))).await,
            Fetched::Wrong => {
                wrong[choice] += 1;
                at += 1;
            }
            Fetched::Failed => {
                failures = (failures + 1).min(5);
                at += 1;
                tokio::time::sleep(jittered(RETRY * 2u32.pow(failures))).await;
            }
        }
    }
}

enum Fetched {
    /// A piece was verified and stored.
    Good,
    /// No piece is free: peers are at all of them.
    Nothing,
    /// The server has other data.
    Wrong,
    /// The request failed.
    Failed,
}

/// Gives a piece back when the fetch ends early.
struct Claim<'a> {
    shared: &'a Arc<Shared>,
    piece: Option<PieceIndex>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let Some(piece) = self.piece else { return };
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if let Some(core) = &mut state.core {
            core.web_failed(now, piece);
        }
        let todo = state.drain();
        drop(state);
        self.shared.carry_out(todo);
    }
}

async fn fetch(shared: &Arc<Shared>, url: &str) -> Fetched {
    let taken = shared.lock().core.as_mut().and_then(crate::core::Torrent::web_take);
    let Some(piece) = taken else { return Fetched::Nothing };
    let mut claim = Claim { shared, piece: Some(piece) };
    let info = &shared.metainfo.info;
    // BEP 19: a URL that ends in a slash names the folder
    let full = if url.ends_with('/') {
        format!("{url}{}", proto::query::encode(info.name.as_bytes()))
    } else {
        url.to_owned()
    };
    let size = u64::from(info.geometry.piece_size(piece));
    let limits = Limits { max_body: size, total: Duration::from_secs(60), ..Limits::default() };
    let data = match http::get_range(&full, info.geometry.piece_offset(piece), size, limits).await {
        Ok(data) if data.len() as u64 == size => data,
        Ok(data) => {
            log::debug!(url = %full, got = data.len(), size, "web seed sent a part only");
            return Fetched::Failed;
        }
        Err(error) => {
            log::debug!(url = %full, %error, "web seed failed");
            return Fetched::Failed;
        }
    };
    claim.piece = None;
    shared.session.down_limiter.pay(size).await;
    shared
        .web_piece(piece, data)
        .await
        .map_or(Fetched::Nothing, |good| if good { Fetched::Good } else { Fetched::Wrong })
}
