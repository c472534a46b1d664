//! Tells trackers about us and learns of peers, over HTTP and UDP: a task for each tracker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::announce::{AnnounceEvent, AnnouncePeers, AnnounceRequest, AnnounceResponse};
use proto::event::{Stall, StallCause};

use super::book::jittered;
use super::dial;
use super::stall;
use super::tasks;
use super::tiers::{Crowd, HEAD_START, Health, MAX_TRACKERS, Turn};
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

/// A fetching peer that wanted no more peers looks this often whether it has lost too many since.
const RECOUNT: Duration = Duration::from_secs(2);

/// Starts to announce to every tracker, until the torrent stops, and `stopped` then.
pub(crate) fn start(shared: &Arc<Shared>) {
    let key = fastrand::u32(..);
    let tiers = shared.trackers.iter().enumerate();
    let all = tiers.flat_map(|(tier, urls)| urls.iter().map(move |url| (tier, url)));
    for (tier, url) in all.take(MAX_TRACKERS) {
        let number = shared.lock().tiers.add(tier);
        let (shared, url) = (shared.clone(), url.clone());
        let pool = shared.tasks.clone();
        let announcer =
            Announcer { key, shared, tier, number, url, udp: None, told_complete: false };
        tasks::spawn(&pool, announcer.run());
    }
    if shared.lock().tiers.is_empty() {
        log::warn!(info_hash = %shared.metainfo.info_hash, "the torrent names no tracker");
        let detail = "the torrent names no tracker".to_owned();
        let stall = Stall { cause: StallCause::TrackerUnreachable, detail };
        shared.lock().trouble.announce = Some(stall);
    }
}

/// Talks to one tracker.
struct Announcer {
    shared: Arc<Shared>,
    tier: usize,
    /// In [`Tiers`](super::tiers::Tiers).
    number: usize,
    url: String,
    /// Its connection, when it is a UDP tracker.
    udp: Option<UdpTracker>,
    key: u32,
    /// The tracker knows that we are complete, or we were from the start.
    told_complete: bool,
}

impl Announcer {
    async fn run(mut self) {
        self.announce_until_cancelled().await;
        self.stopped().await;
    }

    async fn announce_until_cancelled(&mut self) {
        let shared = self.shared.clone();
        let mut event = Some(AnnounceEvent::Started);
        let (mut failures, mut hungry) = (0u32, 0u32);
        self.told_complete = shared.is_done();
        loop {
            if !self.our_turn().await {
                return;
            }
            let number = self.number;
            let result = {
                let announce = self.announce(event);
                tokio::pin!(announce);
                let late = tokio::time::sleep(HEAD_START);
                tokio::pin!(late);
                loop {
                    tokio::select! {
                        result = &mut announce => break Some(result),
                        () = &mut late, if !late.is_elapsed() => {
                            set_health(&shared, number, Health::Fails);
                        }
                        // this one counts: it is not left half done
                        () = shared.cancel.cancelled() => break match event {
                            Some(AnnounceEvent::Completed) => {
                                let limit = shared.session.config.stop_timeout / 2;
                                tokio::time::timeout(limit, announce).await.ok()
                            }
                            _ => None,
                        },
                    }
                }
            };
            let Some(result) = result else { return };
            let wait = match result {
                Ok(reply) => {
                    failures = 0;
                    self.told_complete |= event == Some(AnnounceEvent::Completed);
                    event = None;
                    let few = HUNGRY.min(shared.enough_peers());
                    let starving = !shared.is_done() && shared.lock().links.len() < few;
                    hungry = if starving { (hungry + 1).min(8) } else { 0 };
                    self.next_announce(&reply, hungry)
                }
                Err(stall) => {
                    failures = (failures + 1).min(8);
                    log::debug!(detail = %stall.detail, "announce failed");
                    set_health(&shared, number, Health::Fails);
                    self.tell_trouble(stall);
                    let most =
                        if shared.is_done() { MAX_RETRY_SEEDING } else { MAX_RETRY_FETCHING };
                    jittered((Duration::from_millis(500) * 2u32.pow(failures)).min(most))
                }
            };
            let completed = shared.completed_wake.notified();
            if !self.told_complete && shared.is_done() {
                // it completed while the announce was under way
                if event.is_none() {
                    event = Some(AnnounceEvent::Completed);
                    continue;
                }
            }
            tokio::select! {
                () = self.wait(wait) => {}
                () = shared.cancel.cancelled() => return,
                () = completed, if !self.told_complete => {
                    if event.is_none() {
                        event = Some(AnnounceEvent::Completed);
                    }
                }
            }
        }
    }

    /// The reason to show while no tracker answers; that of the first tier, if it has one.
    fn tell_trouble(&self, stall: Stall) {
        let mut state = self.shared.lock();
        let known = state.trouble.announce.is_some() && self.tier > 0;
        if !state.tiers.any_answers() && !known {
            state.trouble.announce = Some(stall);
        }
    }

    /// Waits while a tier before ours answers, or may answer soon; whether to go on at all.
    async fn our_turn(&mut self) -> bool {
        let shared = self.shared.clone();
        let tier = u32::try_from(self.tier).unwrap_or(u32::MAX);
        let soon = tokio::time::Instant::now() + HEAD_START.saturating_mul(tier);
        loop {
            let news = shared.tier_wake.notified();
            let turn = shared.lock().tiers.turn(self.tier);
            let until = match turn {
                Turn::Now => return true,
                Turn::Soon => Some(soon),
                Turn::Later => {
                    set_health(&shared, self.number, Health::Unknown);
                    None
                }
            };
            let waited = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = news => {}
                () = waited => return true,
                () = shared.cancel.cancelled() => return false,
            }
        }
    }

    /// Sleeps, but wakes when most peers are gone: as we wanted none, the tracker lets us come late.
    async fn wait(&self, wait: Duration) {
        let is_content = || !self.shared.is_done() && self.shared.has_enough_peers();
        if !is_content() {
            return tokio::time::sleep(wait).await;
        }
        let lost = async {
            while self.shared.is_done() || self.shared.has_enough_peers() {
                tokio::time::sleep(RECOUNT).await;
            }
        };
        // in time is as good as early
        let _ = tokio::time::timeout(wait, lost).await;
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

    async fn announce(&mut self, event: Option<AnnounceEvent>) -> Result<AnnouncePeers, Stall> {
        let request = self.request(event);
        let waits = if self.shared.is_done() { udp_tracker::PATIENT } else { udp_tracker::HURRIED };
        let reply = self.ask(&request, Limits::default(), waits).await?;
        self.learn(&reply);
        Ok(reply)
    }

    fn learn(&self, reply: &AnnouncePeers) {
        let url = &self.url;
        if let Some(warning) = &reply.warning {
            log::warn!(%url, %warning, "the tracker warns");
        }
        let addresses: Vec<SocketAddr> = reply.peers.iter().map(|p| p.address).collect();
        let now = self.shared.now();
        set_health(&self.shared, self.number, Health::Answers);
        let mut state = self.shared.lock();
        let (complete, incomplete) = (reply.complete, reply.incomplete);
        state.tiers.crowd = Some(Crowd { complete, incomplete });
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
        request: &AnnounceRequest,
        limits: Limits,
        waits: &[Duration],
    ) -> Result<AnnouncePeers, Stall> {
        if self.udp.is_none() {
            self.udp = UdpTracker::of(&self.url).transpose()?;
        }
        match &mut self.udp {
            Some(tracker) => tracker.announce(request, self.key, waits).await,
            None => ask(&self.url, &request.to_query(), limits).await,
        }
    }

    fn request(&self, event: Option<AnnounceEvent>) -> AnnounceRequest {
        let shared = &self.shared;
        let state = shared.lock();
        let (totals, have, done) = match &state.core {
            Some(core) => (core.totals(), shared.bytes_of(core.have()), core.is_done()),
            None => Default::default(),
        };
        let failed = if done { Vec::new() } else { state.book.unreachable() };
        drop(state);
        let numwant = match (event, done, shared.session.config.role) {
            (Some(AnnounceEvent::Stopped), ..) => 0,
            // a complete node is asked, it does not ask
            (_, true, Role::Node) => 5,
            (None, false, _) if shared.has_enough_peers() => 0,
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
            failed,
        }
    }

    /// Says good-bye, in bounded time, unless the tracker does not answer; a fetch that completed just
    /// now is told first.
    async fn stopped(&mut self) {
        let unheard = match self.shared.lock().tiers.health(self.number) {
            Health::Answers => false,
            // an announce was under way, perhaps
            Health::Unknown => self.tier > 0,
            Health::Fails => true,
        };
        if unheard {
            return;
        }
        let limit = self.shared.session.config.stop_timeout;
        let limits = Limits { connect: limit, idle: limit, total: limit, ..Limits::default() };
        let completed =
            (!self.told_complete && self.shared.is_done()).then_some(AnnounceEvent::Completed);
        let both = async {
            for event in completed.into_iter().chain([AnnounceEvent::Stopped]) {
                let request = self.request(Some(event));
                if let Err(stall) = self.ask(&request, limits, &[limit / 4; 4]).await {
                    log::debug!(detail = %stall.detail, "last announce failed");
                }
            }
        };
        if tokio::time::timeout(limit, both).await.is_err() {
            log::debug!("no time left to tell the tracker that we stop");
        }
    }
}

/// Notes whether a tracker answers; whoever waits for its turn looks again.
fn set_health(shared: &Shared, number: usize, health: Health) {
    if shared.lock().tiers.set(number, health) {
        shared.tier_wake.notify_waiters();
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
