//! One announce, whatever protocol brought it: what is checked, and who is known by which address.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use fastrand::Rng;
use proto::announce::{AnnounceEvent, QueryError};
use proto::hash::{InfoHash, PeerId};

use crate::app::App;
use crate::policy::{self, Scratch};
use crate::torrents::peer::Key;
use crate::torrents::{Announce, Answer, Crowded};

/// Both ends of a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// The client, IPv4-mapped addresses as IPv4.
    pub(crate) peer: SocketAddr,
    /// This side.
    pub(crate) local: SocketAddr,
}

impl Ends {
    /// Of a connection whose addresses may be IPv4 written as IPv6.
    pub(crate) fn of(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { peer: canonical(peer), local: canonical(local) }
    }
}

/// IPv4-mapped addresses as IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Why an announce is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("bad announce: {0}")]
    Query(QueryError),
    #[error("torrent not published here: {0} (bee-packer publish puts a revision on the list)")]
    Unknown(InfoHash),
    #[error(
        "no peer can be reached at {0}: announce over a global, private or unique local address"
    )]
    Address(IpAddr),
    #[error(transparent)]
    Crowded(Crowded),
}

/// What a client asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) info_hash: InfoHash,
    pub(crate) peer_id: PeerId,
    pub(crate) port: u16,
    pub(crate) left: u64,
    pub(crate) event: Option<AnnounceEvent>,
    pub(crate) want: Option<u32>,
    pub(crate) key: Option<Key>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) failed: &'a [SocketAddr],
    pub(crate) own_family_only: bool,
}

/// Takes an announce. The peers in `scratch.named` are as the asker reaches them.
///
/// # Errors
/// [`Refusal`]; its text is for people.
pub(crate) fn decide(
    app: &App,
    ends: Ends,
    asked: &Asked<'_>,
    now: Instant,
    rng: &mut Rng,
    scratch: &mut Scratch,
) -> Result<Answer, Refusal> {
    let info_hash = asked.info_hash;
    if app.config.store.is_some() && app.catalog().by_info_hash(&info_hash).is_none() {
        return Err(Refusal::Unknown(info_hash));
    }
    let ip = stated_ip(asked, ends).unwrap_or(ends.peer.ip());
    if !reachable(ip) {
        return Err(Refusal::Address(ip));
    }
    if asked.port == 0 {
        return Err(Refusal::Query(QueryError::Invalid("port")));
    }
    let want = asked.want.map_or(policy::DEFAULT_WANT, |n| {
        usize::try_from(n).unwrap_or(policy::MAX_WANT).min(policy::MAX_WANT)
    });
    let announce = Announce {
        info_hash,
        addr: SocketAddr::new(ip, asked.port),
        peer_id: asked.peer_id,
        key: asked.key,
        left: asked.left,
        event: asked.event,
        want,
        own_family_only: asked.own_family_only,
        failed: asked.failed,
    };
    let answer = app.torrents.announce(&announce, now, rng, scratch).map_err(Refusal::Crowded)?;
    scratch.named.retain_mut(|peer| match seen_from(peer.addr, ends) {
        Some(addr) => {
            peer.addr = addr;
            true
        }
        None => false,
    });
    Ok(answer)
}

/// The address that a client states for itself counts only from this host: anyone else could name a
/// third party, and the whole crowd would dial it. The admin's own seeder or a relay on this host may
/// have to say where it is reached from outside.
fn stated_ip(asked: &Asked<'_>, ends: Ends) -> Option<IpAddr> {
    asked.ip.map(|ip| ip.to_canonical()).filter(|_| ends.peer.ip().is_loopback())
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
