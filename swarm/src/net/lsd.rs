//! Local service discovery (BEP 14): a swarm without a tracker, on one network segment.
//!
//! One task per session announces its public torrents to the multicast groups on every interface,
//! and puts those who announce the same into the book. Nothing here is an error: a host without
//! multicast, or with port 6771 taken, only says so at debug level.
//!
//! Each torrent has four announcements to spend, and gets another every minute. A fetch spends
//! them in its first seconds, a peer with something to give also to answer newcomers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use proto::hash::InfoHash;
use proto::lsd::{Announcement, GROUP_V4, GROUP_V6, MAX_HASHES, MAX_LEN, PORT};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::book::{Origin, jittered, with_port};
use super::session::SessionShared;
use super::torrent::Shared;
use crate::core::Moment;
use crate::log;

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

/// An open port and the group it listens to.
struct Channel {
    socket: UdpSocket,
    group: SocketAddr,
}

struct Lsd {
    session: Arc<SessionShared>,
    channels: Vec<Channel>,
    cookie: String,
    plans: Vec<(InfoHash, Plan)>,
    /// The second that is counted, and datagrams in it.
    rate: (u64, u32),
}

/// Announces and listens until the session ends.
pub(crate) async fn run(session: Arc<SessionShared>) {
    let local = session.local;
    let groups = [SocketAddr::from((GROUP_V4, PORT)), SocketAddr::from((GROUP_V6, PORT))];
    let mut channels = Vec::new();
    for group in groups {
        let both = local.is_ipv6() && local.ip().is_unspecified();
        if !both && local.is_ipv4() != group.is_ipv4() {
            continue;
        }
        match socket(group) {
            Ok(socket) => channels.push(Channel { socket, group }),
            Err(error) => log::debug!(%group, %error, "no local discovery on this group"),
        }
    }
    if channels.is_empty() {
        return;
    }
    let cookie = format!("{:016x}", fastrand::u64(..));
    let mut lsd =
        Lsd { session: session.clone(), channels, cookie, plans: Vec::new(), rate: (0, 0) };
    lsd.join(&interfaces(local.ip()));
    tokio::select! {
        () = lsd.run() => {}
        () = session.cancel.cancelled() => {}
    }
}

impl Lsd {
    async fn run(&mut self) {
        let mut buffer = [0; MAX_LEN + 1];
        loop {
            let next_at = self.announce();
            let wait = next_at.saturating_sub(self.session.started.elapsed());
            let heard = tokio::select! {
                heard = self.receive(&mut buffer) => heard,
                () = self.session.lsd_wake.notified() => continue,
                () = tokio::time::sleep(wait) => continue,
            };
            match heard {
                Ok((length, from)) => self.hear(&buffer[..length], from),
                // an ICMP error of something sent earlier
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// The next datagram on any channel.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        std::future::poll_fn(|context| {
            for channel in &self.channels {
                let mut read = ReadBuf::new(buffer);
                if let Poll::Ready(from) = channel.socket.poll_recv_from(context, &mut read) {
                    let length = read.filled().len();
                    return Poll::Ready(from.map(|from| (length, from)));
                }
            }
            Poll::Pending
        })
        .await
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
                log::debug!(peer = %address, %info_hash, "peer found on this network");
                torrent.ticker.notify_one();
                if can_give {
                    let plan = self.plans.iter_mut().find(|(known, _)| *known == info_hash);
                    plan.into_iter().for_each(|(_, plan)| plan.answer(now));
                }
            }
        }
    }

    /// Announces what is due; when to look again.
    fn announce(&mut self) -> Moment {
        let now = self.session.started.elapsed();
        let torrents: Vec<Arc<Shared>> =
            self.session.torrents().into_iter().filter(|t| is_public(t)).collect();
        let mut due = Vec::new();
        self.plans.retain(|(hash, _)| torrents.iter().any(|t| t.metainfo.info_hash == *hash));
        for torrent in &torrents {
            let hash = torrent.metainfo.info_hash;
            if !self.plans.iter().any(|(known, _)| *known == hash) {
                self.plans.push((hash, Plan::new(now)));
            }
            let alone = !torrent.is_done() && torrent.lock().links.is_empty();
            let plan = self.plans.iter_mut().find(|(known, _)| *known == hash);
            if plan.is_some_and(|(_, plan)| plan.take(now, alone)) {
                due.push(hash);
            }
        }
        if !due.is_empty() {
            let interfaces = interfaces(self.session.local.ip());
            self.join(&interfaces);
            due.chunks(MAX_HASHES).for_each(|hashes| self.send(&interfaces, hashes));
        }
        self.plans.iter().map(|(_, plan)| plan.next_at).min().unwrap_or(now + CALM)
    }

    /// Joins the groups on every interface, also on those that came since the last time.
    fn join(&self, interfaces: &[Interface]) {
        for (channel, interface) in self.ways(interfaces) {
            let socket = SockRef::from(&channel.socket);
            let joined = match interface {
                Interface::V4(address) => socket.join_multicast_v4(&GROUP_V4, address),
                Interface::V6(index) => socket.join_multicast_v6(&GROUP_V6, *index),
            };
            match joined {
                // joined already
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    log::debug!(?interface, %error, "no local discovery on this interface");
                }
                _ => {}
            }
        }
    }

    /// Each channel with each interface of its family.
    fn ways<'a>(
        &'a self,
        interfaces: &'a [Interface],
    ) -> impl Iterator<Item = (&'a Channel, &'a Interface)> {
        self.channels.iter().flat_map(move |channel| {
            let same = |i: &&Interface| channel.group.is_ipv4() == matches!(i, Interface::V4(_));
            interfaces.iter().filter(same).map(move |interface| (channel, interface))
        })
    }

    fn send(&self, interfaces: &[Interface], info_hashes: &[InfoHash]) {
        let message = Announcement {
            port: self.session.local.port(),
            info_hashes: info_hashes.to_vec(),
            cookie: Some(self.cookie.clone()),
        };
        for (channel, interface) in self.ways(interfaces) {
            let text = message.encode(channel.group);
            let socket = SockRef::from(&channel.socket);
            // without this the kernel wants a route for the group, which an initrd may not have
            let chosen = match interface {
                Interface::V4(address) => socket.set_multicast_if_v4(address),
                Interface::V6(index) => socket.set_multicast_if_v6(*index),
            };
            let sent = chosen.and_then(|()| socket.send_to(text.as_bytes(), &channel.group.into()));
            match sent {
                Ok(_) => log::debug!(?interface, "announced on this network"),
                Err(error) => log::debug!(?interface, %error, "not announced"),
            }
        }
    }
}

fn is_public(torrent: &Shared) -> bool {
    !torrent.metainfo.info.private && torrent.lock().core.is_some()
}

/// Opens the port of a group; other programs on this host may have it open as well.
fn socket(group: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match group {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    if group.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(any, PORT).into())?;
    UdpSocket::from_std(socket.into())
}

/// Where to announce: IPv4 by address, IPv6 by interface number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interface {
    V4(Ipv4Addr),
    V6(u32),
}

/// Interfaces that are up and through which others reach `listen`.
fn interfaces(listen: IpAddr) -> Vec<Interface> {
    let mut found = Vec::new();
    let addresses = match getifaddrs() {
        Ok(addresses) => addresses,
        Err(error) => {
            log::debug!(%error, "cannot list the interfaces: no local discovery");
            return found;
        }
    };
    let able = InterfaceFlags::IFF_MULTICAST | InterfaceFlags::IFF_LOOPBACK;
    let meant = |address: IpAddr| listen.is_unspecified() || listen == address;
    for entry in addresses {
        let up = entry.flags.contains(InterfaceFlags::IFF_UP) && entry.flags.intersects(able);
        let Some(address) = entry.address.filter(|_| up) else { continue };
        let interface = if let Some(v4) = address.as_sockaddr_in() {
            meant(v4.ip().into()).then(|| Interface::V4(v4.ip()))
        } else if address.as_sockaddr_in6().is_some_and(|v6| meant(v6.ip().into())) {
            if_nametoindex(entry.interface_name.as_str()).ok().map(Interface::V6)
        } else {
            None
        };
        // an interface has several IPv6 addresses
        found.extend(interface.filter(|interface| !found.contains(interface)));
    }
    found
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
        let lo = Interface::V4(Ipv4Addr::LOCALHOST);
        let all = interfaces(Ipv6Addr::UNSPECIFIED.into());
        assert!(all.contains(&lo), "{all:?}");
        assert_eq!(interfaces(Ipv4Addr::LOCALHOST.into()), [lo]);
        assert!(interfaces(Ipv4Addr::new(192, 0, 2, 1).into()).is_empty());
    }
}
