//! `/announce` (BEP 3, 7, 23) and `/scrape` (BEP 48).
//!
//! A refusal is status 200 with a `failure reason`: clients show that text, and many treat another
//! status as a broken tracker without reading on.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use proto::announce::{
    AnnouncePeers, AnnounceRequest, AnnounceResponse, PeerEntry, QueryError, ScrapeEntry,
    encode_scrape, parse_scrape,
};
use proto::hash::InfoHash;

use super::*;
use crate::app::lock;
use crate::policy;
use crate::torrents::{Announce, Counts};

/// Torrents in one scrape answer at most.
const MAX_SCRAPE: usize = 1000;

/// Why an announce is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("bad announce: {0}")]
    Query(QueryError),
    #[error("torrent not published here: {0} (bee-packer publish puts a revision on the list)")]
    Unknown(InfoHash),
    #[error(
        "no peer can be reached at {0}: announce over a global, private or unique local address"
    )]
    Address(IpAddr),
}

pub(super) async fn announce(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let query = query.unwrap_or_default();
    match decide(&app, ends, &query) {
        Ok((response, compact)) => {
            app.metrics.announces.add(1);
            bencoded(response.encode(compact))
        }
        Err(refusal) => {
            app.metrics.announce_failures.add(1);
            tracing::debug!(peer = %ends.peer, %refusal, "announce refused");
            bencoded(AnnounceResponse::Failure(refusal.to_string()).encode(true))
        }
    }
}

fn decide(app: &App, ends: Ends, query: &str) -> Result<(AnnounceResponse, bool), Refusal> {
    let request = AnnounceRequest::parse(query).map_err(Refusal::Query)?;
    let info_hash = request.info_hash;
    if app.config.store.is_some() && app.catalog().by_info_hash(&info_hash).is_none() {
        return Err(Refusal::Unknown(info_hash));
    }
    let ip = stated_ip(&request, ends).unwrap_or(ends.peer.ip());
    if !reachable(ip) {
        return Err(Refusal::Address(ip));
    }
    let want = request.numwant.map_or(policy::DEFAULT_WANT, |n| {
        usize::try_from(n).unwrap_or(policy::MAX_WANT).min(policy::MAX_WANT)
    });
    let announce = Announce {
        info_hash,
        addr: SocketAddr::new(ip, request.port),
        peer_id: request.peer_id,
        key: request.key.map(String::into_boxed_str),
        left: request.left,
        event: request.event,
        want,
    };
    let mut rng = fastrand::Rng::new();
    let answer = lock(&app.torrents).announce(&announce, Instant::now(), &mut rng);
    let with_ids = !request.compact && !request.no_peer_id;
    let peers = answer.peers.iter().filter_map(|peer| {
        let address = seen_from(peer.addr, ends)?;
        Some(PeerEntry { address, peer_id: with_ids.then_some(peer.id) })
    });
    let reply = AnnouncePeers {
        interval: answer.interval,
        min_interval: None,
        complete: number(answer.seeds),
        incomplete: number(answer.leechers),
        peers: peers.collect(),
        warning: None,
    };
    Ok((AnnounceResponse::Peers(reply), request.compact))
}

/// The address that a client states for itself counts only from this host: anyone else could name a
/// third party, and the whole crowd would dial it. The admin's own seeder or a relay on this host may
/// have to say where it is reached from outside.
fn stated_ip(request: &AnnounceRequest, ends: Ends) -> Option<IpAddr> {
    request.ip.map(|ip| ip.to_canonical()).filter(|_| ends.peer.ip().is_loopback())
}

/// Link-local IPv6 needs an interface name, which no peer list can carry.
fn reachable(ip: IpAddr) -> bool {
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !(link_local || ip.is_multicast() || ip.is_unspecified())
}

/// The address under which the asker reaches a peer. A peer on the tracker's own host may have announced
/// over loopback: for others it is where they reached the tracker.
fn seen_from(peer: SocketAddr, ends: Ends) -> Option<SocketAddr> {
    if !peer.ip().is_loopback() || ends.peer.ip().is_loopback() {
        return Some(peer);
    }
    let local = ends.local.ip();
    (local.is_ipv4() == peer.is_ipv4()).then(|| SocketAddr::new(local, peer.port()))
}

pub(super) async fn scrape(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    app.metrics.scrapes.add(1);
    let wanted = match parse_scrape(&query.unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(error) => {
            let reason = format!("bad scrape: {error}");
            return bencoded(AnnounceResponse::Failure(reason).encode(true));
        }
    };
    let torrents = lock(&app.torrents);
    let found: Vec<(InfoHash, Counts)> = if wanted.is_empty() {
        torrents.all()
    } else {
        wanted.iter().filter_map(|hash| Some((*hash, torrents.counts(hash)?))).collect()
    };
    drop(torrents);
    let entries: Vec<_> = found
        .into_iter()
        .take(MAX_SCRAPE)
        .map(|(info_hash, counts)| ScrapeEntry {
            info_hash,
            complete: number(counts.seeds),
            downloaded: u32::try_from(counts.completed).unwrap_or(u32::MAX),
            incomplete: number(counts.leechers),
        })
        .collect();
    bencoded(encode_scrape(&entries))
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn bencoded(body: Result<Vec<u8>, impl std::fmt::Display>) -> Response<Body> {
    match body {
        Ok(body) => text(StatusCode::OK, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(peer: &str, local: &str) -> Ends {
        Ends { peer: peer.parse().unwrap(), local: local.parse().unwrap() }
    }

    #[test]
    fn a_peer_on_this_host_is_named_by_the_address_the_asker_used() {
        let loopback: SocketAddr = "127.0.0.1:6881".parse().unwrap();
        let outside = ends("10.0.0.7:5", "10.0.0.1:6969");
        assert_eq!(seen_from(loopback, outside), "10.0.0.1:6881".parse().ok());
        assert_eq!(seen_from(loopback, ends("127.0.0.1:5", "127.0.0.1:6969")), Some(loopback));
        assert_eq!(seen_from(loopback, ends("[fd00::7]:5", "[fd00::1]:6969")), None);
        let other: SocketAddr = "10.0.0.9:6881".parse().unwrap();
        assert_eq!(seen_from(other, outside), Some(other));
    }

    #[test]
    fn addresses_that_no_list_can_carry_are_refused() {
        for (ip, good) in [
            ("10.0.0.1", true),
            ("127.0.0.1", true),
            ("fd00::1", true),
            ("fe80::1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
        ] {
            assert_eq!(reachable(ip.parse().unwrap()), good, "{ip}");
        }
    }
}
