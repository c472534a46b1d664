//! Announces over UDP, as datagrams and beside HTTP.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::bed::{Bed, PATIENCE, get};
use beeswarm_tracker::Config;
use beeswarm_tracker::config::Limits;
use proto::announce::{AnnounceEvent, AnnouncePeers, AnnounceRequest, AnnounceResponse};
use proto::hash::{InfoHash, PeerId};
use proto::udp_tracker::{self as codec, Family, Reply};

const HASH: InfoHash = InfoHash([0x5a; 20]);

fn bed(udp: &str) -> Bed {
    Bed::start(Config { udp: Some(udp.parse().unwrap()), ..Config::default() })
}

/// A client at one address.
struct Client {
    socket: UdpSocket,
    family: Family,
    id: u64,
}

impl Client {
    fn new(from: &str, to: SocketAddr) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        Self { socket, family, id: 0 }
    }

    fn connected(from: &str, to: SocketAddr) -> Self {
        let mut client = Self::new(from, to);
        let Reply::Connected(id) = client.ask(&codec::connect(7)) else { panic!("connect") };
        client.id = id;
        client
    }

    fn ask(&self, datagram: &[u8]) -> Reply {
        self.socket.send(datagram).unwrap();
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("an answer");
        codec::parse(&buffer[..length], 7, self.family).unwrap()
    }

    fn announce(&self, n: u8, left: u64, event: Option<AnnounceEvent>) -> AnnouncePeers {
        match self.ask(&codec::announce(self.id, 7, &request(n, left, event), 0, "/announce")) {
            Reply::Peers(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Whether the tracker stays silent.
    fn is_ignored(&self, datagram: &[u8]) -> bool {
        self.socket.send(datagram).unwrap();
        self.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let silent = self.socket.recv(&mut [0; 4096]).is_err();
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }
}

fn request(n: u8, left: u64, event: Option<AnnounceEvent>) -> AnnounceRequest {
    let port = 7000 + u16::from(n);
    AnnounceRequest { left, event, ..AnnounceRequest::new(HASH, PeerId([n; 20]), port) }
}

fn ports(reply: &AnnouncePeers) -> Vec<u16> {
    let mut ports: Vec<_> = reply.peers.iter().map(|p| p.address.port()).collect();
    ports.sort_unstable();
    ports
}

fn over_http(bed: &Bed, n: u8) -> AnnouncePeers {
    let target = format!("/announce?{}", request(n, 5, None).to_query());
    match AnnounceResponse::parse(&bed.get(&target).body).unwrap() {
        AnnounceResponse::Peers(peers) => peers,
        AnnounceResponse::Failure(reason) => panic!("{reason}"),
    }
}

#[test]
fn peers_find_each_other_over_both_protocols() {
    let bed = bed("127.0.0.1:0");
    let client = Client::connected("127.0.0.1", bed.udp);
    let reply = client.announce(1, 0, Some(AnnounceEvent::Started));
    assert_eq!((ports(&reply).len(), reply.complete, reply.incomplete), (0, 1, 0));
    let reply = client.announce(2, 5, Some(AnnounceEvent::Started));
    assert_eq!((ports(&reply), reply.complete, reply.incomplete), (vec![7001], 1, 1));
    assert!((3..=5).contains(&reply.interval), "{}", reply.interval);
    assert_eq!(ports(&over_http(&bed, 3)), [7001, 7002]);
    assert_eq!(ports(&client.announce(2, 0, Some(AnnounceEvent::Completed))), [7003]);
    client.announce(1, 0, Some(AnnounceEvent::Stopped));
    assert_eq!(ports(&over_http(&bed, 3)), [7002]);
    let mut scrape = client.id.to_be_bytes().to_vec();
    scrape.extend([0, 0, 0, 2, 0, 0, 0, 7]);
    scrape.extend([HASH.0, [9; 20]].concat());
    client.socket.send(&scrape).unwrap();
    let mut answer = [0; 100];
    assert_eq!(client.socket.recv(&mut answer).unwrap(), 8 + 24);
    let expected = [2u32, 7, 1, 1, 1, 0, 0, 0].map(u32::to_be_bytes).concat();
    assert_eq!(answer[..32], expected);
    let metrics = bed.get("/metrics").text().to_owned();
    assert!(metrics.contains("beeswarm_tracker_announces_total 6\n"), "{metrics}");
}

#[test]
fn one_socket_speaks_both_families_and_each_gets_its_own() {
    let bed = bed("[::]:0");
    let port = bed.udp.port();
    let v4 = Client::connected("127.0.0.1", SocketAddr::from(([127, 0, 0, 1], port)));
    let v6 = Client::connected("::1", format!("[::1]:{port}").parse().unwrap());
    assert!(v4.announce(1, 5, None).peers.is_empty());
    assert!(v6.announce(2, 5, None).peers.is_empty(), "an IPv4 peer fits in no IPv6 answer");
    let third = v6.announce(3, 5, None);
    assert_eq!(third.peers[0].address, "[::1]:7002".parse().unwrap());
    assert_eq!((third.peers.len(), third.incomplete), (1, 3));
    let fourth = v4.announce(4, 5, None);
    assert_eq!(fourth.peers[0].address, "127.0.0.1:7001".parse().unwrap());
    assert_eq!(over_http(&bed, 5).peers.len(), 4, "an HTTP answer holds both");
}

#[test]
fn who_did_not_get_an_id_is_not_listened_to() {
    let bed = bed("0.0.0.0:0");
    let to = SocketAddr::from(([127, 0, 0, 1], bed.udp.port()));
    let honest = Client::connected("127.0.0.1", to);
    // the id of another address: what a spoofer who guesses, or listens elsewhere, has
    let mut thief = Client::new("127.0.0.9", to);
    thief.id = honest.id;
    let announce = codec::announce(thief.id, 7, &request(1, 5, None), 0, "");
    let Reply::Refused(text) = thief.ask(&announce) else { panic!("refused") };
    assert!(text.contains("connection id") && text.len() + 8 < announce.len());
    let mut scrape = announce[..16].to_vec();
    scrape[11] = 2;
    scrape.extend(HASH.0);
    assert!(thief.is_ignored(&scrape));
    for nonsense in [&b""[..], b"x", &[0; 16], &[0xff; 98], &announce[..97]] {
        assert!(honest.is_ignored(nonsense), "{nonsense:?}");
    }
    assert!(bed.get("/api/v1/swarm").json()["torrents"].as_array().unwrap().is_empty());
    assert!(honest.announce(2, 5, None).peers.is_empty());
}

#[test]
fn an_address_asks_so_often_over_both_protocols_together() {
    let udp = Some("0.0.0.0:0".parse().unwrap());
    let limits = Limits { requests_per_second: Some(1), ..Limits::default() };
    let bed = Bed::start(Config { udp, limits, ..Config::default() });
    let to = SocketAddr::from(([127, 0, 0, 1], bed.udp.port()));
    let victim = Client::connected("127.0.0.1", to);
    let asked = codec::announce(victim.id, 7, &request(1, 5, None), 0, "");
    // whoever sends in somebody's name does not know the id
    let mut guessed = asked.clone();
    guessed[7] ^= 1;
    for _ in 0..20 {
        assert!(
            matches!(victim.ask(&guessed), Reply::Refused(text) if text.contains("connection id"))
        );
    }
    let mut scrape = asked[..16].to_vec();
    scrape[11] = 2;
    scrape.extend(HASH.0);
    let refused =
        std::iter::repeat_with(|| victim.ask(&asked)).take(20).find_map(|reply| match reply {
            Reply::Refused(text) => Some(text),
            _ => None,
        });
    assert!(refused.expect("an end").contains("too many requests"));
    assert!(matches!(victim.ask(&scrape), Reply::Refused(text) if text.contains("too many")));
    assert_eq!(bed.get("/healthz").status, 429, "the same allowance");
    let other = Client::connected("127.0.0.2", to);
    assert!(matches!(
        other.ask(&codec::announce(other.id, 7, &request(2, 5, None), 0, "")),
        Reply::Peers(_)
    ));
    crate::bed::wait_until("an answer", || matches!(victim.ask(&asked), Reply::Peers(_)));
}

#[test]
fn refusals_say_why() {
    let (_dir, store) = crate::bed::empty_store();
    let config = Config {
        udp: Some("127.0.0.1:0".parse().unwrap()),
        store: Some(store.root().to_owned()),
        ..Config::default()
    };
    let bed = Bed::start(config);
    let client = Client::connected("127.0.0.1", bed.udp);
    let asked = codec::announce(client.id, 7, &request(1, 5, None), 0, "");
    let Reply::Refused(text) = client.ask(&asked) else { panic!("refused") };
    assert!(text.contains("not published here"), "{text}");
    let mut no_port = asked.clone();
    no_port[96..98].copy_from_slice(&[0; 2]);
    assert!(matches!(client.ask(&no_port), Reply::Refused(_)));
}

/// Three nodes say that they could not reach a fourth: others are told of it last.
#[test]
fn failed_dials_are_reported_over_both_protocols() {
    let bed = bed("0.0.0.0:0");
    let to = SocketAddr::from(([127, 0, 0, 1], bed.udp.port()));
    let crowd: Vec<Client> =
        (1..=40).map(|host| Client::connected(&format!("127.0.0.{host}"), to)).collect();
    for (n, client) in (1..).zip(&crowd) {
        client.announce(n, 5, None);
    }
    let dead: SocketAddr = "127.0.0.40:7040".parse().unwrap();
    let named = || {
        let told = crowd[..30].iter().zip(1..).map(|(client, n)| {
            let request = AnnounceRequest { numwant: Some(20), ..request(n, 5, None) };
            let Reply::Peers(reply) = client.ask(&codec::announce(client.id, 7, &request, 0, ""))
            else {
                panic!("peers")
            };
            reply.peers.iter().filter(|peer| peer.address == dead).count()
        });
        told.sum::<usize>()
    };
    assert!(named() > 0);
    let failed = vec![dead];
    for n in [1, 2] {
        let client = &crowd[usize::from(n - 1)];
        let report = AnnounceRequest { failed: failed.clone(), ..request(n, 5, None) };
        let query = proto::announce::failed::to_query(&report.failed);
        let path = format!("/announce?x=1{query}");
        let asked = codec::announce(client.id, 7, &report, 0, &path);
        assert!(matches!(client.ask(&asked), Reply::Peers(_)));
    }
    assert!(named() > 0, "two are not enough");
    // over HTTP, from an address of its own
    let report =
        AnnounceRequest { failed, ip: Some(IpAddr::from([127, 0, 0, 3])), ..request(3, 5, None) };
    let target = format!("/announce?{}", report.to_query());
    assert_eq!(get(bed.addr, &target, "").status, 200);
    assert_eq!(named(), 0);
    assert!(bed.get("/metrics").text().contains("beeswarm_tracker_peers_demoted 1\n"));
}
