//! The table through its public face, with a clock that the test moves.

use super::*;

const HASH: InfoHash = InfoHash([7; 20]);

struct Bed {
    table: Torrents,
    rng: Rng,
    now: Instant,
}

impl Bed {
    fn new(torrents: usize, peers_per_torrent: usize) -> Self {
        let table = Torrents::new(Limits { torrents, peers_per_torrent });
        Self { table, rng: Rng::with_seed(1), now: Instant::now() }
    }

    fn announce(&mut self, peer: u8, left: u64, event: Option<Event>) -> Answer {
        self.send(&Announce {
            info_hash: HASH,
            addr: SocketAddr::from(([10, 0, 0, peer], 6881)),
            peer_id: PeerId([peer; 20]),
            key: None,
            left,
            event,
            want: 30,
        })
    }

    fn send(&mut self, announce: &Announce) -> Answer {
        self.table.announce(announce, self.now, &mut self.rng)
    }

    fn counts(&self) -> (usize, usize, u64) {
        let counts = self.table.counts(&HASH).unwrap();
        (counts.seeds, counts.leechers, counts.completed)
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
        bed.send(&Announce {
            info_hash: InfoHash([number; 20]),
            addr: SocketAddr::from(([10, 0, 0, 1], 6881)),
            peer_id: PeerId([1; 20]),
            key: None,
            left: 1,
            event: None,
            want: 30,
        });
    }
    let kept: Vec<_> = bed.table.all().into_iter().map(|(hash, _)| hash.0[0]).collect();
    assert_eq!(kept, [47, 48, 49]);
    bed.table.retain(&HashSet::from([InfoHash([48; 20])]));
    assert_eq!(bed.table.all().len(), 1);
}

#[test]
fn key_and_id_move_a_peer_whose_address_changed() {
    let mut bed = Bed::new(10, 10);
    let mut announce = Announce {
        info_hash: HASH,
        addr: SocketAddr::from(([10, 0, 0, 1], 6881)),
        peer_id: PeerId([1; 20]),
        key: Some("77".into()),
        left: 1,
        event: None,
        want: 30,
    };
    bed.send(&announce);
    announce.addr = SocketAddr::from(([10, 0, 0, 2], 6881));
    bed.send(&announce);
    assert_eq!(bed.counts(), (0, 1, 0));
    // the same id without the secret moves nobody
    announce.addr = SocketAddr::from(([10, 0, 0, 3], 6881));
    announce.key = Some("78".into());
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
    let restarted = Announce {
        info_hash: HASH,
        addr: SocketAddr::from(([10, 0, 0, 1], 6881)),
        peer_id: PeerId([99; 20]),
        key: None,
        left: 50,
        event: Some(Event::Started),
        want: 30,
    };
    bed.send(&restarted);
    assert_eq!(bed.counts(), (0, 1, 0));
}

#[test]
fn only_a_seeder_with_an_admin_id_is_an_admin() {
    use proto::hash::PeerRole;
    let mut bed = Bed::new(10, 100);
    let admin = |host: u8, left: u64| Announce {
        info_hash: HASH,
        addr: SocketAddr::from(([10, 0, 1, host], 6881)),
        peer_id: PeerId::new(PeerRole::Admin, [host; 12]),
        key: None,
        left,
        event: None,
        want: 0,
    };
    bed.send(&admin(1, 0));
    bed.send(&admin(2, 10));
    bed.send(&admin(2, 0));
    for host in 1..=60 {
        bed.announce(host, 100, None);
    }
    for host in 1..=60 {
        let peers = bed.announce(host, 100, None).peers;
        assert_eq!(peers.len(), 30);
        assert_eq!(peers.iter().filter(|p| p.admin()).count(), 1);
    }
}
