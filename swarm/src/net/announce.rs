//! Tells trackers about us and learns of peers: tiers as in BEP 12, over HTTP and UDP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::announce::{AnnounceEvent, AnnouncePeers, AnnounceRequest, AnnounceResponse};
use proto::event::{Stall, StallCause};

use super::book::jittered;
use super::dial;
use super::stall;
use super::torrent::Shared;
use super::udp_tracker::{self, UdpTracker};
use crate::config::Role;
use crate::http::{self, HttpError, Limits};
use crate::log;

/// Peers to ask for while fetching.
const NUMWANT: u32 = 50;

/// Longest wait between two tries while the tracker fails.
const MAX_RETRY_FETCHING: Duration = Duration::from_secs(15);
const MAX_RETRY_SEEDING: Duration = Duration::from_secs(60);

/// With fewer connections than this, a fetching peer asks again sooner than the tracker says: twice
/// this later at first, which is what the first nodes of a crowd need to learn of the others.
const HUNGRY: usize = 5;
const HUNGRY_WAIT: Duration = Duration::from_millis(250);

/// Announces until the torrent stops, and `stopped` then.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tiers = shared.trackers.clone();
    for tier in &mut tiers {
        fastrand::shuffle(tier);
    }
    if tiers.iter().all(Vec::is_empty) {
        log::warn!(info_hash = %shared.metainfo.info_hash, "the torrent names no tracker");
        return;
    }
    let key = fastrand::u32(..);
    let mut announcer = Announcer { key, shared, tiers, udp: Vec::new(), told_complete: false };
    announcer.run().await;
    announcer.stopped().await;
}

struct Announcer {
    shared: Arc<Shared>,
    tiers: Vec<Vec<String>>,
    /// UDP trackers, with their connections.
    udp: Vec<UdpTracker>,
    key: u32,
    /// The tracker knows that we are complete, or we were from the start.
    told_complete: bool,
}

impl Announcer {
    async fn run(&mut self) {
        let shared = self.shared.clone();
        let mut event = Some(AnnounceEvent::Started);
        let (mut failures, mut hungry) = (0u32, 0u32);
        self.told_complete = shared.is_done();
        loop {
            let result = {
                let announce = self.announce(event);
                tokio::pin!(announce);
                tokio::select! {
                    result = &mut announce => Some(result),
                    // this one counts: it is not left half done
                    () = shared.cancel.cancelled() => match event {
                        Some(AnnounceEvent::Completed) => {
                            let limit = shared.session.config.stop_timeout / 2;
                            tokio::time::timeout(limit, announce).await.ok()
                        }
                        _ => None,
                    },
                }
            };
            let Some(result) = result else { return };
            let wait = match result {
                Ok(reply) => {
                    failures = 0;
                    self.told_complete |= event == Some(AnnounceEvent::Completed);
                    event = None;
                    let starving = !shared.is_done() && shared.lock().links.len() < HUNGRY;
                    hungry = if starving { (hungry + 1).min(8) } else { 0 };
                    self.next_announce(&reply, hungry)
                }
                Err(stall) => {
                    failures = (failures + 1).min(8);
                    log::debug!(detail = %stall.detail, "announce failed");
                    shared.lock().trouble.announce = Some(stall);
                    let most =
                        if shared.is_done() { MAX_RETRY_SEEDING } else { MAX_RETRY_FETCHING };
                    jittered((Duration::from_millis(500) * 2u32.pow(failures)).min(most))
                }
            };
            if !self.told_complete && shared.is_done() {
                // it completed while the announce was under way
                if event.is_none() {
                    event = Some(AnnounceEvent::Completed);
                    continue;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shared.cancel.cancelled() => return,
                () = shared.completed_wake.notified(), if !self.told_complete => {
                    if event.is_none() {
                        event = Some(AnnounceEvent::Completed);
                    }
                }
            }
        }
    }

    fn next_announce(&self, reply: &AnnouncePeers, hungry: u32) -> Duration {
        let interval = Duration::from_secs(u64::from(reply.interval.clamp(1, 3600)));
        if hungry == 0 {
            // early rather than late: a tracker forgets peers that are late
            return interval * 9 / 10
                + Duration::from_millis(fastrand::u64(0..=500)).min(interval / 10);
        }
        jittered(HUNGRY_WAIT * 2u32.pow(hungry)).min(interval)
    }

    /// One announce: the first tracker that answers, by tiers; it moves to the front of its tier.
    async fn announce(&mut self, event: Option<AnnounceEvent>) -> Result<AnnouncePeers, Stall> {
        let request = self.request(event);
        let waits = if self.shared.is_done() { udp_tracker::PATIENT } else { udp_tracker::HURRIED };
        let mut first_error = None;
        for tier in 0..self.tiers.len() {
            for at in 0..self.tiers[tier].len() {
                let url = self.tiers[tier][at].clone();
                match self.ask(&url, &request, Limits::default(), waits).await {
                    Ok(reply) => {
                        let winner = self.tiers[tier].remove(at);
                        self.tiers[tier].insert(0, winner);
                        self.learn(&url, &reply);
                        return Ok(reply);
                    }
                    Err(stall) => {
                        first_error.get_or_insert(stall);
                    }
                }
            }
        }
        Err(first_error.unwrap_or(Stall {
            cause: StallCause::TrackerUnreachable,
            detail: "the torrent names no tracker".to_owned(),
        }))
    }

    fn learn(&self, url: &str, reply: &AnnouncePeers) {
        if let Some(warning) = &reply.warning {
            log::warn!(%url, %warning, "the tracker warns");
        }
        let addresses: Vec<SocketAddr> = reply.peers.iter().map(|p| p.address).collect();
        let now = self.shared.now();
        let mut state = self.shared.lock();
        for address in &addresses {
            state.book.add(*address);
        }
        if state.links.len() < HUNGRY {
            state.book.hurry(&addresses, now);
        }
        state.trouble.announce = None;
        drop(state);
        // not at the next tick: in a crowd that boots everybody waits for everybody
        dial::dial_more(&self.shared);
        self.shared.ticker.notify_one();
        log::debug!(%url, peers = addresses.len(), seeds = reply.complete, "announced");
    }

    async fn ask(
        &mut self,
        url: &str,
        request: &AnnounceRequest,
        limits: Limits,
        waits: &[Duration],
    ) -> Result<AnnouncePeers, Stall> {
        let at = match self.udp.iter().position(|tracker| tracker.is(url)) {
            Some(at) => at,
            None => match UdpTracker::of(url) {
                Some(tracker) => {
                    self.udp.push(tracker?);
                    self.udp.len() - 1
                }
                None => return ask(url, &request.to_query(), limits).await,
            },
        };
        self.udp[at].announce(request, self.key, waits).await
    }

    fn request(&self, event: Option<AnnounceEvent>) -> AnnounceRequest {
        let shared = &self.shared;
        let state = shared.lock();
        let (totals, have, done) = match &state.core {
            Some(core) => (core.totals(), shared.bytes_of(core.have()), core.is_done()),
            None => Default::default(),
        };
        drop(state);
        let numwant = match (event, done, shared.session.config.role) {
            (Some(AnnounceEvent::Stopped), ..) => 0,
            // a complete node is asked, it does not ask
            (_, true, Role::Node) => 5,
            _ => NUMWANT,
        };
        AnnounceRequest {
            info_hash: shared.metainfo.info_hash,
            peer_id: shared.session.peer_id,
            port: shared.session.local.port(),
            uploaded: totals.uploaded,
            downloaded: totals.downloaded,
            left: shared.metainfo.info.geometry.total() - have,
            event,
            numwant: Some(numwant),
            compact: true,
            no_peer_id: true,
            key: Some(format!("{:08x}", self.key)),
            ip: None,
            failed: Vec::new(),
        }
    }

    /// Says good-bye, in bounded time, to the tracker that answered last; a fetch that completed
    /// just now is told first.
    async fn stopped(&mut self) {
        let limit = self.shared.session.config.stop_timeout;
        let limits = Limits { connect: limit, idle: limit, total: limit, ..Limits::default() };
        let completed =
            (!self.told_complete && self.shared.is_done()).then_some(AnnounceEvent::Completed);
        let both = async {
            for event in completed.into_iter().chain([AnnounceEvent::Stopped]) {
                let request = self.request(Some(event));
                let urls: Vec<String> =
                    self.tiers.iter().filter_map(|tier| tier.first().cloned()).collect();
                for url in urls {
                    match self.ask(&url, &request, limits, &[limit / 4; 4]).await {
                        Ok(_) => break,
                        Err(stall) => {
                            log::debug!(detail = %stall.detail, "last announce failed")
                        }
                    }
                }
            }
        };
        if tokio::time::timeout(limit, both).await.is_err() {
            log::debug!("no time left to tell the tracker that we stop");
        }
    }
}

async fn ask(url: &str, query: &str, limits: Limits) -> Result<AnnouncePeers, Stall> {
    let full = format!("{url}{}{query}", if url.contains('?') { '&' } else { '?' });
    let refuses = |what: String| Stall {
        cause: StallCause::TrackerRefuses,
        detail: format!("announce to {url}: {what}"),
    };
    let (body, content_type) = match http::get(&full, limits).await {
        Ok(response) => (response.body, response.content_type),
        // some trackers put the reason into the body of an error
        Err(HttpError::Status { status, body, .. }) => match AnnounceResponse::parse(&body) {
            Ok(AnnounceResponse::Failure(_)) => (body, None),
            _ => return Err(refuses(format!("status {status}"))),
        },
        Err(HttpError::Url { reason, .. }) => return Err(refuses(reason.to_owned())),
        Err(error) => return Err(stall::of_http(url, &error)),
    };
    match AnnounceResponse::parse(&body) {
        Ok(AnnounceResponse::Peers(reply)) => Ok(reply),
        Ok(AnnounceResponse::Failure(reason)) => {
            Err(refuses(format!("the tracker says: {reason}")))
        }
        Err(error) => {
            let kind = content_type.unwrap_or_else(|| "no content type".to_owned());
            Err(refuses(format!("{error} ({kind}); is this the announce URL of a tracker?")))
        }
    }
}
