//! `/announce` (BEP 3, 7, 23) and `/scrape` (BEP 48).
//!
//! A refusal is status 200 with a `failure reason`: clients show that text, and many treat another
//! status as a broken tracker without reading on.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Instant;

use fastrand::Rng;
use proto::announce::{
    AnnouncePeers, AnnounceRequest, AnnounceResponse, PeerEntry, encode_scrape, parse_scrape,
};
use proto::hash::InfoHash;

use super::*;
use crate::announce::{Asked, Refusal, decide};
use crate::policy::{Named, Scratch};
use crate::torrents::peer::Key;
use crate::torrents::{Answer, Counts};

/// Torrents in one scrape answer at most.
const MAX_SCRAPE: usize = 1000;

thread_local! {
    static SCRATCH: RefCell<(Rng, Scratch)> = RefCell::new((Rng::new(), Scratch::default()));
}

pub(super) async fn announce(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let mut body = Vec::new();
    answer_announce(&app, ends, &query.unwrap_or_default(), &mut body);
    text(StatusCode::OK, body)
}

/// Appends the answer to an announce with this query to `out`.
pub(crate) fn answer_announce(app: &App, ends: Ends, query: &str, out: &mut Vec<u8>) {
    let decided = SCRATCH.with_borrow_mut(|(rng, scratch)| {
        let request = AnnounceRequest::parse(query).map_err(Refusal::Query)?;
        let asked = Asked {
            info_hash: request.info_hash,
            peer_id: request.peer_id,
            port: request.port,
            left: request.left,
            event: request.event,
            want: request.numwant,
            key: request.key.as_deref().map(Key::from_text),
            ip: request.ip,
            failed: &request.failed,
            own_family_only: false,
        };
        let answer = decide(app, ends, &asked, Instant::now(), rng, scratch)?;
        if request.compact {
            compact(&answer, &scratch.named, out);
        } else {
            plain(&answer, &scratch.named, !request.no_peer_id, out);
        }
        Ok(())
    });
    match decided {
        Ok(()) => app.metrics.announces.add(1),
        Err::<_, Refusal>(refusal) => {
            app.metrics.announce_failures.add(1);
            tracing::debug!(peer = %ends.peer, %refusal, "announce refused");
            refuse(&refusal.to_string(), out);
        }
    }
}

/// The compact form by hand: it is what every client asks for, thousands of times a second.
fn compact(answer: &Answer, named: &[Named], out: &mut Vec<u8>) {
    let Answer { interval, seeds, leechers } = answer;
    let (v4, v6) = named.iter().fold((0, 0), |(v4, v6), peer| match peer.addr.ip() {
        IpAddr::V4(_) => (v4 + 1, v6),
        IpAddr::V6(_) => (v4, v6 + 1),
    });
    // Writing to memory cannot fail.
    let _ = write!(
        out,
        "d8:completei{seeds}e10:incompletei{leechers}e8:intervali{interval}e5:peers{}:",
        v4 * 6
    );
    for peer in named {
        if let IpAddr::V4(ip) = peer.addr.ip() {
            out.extend(ip.octets());
            out.extend(peer.addr.port().to_be_bytes());
        }
    }
    if v6 > 0 {
        let _ = write!(out, "6:peers6{}:", v6 * 18);
    }
    for peer in named {
        if let IpAddr::V6(ip) = peer.addr.ip() {
            out.extend(ip.octets());
            out.extend(peer.addr.port().to_be_bytes());
        }
    }
    out.push(b'e');
}

fn plain(answer: &Answer, named: &[Named], with_ids: bool, out: &mut Vec<u8>) {
    let entry =
        |peer: &Named| PeerEntry { address: peer.addr, peer_id: with_ids.then_some(peer.id) };
    let reply = AnnouncePeers {
        interval: answer.interval,
        min_interval: None,
        complete: number(answer.seeds),
        incomplete: number(answer.leechers),
        peers: named.iter().map(entry).collect(),
        warning: None,
    };
    out.extend(AnnounceResponse::Peers(reply).encode(false).unwrap_or_default());
}

fn refuse(reason: &str, out: &mut Vec<u8>) {
    let _ = write!(out, "d14:failure reason{}:{reason}e", reason.len());
}

pub(super) async fn scrape(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    app.metrics.scrapes.add(1);
    let wanted = match parse_scrape(&query.unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(error) => {
            let mut body = Vec::new();
            refuse(&format!("bad scrape: {error}"), &mut body);
            return text(StatusCode::OK, body);
        }
    };
    let found: Vec<(InfoHash, Counts)> = if wanted.is_empty() {
        app.torrents.all()
    } else {
        wanted.iter().filter_map(|hash| Some((*hash, app.torrents.counts(hash)?))).collect()
    };
    let entries: Vec<_> = found
        .into_iter()
        .take(MAX_SCRAPE)
        .map(|(info_hash, counts)| counts.scraped(info_hash))
        .collect();
    match encode_scrape(&entries) {
        Ok(body) => text(StatusCode::OK, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hash::PeerId;
    use std::net::SocketAddr;

    #[test]
    fn the_compact_form_is_that_of_the_codec() {
        let all: [SocketAddr; 3] =
            ["10.0.0.1:1", "[fd00::1]:2", "10.0.0.2:3"].map(|a| a.parse().unwrap());
        for count in 0..=3 {
            let named: Vec<_> = all[..count]
                .iter()
                .map(|addr| Named { addr: *addr, id: PeerId([1; 20]) })
                .collect();
            let answer = Answer { interval: 5, seeds: 12, leechers: 300 };
            let mut out = Vec::new();
            compact(&answer, &named, &mut out);
            let entry = |peer: &Named| PeerEntry { address: peer.addr, peer_id: None };
            let reply = AnnouncePeers {
                interval: 5,
                complete: 12,
                incomplete: 300,
                peers: named.iter().map(entry).collect(),
                ..AnnouncePeers::default()
            };
            assert_eq!(out, AnnounceResponse::Peers(reply).encode(true).unwrap());
        }
        let mut out = Vec::new();
        refuse("no: ü", &mut out);
        assert_eq!(out, AnnounceResponse::Failure("no: ü".into()).encode(true).unwrap());
    }
}
