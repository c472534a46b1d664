//! Local service discovery (BEP 14): a swarm without a tracker, on one network segment.
//!
//! One task per session announces its public torrents to the multicast groups on every interface,
//! and puts those who announce the same into the book. Nothing here is an error: a host without
//! multicast, or with port 6771 taken, only says so at debug level.
//!
//! Each torrent has four announcements to spend, and gets another every minute. A fetch spends
//! them in its first seconds, a peer with something to give also to answer newcomers.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use proto::hash::InfoHash;
use proto::lsd::{Announcement, GROUP_V4, GROUP_V6, MAX_HASHES, MAX_LEN, PORT};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::book::{Origin, jittered, with_port};
use super::session::SessionShared;
use super::torrent::Shared;
use crate::core::Moment;

/// Announcements a torrent may spend at once, and how soon it gets another one.
const BURST: u32 = 4;
const REFILL: Duration = Duration::from_secs(60);

/// Between announcements when all is well.
const CALM: Duration = Duration::from_secs(300);

/// Without any connection, a fetch announces again after this; it doubles up to [`REFILL`].
const ALONE: Duration = Duration::from_secs(2);

/// Longest wait before newcomers are answered: not everybody at once.
const ANSWER: Duration = Duration::from_millis(500);

/// Datagrams looked at per second.
const MAX_RATE: u32 = 500;

/// When a torrent is announced.
#[derive(Debug)]
struct Plan {
    next_at: Moment,
    alone: u32,
    tokens: u32,
    refilled_at: Moment,
}

impl Plan {
    fn new(now: Moment) -> Self {
        Self { next_at: now, alone: 0, tokens: BURST, refilled_at: now }
    }

    /// Takes an announcement out of the budget, if there is one and it is due.
    fn take(&mut self, now: Moment, alone: bool) -> bool {
        let gained = now.saturating_sub(self.refilled_at).as_secs() / REFILL.as_secs();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        if gained > 0 {
            self.refilled_at = now;
            self.tokens = self.tokens.saturating_add(gained).min(BURST);
        }
        if self.next_at > now {
            return false;
        }
        let Some(left) = self.tokens.checked_sub(1) else {
            self.next_at = self.refilled_at + REFILL;
            return false;
        };
        self.tokens = left;
        self.alone = if alone { (self.alone + 1).min(8) } else { 0 };
        self.next_at = now
            + match self.alone {
                0 => jittered(CALM),
                times => jittered((ALONE * 2u32.pow(times - 1)).min(REFILL)),
            };
        true
    }

    /// Somebody new is there and may need us.
    fn answer(&mut self, now: Moment) {
        let within = u64::try_from(ANSWER.as_millis()).unwrap_or(0);
        self.next_at = self.next_at.min(now + Duration::from_millis(fastrand::u64(0..=within)));
    }
}

struct Lsd {
    session: Arc<SessionShared>,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    cookie: String,
    plans: BTreeMap<InfoHash, Plan>,
    /// The second that is counted, and datagrams in it.
    rate: (u64, u32),
}

/// Announces and listens until the session ends.
pub(crate) async fn run(session: Arc<SessionShared>) {
    let open = |group: IpAddr| {
        let speaks = session.local.is_ipv6() && session.local.ip().is_unspecified()
            || session.local.is_ipv4() == group.is_ipv4();
        let opened = if speaks { socket(group).map(Some) } else { Ok(None) };
        opened.unwrap_or_else(|error| {
            tracing::debug!(%group, %error, "no local discovery on this group");
            None
        })
    };
    let (v4, v6) = (open(GROUP_V4.into()), open(GROUP_V6.into()));
    if v4.is_none() && v6.is_none() {
        return;
    }
    let cookie = format!("{:016x}", fastrand::u64(..));
    let mut lsd =
        Lsd { session: session.clone(), v4, v6, cookie, plans: BTreeMap::new(), rate: (0, 0) };
    lsd.join();
    tokio::select! {
        () = lsd.run() => {}
        () = session.cancel.cancelled() => {}
    }
}

impl Lsd {
    async fn run(&mut self) {
        let (mut first, mut second) = ([0; MAX_LEN + 1], [0; MAX_LEN + 1]);
        loop {
            let next_at = self.announce().await;
            let wait = next_at.saturating_sub(self.session.started.elapsed());
            let heard = tokio::select! {
                (length, from) = receive(self.v4.as_ref(), &mut first) => Some((&first[..length], from)),
                (length, from) = receive(self.v6.as_ref(), &mut second) => Some((&second[..length], from)),
                () = self.session.lsd_wake.notified() => None,
                () = tokio::time::sleep(wait) => None,
            };
            if let Some((datagram, from)) = heard {
                self.hear(datagram, from);
            }
        }
    }

    fn hear(&mut self, datagram: &[u8], from: SocketAddr) {
        let now = self.session.started.elapsed();
        if self.rate.0 != now.as_secs() {
            self.rate = (now.as_secs(), 0);
        }
        self.rate.1 += 1;
        if self.rate.1 > MAX_RATE {
            return;
        }
        let Ok(heard) = Announcement::parse(datagram) else { return };
        if heard.cookie.as_deref() == Some(&self.cookie) {
            return;
        }
        let address = with_port(from, heard.port);
        for info_hash in heard.info_hashes {
            let Some(torrent) = self.session.find(info_hash).filter(|t| is_public(t)) else {
                continue;
            };
            let (news, can_give) = {
                let mut state = torrent.lock();
                let some = state.core.as_ref().is_some_and(|core| core.have().count() > 0);
                (state.book.hear(address, Origin::Itself, now), some)
            };
            if news {
                tracing::debug!(peer = %address, %info_hash, "peer found on this network");
                torrent.ticker.notify_one();
                if can_give && let Some(plan) = self.plans.get_mut(&info_hash) {
                    plan.answer(now);
                }
            }
        }
    }

    /// Announces what is due; when to look again.
    async fn announce(&mut self) -> Moment {
        let now = self.session.started.elapsed();
        let torrents: Vec<Arc<Shared>> =
            self.session.torrents().into_iter().filter(|t| is_public(t)).collect();
        let mut due = Vec::new();
        self.plans.retain(|hash, _| torrents.iter().any(|t| t.metainfo.info_hash == *hash));
        for torrent in &torrents {
            let hash = torrent.metainfo.info_hash;
            let alone = !torrent.is_done() && torrent.lock().links.is_empty();
            let plan = self.plans.entry(hash).or_insert_with(|| Plan::new(now));
            if plan.take(now, alone) {
                due.push(hash);
            }
        }
        if !due.is_empty() {
            let interfaces = self.join();
            for info_hashes in due.chunks(MAX_HASHES) {
                self.send(&interfaces, info_hashes).await;
            }
        }
        self.plans.values().map(|plan| plan.next_at).min().unwrap_or(now + CALM)
    }

    /// Joins the groups on every interface, also on those that came since the last time.
    fn join(&self) -> Interfaces {
        let interfaces = Interfaces::of(self.session.local.ip());
        let note = |result: io::Result<()>, interface: &dyn std::fmt::Display| match result {
            // joined already
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                tracing::debug!(%interface, %error, "no local discovery on this interface");
            }
            _ => {}
        };
        if let Some(socket) = &self.v4 {
            for address in &interfaces.v4 {
                note(SockRef::from(socket).join_multicast_v4(&GROUP_V4, address), address);
            }
        }
        if let Some(socket) = &self.v6 {
            for index in &interfaces.v6 {
                note(SockRef::from(socket).join_multicast_v6(&GROUP_V6, *index), index);
            }
        }
        interfaces
    }

    async fn send(&self, interfaces: &Interfaces, info_hashes: &[InfoHash]) {
        let message = Announcement {
            port: self.session.local.port(),
            info_hashes: info_hashes.to_vec(),
            cookie: Some(self.cookie.clone()),
        };
        let mut sent = 0;
        if let Some(socket) = &self.v4 {
            let group = SocketAddr::from((GROUP_V4, PORT));
            let text = message.encode(group);
            for address in &interfaces.v4 {
                let chosen = SockRef::from(socket).set_multicast_if_v4(address);
                sent += u32::from(
                    chosen.is_ok() && socket.send_to(text.as_bytes(), group).await.is_ok(),
                );
            }
        }
        if let Some(socket) = &self.v6 {
            let group = SocketAddr::from((GROUP_V6, PORT));
            let text = message.encode(group);
            for index in &interfaces.v6 {
                let chosen = SockRef::from(socket).set_multicast_if_v6(*index);
                sent += u32::from(
                    chosen.is_ok() && socket.send_to(text.as_bytes(), group).await.is_ok(),
                );
            }
        }
        tracing::debug!(
            torrents = info_hashes.len(),
            interfaces = sent,
            "announced on this network"
        );
    }
}

fn is_public(torrent: &Shared) -> bool {
    !torrent.metainfo.info.private && torrent.lock().core.is_some()
}

/// The next datagram; never, without a socket.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket {
            Some(socket) => match socket.recv_from(buffer).await {
                Ok(received) => return received,
                // an ICMP error of something sent earlier
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            None => std::future::pending().await,
        }
    }
}

/// Opens the port of a group; other programs on this host may have it open as well.
fn socket(group: IpAddr) -> io::Result<UdpSocket> {
    let (domain, any) = match group {
        IpAddr::V4(_) => (Domain::IPV4, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (Domain::IPV6, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if group.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(any, PORT).into())?;
    UdpSocket::from_std(socket.into())
}

/// Where to announce: IPv4 by address, IPv6 by interface number.
#[derive(Debug, Default)]
struct Interfaces {
    v4: Vec<Ipv4Addr>,
    v6: Vec<u32>,
}

impl Interfaces {
    /// Interfaces that are up and through which others reach `listen`.
    fn of(listen: IpAddr) -> Self {
        let mut found = Self::default();
        let Ok(addresses) = getifaddrs() else { return found };
        let able = InterfaceFlags::IFF_MULTICAST | InterfaceFlags::IFF_LOOPBACK;
        for entry in addresses {
            let up = entry.flags.contains(InterfaceFlags::IFF_UP) && entry.flags.intersects(able);
            let Some(address) = entry.address.filter(|_| up) else { continue };
            if let Some(v4) = address.as_sockaddr_in() {
                if listen.is_unspecified() || listen == IpAddr::V4(v4.ip()) {
                    found.v4.push(v4.ip());
                }
            } else if let Some(v6) = address.as_sockaddr_in6()
                && (listen.is_unspecified() || listen == IpAddr::V6(v6.ip()))
                && let Ok(index) = if_nametoindex(entry.interface_name.as_str())
                && !found.v6.contains(&index)
            {
                found.v6.push(index);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_lonely_fetch_spends_its_budget_and_then_one_a_minute() {
        let mut plan = Plan::new(SEC(0));
        let spent: Vec<u64> = (0..600).filter(|second| plan.take(SEC(*second), true)).collect();
        assert!(spent[3] <= 30, "{spent:?}");
        assert!(spent.len() <= 4 + 10, "{spent:?}");
        assert!(spent.len() >= 8, "{spent:?}");
    }

    #[test]
    fn a_calm_torrent_announces_every_five_minutes_whoever_calls() {
        let mut plan = Plan::new(SEC(0));
        assert!(plan.take(SEC(0), false));
        assert!(!plan.take(SEC(200), false));
        assert!(plan.take(SEC(400), false));
        // answers to a flood of newcomers
        let flood = (400..1000).filter(|second| {
            plan.answer(SEC(*second));
            plan.take(SEC(*second + 1), false)
        });
        assert!((8..=15).contains(&flood.count()));
    }

    #[test]
    fn loopback_is_an_interface_and_a_listen_address_chooses() {
        let all = Interfaces::of(Ipv6Addr::UNSPECIFIED.into());
        assert!(all.v4.contains(&Ipv4Addr::LOCALHOST), "{all:?}");
        let one = Interfaces::of(Ipv4Addr::LOCALHOST.into());
        assert_eq!((one.v4, one.v6), (vec![Ipv4Addr::LOCALHOST], vec![]));
        let none = Interfaces::of(Ipv4Addr::new(192, 0, 2, 1).into());
        assert!(none.v4.is_empty() && none.v6.is_empty());
    }
}
