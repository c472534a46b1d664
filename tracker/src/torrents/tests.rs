//! The table through its public face, with a clock that the test moves.

use super::shard::EXPIRY_SLACK;
use super::*;
use crate::policy::Named;
use std::collections::HashMap;
use std::time::Duration;

const HASH: InfoHash = InfoHash([7; 20]);

/// An answer with its peers.
struct Told {
    interval: u32,
    peers: Vec<Named>,
}

struct Bed {
    table: Torrents,
    rng: Rng,
    now: Instant,
}

impl Bed {
    fn new(torrents: usize, peers_per_torrent: usize) -> Self {
        let table = Torrents::new(Limits { torrents, peers_per_torrent, peers_per_address: 100 });
        Self { table, rng: Rng::with_seed(1), now: Instant::now() }
    }

    fn announce(&mut self, peer: u8, left: u64, event: Option<Event>) -> Told {
        self.send(&Announce {
            addr: SocketAddr::from(([10, 0, 0, peer], 6881)),
            peer_id: PeerId([peer; 20]),
            left,
            event,
            ..plain()
        })
    }

    fn send(&mut self, announce: &Announce<'_>) -> Told {
        let mut scratch = Scratch::default();
        let answer = self.table.announce(announce, self.now, &mut self.rng, &mut scratch).unwrap();
        Told { interval: answer.interval, peers: scratch.named }
    }

    fn counts(&self) -> (usize, usize, u64) {
        let counts = self.table.counts(&HASH).unwrap();
        (counts.seeds, counts.leechers, counts.completed)
    }
}

fn plain() -> Announce<'static> {
    Announce {
        info_hash: HASH,
        addr: SocketAddr::from(([10, 0, 0, 1], 6881)),
        peer_id: PeerId([1; 20]),
        key: None,
        left: 1,
        event: None,
        want: 30,
        own_family_only: false,
        failed: &[],
    }
}

#[test]
fn a_peer_completes_once() {
    let mut bed = Bed::new(10, 10);
    bed.announce(1, 0, Some(Event::Started));
    assert_eq!(bed.counts(), (1, 0, 0), "a seeder did not complete anything here");
    bed.announce(2, 100, Some(Event::Started));
    assert_eq!(bed.counts(), (1, 1, 0));
    let answer = bed.announce(2, 0, Some(Event::Completed));
    assert_eq!(bed.counts(), (2, 0, 1));
    assert!(answer.peers.is_empty(), "nothing to give each other");
    bed.announce(2, 0, Some(Event::Completed));
    assert_eq!(bed.counts(), (2, 0, 1));
    bed.announce(3, 100, None);
    bed.announce(3, 0, Some(Event::Stopped));
    bed.announce(4, 100, None);
    bed.announce(4, 50, Some(Event::Stopped));
    assert_eq!(bed.counts(), (2, 0, 2), "the one that left with everything");
}

#[test]
fn stopped_removes_at_once_and_asks_for_nothing() {
    let mut bed = Bed::new(10, 10);
    bed.announce(1, 0, None);
    bed.announce(2, 5, None);
    let answer = bed.announce(1, 0, Some(Event::Stopped));
    assert!(answer.peers.is_empty());
    assert_eq!(bed.counts(), (0, 1, 0));
    bed.announce(9, 0, Some(Event::Stopped));
    assert_eq!(bed.counts(), (0, 1, 0));
    assert!(bed.announce(2, 5, None).peers.is_empty());
}

#[test]
fn silence_is_forgotten_after_twice_the_interval() {
    let mut bed = Bed::new(10, 10);
    let interval = bed.announce(1, 100, None).interval;
    bed.now += Duration::from_secs(u64::from(interval) * 2);
    assert_eq!(bed.table.expire(bed.now), 0);
    bed.now += EXPIRY_SLACK;
    assert_eq!(bed.table.expire(bed.now), 1);
    assert_eq!(bed.counts(), (0, 0, 0));
}

#[test]
fn who_wants_no_peers_comes_back_later() {
    let mut bed = Bed::new(10, 10);
    let searching = bed.send(&plain()).interval;
    let content = bed.send(&Announce { want: 0, ..plain() });
    assert!(searching <= 5 && content.interval >= 15, "{searching}, {}", content.interval);
    assert_eq!(bed.counts(), (0, 1, 0), "and is known meanwhile");
    bed.now += Duration::from_secs(u64::from(content.interval) * 2);
    assert_eq!(bed.table.expire(bed.now), 0);
}

#[test]
fn the_oldest_peer_gives_way() {
    let mut bed = Bed::new(10, 3);
    for peer in 1..=5 {
        bed.now += Duration::from_millis(10);
        bed.announce(peer, 100, None);
    }
    let known: HashSet<_> = bed.announce(5, 100, None).peers.iter().map(|p| p.id).collect();
    assert_eq!(known, HashSet::from([PeerId([3; 20]), PeerId([4; 20])]));
}

#[test]
fn the_oldest_torrent_gives_way() {
    let mut bed = Bed::new(3, 10);
    for number in 0..50u8 {
        bed.now += Duration::from_millis(10);
        bed.send(&Announce { info_hash: InfoHash([number; 20]), ..plain() });
    }
    let kept: Vec<_> = bed.table.all().into_iter().map(|(hash, _)| hash.0[0]).collect();
    assert_eq!(kept, [47, 48, 49]);
    bed.table.retain(&HashSet::from([InfoHash([48; 20])]));
    assert_eq!(bed.table.all().len(), 1);
}

#[test]
fn key_and_id_move_a_peer_whose_address_changed() {
    let mut bed = Bed::new(10, 10);
    let mut announce = Announce { key: Some(Key::from_text("77")), ..plain() };
    bed.send(&announce);
    announce.addr = SocketAddr::from(([10, 0, 0, 2], 6881));
    bed.send(&announce);
    assert_eq!(bed.counts(), (0, 1, 0));
    // the same id without the secret moves nobody
    announce.addr = SocketAddr::from(([10, 0, 0, 3], 6881));
    announce.key = Some(Key::from_text("78"));
    bed.send(&announce);
    assert_eq!(bed.counts(), (0, 2, 0));
    // a second address family is a second way to the same peer
    announce.addr = SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 3], 6881));
    bed.send(&announce);
    assert_eq!(bed.counts(), (0, 3, 0));
}

#[test]
fn a_restart_at_the_same_address_replaces_the_peer() {
    let mut bed = Bed::new(10, 10);
    bed.announce(1, 0, None);
    let restarted =
        Announce { peer_id: PeerId([99; 20]), left: 50, event: Some(Event::Started), ..plain() };
    bed.send(&restarted);
    assert_eq!(bed.counts(), (0, 1, 0));
}

#[test]
fn only_a_seeder_with_an_admin_id_is_an_admin() {
    use proto::hash::PeerRole;
    let mut bed = Bed::new(10, 100);
    let admin = |host: u8, left: u64| Announce {
        addr: SocketAddr::from(([10, 0, 1, host], 6881)),
        peer_id: PeerId::new(PeerRole::Admin, [host; 12]),
        left,
        want: 0,
        ..plain()
    };
    bed.send(&admin(1, 0));
    bed.send(&admin(2, 10));
    bed.send(&admin(2, 0));
    for host in 1..=60 {
        bed.announce(host, 100, None);
    }
    let mut times = HashMap::new();
    for host in 1..=60 {
        let peers = bed.announce(host, 100, None).peers;
        assert_eq!(peers.len(), 30);
        peers.iter().for_each(|peer| *times.entry(peer.addr).or_insert(0) += 1);
    }
    let times = |host: u8| times[&SocketAddr::from(([10, 0, 1, host], 6881))];
    assert_eq!(times(1), 60);
    assert!(times(2) < 60, "{}: it has fetched", times(2));
}

/// Who is named by whom, when everybody asks once: how often each.
fn named(
    bed: &mut Bed,
    hosts: std::ops::RangeInclusive<u8>,
    want: usize,
) -> HashMap<SocketAddr, usize> {
    let mut named = HashMap::new();
    for host in hosts {
        let addr = SocketAddr::from(([10, 0, 0, host], 6881));
        let told = bed.send(&Announce { addr, peer_id: PeerId([host; 20]), want, ..plain() });
        told.peers.iter().for_each(|peer| *named.entry(peer.addr).or_default() += 1);
    }
    named
}

fn report(bed: &mut Bed, by: u8, failed: &[SocketAddr]) {
    let addr = SocketAddr::from(([10, 0, 0, by], 6881));
    bed.send(&Announce { addr, peer_id: PeerId([by; 20]), failed, want: 0, ..plain() });
}

fn host(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 6881))
}

#[test]
fn who_cannot_be_reached_is_named_last_and_not_for_ever() {
    let mut bed = Bed::new(10, 1000);
    named(&mut bed, 1..=60, 30);
    for by in [1, 2] {
        report(&mut bed, by, &[host(60)]);
        report(&mut bed, by, &[host(60)]);
    }
    assert!(named(&mut bed, 1..=59, 20).contains_key(&host(60)), "two are not enough");
    report(&mut bed, 3, &[host(60)]);
    assert_eq!(bed.table.demoted(), 1);
    let names = named(&mut bed, 1..=59, 20);
    assert!(!names.contains_key(&host(60)) && names.len() == 59, "{names:?}");
    // where there are no others it is named all the same
    assert!(named(&mut bed, 1..=1, 100).contains_key(&host(60)));
    // it fades, if the peer still announces
    for _ in 0..40 {
        bed.now += Duration::from_secs(4);
        named(&mut bed, 1..=60, 0);
        bed.table.expire(bed.now);
    }
    assert_eq!(bed.table.demoted(), 0);
    assert!(named(&mut bed, 1..=59, 20).contains_key(&host(60)));
}

#[test]
fn liars_who_report_everybody_change_little() {
    let mut bed = Bed::new(10, 1000);
    named(&mut bed, 1..=200, 30);
    let everybody: Vec<SocketAddr> = (1..=200).map(host).collect();
    for _ in 0..50 {
        report(&mut bed, 1, &everybody);
    }
    assert_eq!(bed.table.demoted(), 0, "one liar");
    for by in 1..=3 {
        report(&mut bed, by, &everybody);
    }
    assert!(bed.table.demoted() <= usize::from(reports::BUDGET), "{}", bed.table.demoted());
    for by in 1..=200 {
        for part in everybody.chunks(8) {
            report(&mut bed, by, part);
        }
    }
    assert!(bed.table.demoted() <= 100, "{}: never more than half", bed.table.demoted());
    let names = named(&mut bed, 1..=200, 100);
    assert!(names.len() > 150, "{}: those demoted are still named", names.len());
}

#[test]
fn a_restarted_client_is_not_blamed_for_its_past() {
    let mut bed = Bed::new(10, 1000);
    named(&mut bed, 1..=20, 30);
    (1..=3).for_each(|by| report(&mut bed, by, &[host(9)]));
    assert_eq!(bed.table.demoted(), 1);
    bed.send(&Announce { addr: host(9), peer_id: PeerId([222; 20]), ..plain() });
    assert_eq!(bed.table.demoted(), 0);
    (1..=3).for_each(|by| report(&mut bed, by, &[host(9)]));
    bed.announce(9, 1, Some(Event::Stopped));
    assert_eq!(bed.table.demoted(), 0, "gone");
    // peers of the other family, of oneself, of nobody
    let v6: SocketAddr = "[fd00::1]:1".parse().unwrap();
    bed.send(&Announce { addr: v6, peer_id: PeerId([223; 20]), ..plain() });
    (1..=9).for_each(|by| report(&mut bed, by, &[v6, host(200), host(by)]));
    assert_eq!(bed.table.demoted(), 0);
}

#[test]
fn one_address_has_only_so_many_peers() {
    let mut bed = Bed::new(10, 1000);
    let mut send = |addr: &str, port: u16| {
        let addr = SocketAddr::new(addr.parse().unwrap(), port);
        let mut scratch = Scratch::default();
        let announce = Announce { addr, peer_id: PeerId([7; 20]), ..plain() };
        bed.table.announce(&announce, bed.now, &mut bed.rng, &mut scratch)
    };
    assert!((1..=100).all(|port| send("10.0.0.1", port).is_ok()));
    assert!(send("10.0.0.1", 101).unwrap_err().to_string().contains("peers_per_address"));
    assert!(send("10.0.0.1", 100).is_ok(), "known ones are");
    assert!(send("10.0.0.2", 1).is_ok());
    assert!((1..=200).all(|port| send("127.0.0.1", port).is_ok()), "tests, relays");
}

/// A flood of invented torrents does not push out the one in use.
#[test]
fn a_flood_of_info_hashes_leaves_the_crowd_alone() {
    let mut bed = Bed::new(600, 1000);
    for peer in 1..=20 {
        bed.announce(peer, 1, None);
    }
    for number in 0..50_000u32 {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        bed.send(&Announce { info_hash: InfoHash(hash), ..plain() });
    }
    assert_eq!(bed.counts(), (0, 20, 0));
    let total = bed.table.all().len();
    assert!((500..=608).contains(&total), "{total}");
}
