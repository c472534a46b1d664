//! What peer choice promises, with a fixed seed of randomness.

use super::*;
use crate::torrents::peer::Peer;
use proto::hash::PeerRole;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

const LIFE: Duration = Duration::from_secs(60);

fn id(role: PeerRole, number: usize) -> PeerId {
    let digit = |place: usize| u8::try_from(number / place % 32).unwrap();
    let mut random = [0u8; 12];
    random[..4].copy_from_slice(&[digit(1), digit(32), digit(1024), digit(32 * 1024)]);
    PeerId::new(role, random)
}

fn addr(number: usize) -> SocketAddr {
    let [.., b, c] = u32::try_from(number).unwrap().to_be_bytes();
    SocketAddr::from(([10, 0, b, c], 6881))
}

fn addr6(number: usize) -> SocketAddr {
    let number = u16::try_from(number).unwrap();
    SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, number], 6881))
}

fn peer(addr: SocketAddr, id: PeerId, left: u64, now: Instant) -> Peer {
    Peer { addr, id, key: None, complete: left == 0, seed_from_start: left == 0, heard: now }
}

fn asker(peer: &Peer) -> Asker {
    Asker { addr: peer.addr, id: peer.id, complete: peer.complete, own_family_only: false }
}

/// [`choose`] with room of its own.
fn pick(swarm: &mut Swarm, asker: &Asker, want: usize, now: Instant, rng: &mut Rng) -> Vec<Peer> {
    let mut scratch = Scratch::default();
    choose(swarm, asker, want, now, rng, &mut scratch);
    let peer = |named: &Named| *swarm.peer(swarm.find(&named.addr).unwrap());
    scratch.named.iter().map(peer).collect()
}

#[test]
fn never_self_no_duplicates_never_more_than_wanted() {
    let mut rng = Rng::with_seed(1);
    let now = Instant::now();
    for round in 0..400 {
        let mut swarm = Swarm::new(now);
        let mut all = Vec::new();
        for number in 1..=rng.usize(1..250) {
            let role = if rng.u8(..10) == 0 { PeerRole::Admin } else { PeerRole::Node };
            let at = if rng.bool() { addr(number) } else { addr6(number) };
            let left = if rng.bool() { 0 } else { 1000 };
            let peer = peer(at, id(role, number), left, now);
            swarm.put(peer, now, LIFE);
            all.push(peer);
        }
        let me = asker(&all[rng.usize(..all.len())]);
        let want = rng.usize(..150);
        let chosen = pick(&mut swarm, &me, want, now, &mut rng);
        assert!(chosen.len() <= want.min(MAX_WANT), "round {round}");
        let distinct: HashSet<_> = chosen.iter().map(|p| p.addr).collect();
        assert_eq!(distinct.len(), chosen.len(), "round {round}");
        assert!(chosen.iter().all(|p| p.addr != me.addr && p.id != me.id), "round {round}");
        if me.complete {
            assert!(chosen.iter().all(|p| !p.complete), "round {round}");
        }
        let admins = all.iter().filter(|p| p.admin() && p.id != me.id).count();
        let named = chosen.iter().filter(|p| p.admin()).count();
        if me.complete {
            assert_eq!(named, 0, "round {round}");
        } else {
            assert_eq!(named, admins.min(ADMINS).min(want), "round {round}");
        }
        let others =
            all.iter().filter(|p| p.id != me.id && !p.admin() && !(me.complete && p.complete));
        let expected = (others.count() + named).min(want).min(MAX_WANT);
        assert_eq!(chosen.len(), expected, "round {round}: as many as there are");
    }
}

/// Hand-outs per peer while `count` nodes arrive one after another and then all ask again `rounds` times.
fn in_degrees(count: usize, rounds: usize, seed: u64) -> HashMap<SocketAddr, usize> {
    let mut rng = Rng::with_seed(seed);
    let start = Instant::now();
    let mut now = start;
    let mut swarm = Swarm::new(now);
    swarm.put(peer(addr(60_000), id(PeerRole::Admin, 60_000), 0, start), now, LIFE);
    let mut degrees: HashMap<_, _> = (1..=count).map(|n| (addr(n), 0)).collect();
    for round in 0..=rounds {
        let mut order: Vec<usize> = (1..=count).collect();
        if round > 0 {
            rng.shuffle(&mut order);
        }
        for number in order {
            now += Duration::from_millis(4000 / u64::try_from(count).unwrap());
            let me = peer(addr(number), id(PeerRole::Node, number), 1000, now);
            if round == 0 {
                swarm.put(me, now, LIFE);
            }
            for other in pick(&mut swarm, &asker(&me), DEFAULT_WANT, now, &mut rng) {
                if !other.admin() {
                    *degrees.get_mut(&other.addr).unwrap() += 1;
                }
            }
        }
    }
    degrees
}

#[test]
fn no_peer_is_named_more_than_twice_the_mean() {
    for seed in 0..5 {
        for rounds in [0, 4] {
            let degrees = in_degrees(300, rounds, seed);
            let mean = degrees.values().sum::<usize>() as f64 / degrees.len() as f64;
            let max = *degrees.values().max().unwrap() as f64;
            let min = *degrees.values().min().unwrap() as f64;
            assert!(max <= 2.0 * mean, "seed {seed}, {rounds} rounds: max {max}, mean {mean}");
            if rounds > 0 {
                assert!(min >= 0.5 * mean, "seed {seed}: min {min}, mean {mean}");
            }
        }
    }
}

#[test]
fn a_newcomer_to_an_old_swarm_is_not_the_only_answer() {
    let mut rng = Rng::with_seed(3);
    let start = Instant::now();
    let now = start;
    let mut swarm = Swarm::new(now);
    let later = start + Duration::from_secs(50);
    for number in 1..=100 {
        let old = peer(addr(number), id(PeerRole::Node, number), 1000, start);
        let slot = swarm.put(old, now, LIFE);
        let weight = swarm.weight(start);
        (0..1000).for_each(|_| swarm.hand_out(slot, weight));
    }
    swarm.put(peer(addr(101), id(PeerRole::Node, 101), 1000, later), now, LIFE);
    let mut named = 0;
    for number in 1..=100 {
        let me = peer(addr(number), id(PeerRole::Node, number), 1000, later);
        let chosen = pick(&mut swarm, &asker(&me), DEFAULT_WANT, later, &mut rng);
        assert_eq!(chosen.len(), DEFAULT_WANT);
        named += chosen.iter().filter(|p| p.addr == addr(101)).count();
    }
    assert!((20..=100).contains(&named), "{named}");
}

#[test]
fn own_family_comes_first() {
    let mut rng = Rng::with_seed(4);
    let now = Instant::now();
    let mut swarm = Swarm::new(now);
    for number in 1..=20 {
        swarm.put(peer(addr(number), id(PeerRole::Node, number), 1000, now), now, LIFE);
        swarm.put(peer(addr6(number), id(PeerRole::Node, 100 + number), 1000, now), now, LIFE);
    }
    let me = asker(&peer(addr6(500), id(PeerRole::Node, 500), 1, now));
    let chosen = pick(&mut swarm, &me, 20, now, &mut rng);
    assert!(chosen.iter().all(|p| p.addr.is_ipv6()));
    assert_eq!(pick(&mut swarm, &me, 30, now, &mut rng).len(), 30);
    let only = Asker { own_family_only: true, ..me };
    assert_eq!(pick(&mut swarm, &only, 30, now, &mut rng).len(), 20);
}

#[test]
fn expired_peers_are_not_named() {
    let mut rng = Rng::with_seed(5);
    let now = Instant::now();
    let mut swarm = Swarm::new(now);
    swarm.put(peer(addr(1), id(PeerRole::Node, 1), 1000, now), now, LIFE);
    swarm.put(peer(addr(2), id(PeerRole::Admin, 2), 0, now), now, LIFE);
    let me = asker(&peer(addr(3), id(PeerRole::Node, 3), 1, now));
    assert_eq!(pick(&mut swarm, &me, 30, now, &mut rng).len(), 2);
    let later = now + Duration::from_secs(61);
    assert_eq!(swarm.expire(later), 2);
    assert!(swarm.is_empty());
    assert!(pick(&mut swarm, &me, 30, later, &mut rng).is_empty());
}

#[test]
fn intervals_follow_the_crowd() {
    let mut rng = Rng::with_seed(6);
    let mut seen = HashSet::new();
    for _ in 0..200 {
        assert!((60..=90).contains(&interval(0, false, &mut rng)));
        assert!((15..=30).contains(&interval(1, false, &mut rng)));
        let crowd = interval(400, true, &mut rng);
        assert!((3..=5).contains(&crowd));
        seen.insert(crowd);
        assert!((20..=22).contains(&interval(50_000, true, &mut rng)));
    }
    assert_eq!(seen.len(), 3, "jitter");
}

/// Who was told of whom, while `sizes` peers per subnet arrive in turn and then all ask again.
fn told_across(sizes: &[usize], want: usize, seed: u64) -> Vec<(SocketAddr, SocketAddr)> {
    let mut rng = Rng::with_seed(seed);
    let mut now = Instant::now();
    let mut swarm = Swarm::new(now);
    let mut all = Vec::new();
    for (subnet, size) in (0u8..).zip(sizes) {
        for host in 0..*size {
            let host = u8::try_from(host).unwrap();
            let addr = SocketAddr::from(([10, 0, subnet, host], 6881));
            all.push(peer(addr, id(PeerRole::Node, all.len()), 1000, now));
        }
    }
    let mut told = Vec::new();
    for round in 0..4 {
        rng.shuffle(&mut all);
        for me in &all {
            now += Duration::from_millis(10);
            if round == 0 {
                swarm.put(*me, now, LIFE);
            }
            let chosen = pick(&mut swarm, &asker(me), want, now, &mut rng);
            told.extend(chosen.iter().map(|other| (me.addr, other.addr)));
        }
    }
    told
}

#[test]
fn most_are_of_the_own_subnet_and_nobody_is_named_too_often() {
    let subnet = |addr: SocketAddr| Subnet::of(&addr);
    for (seed, sizes) in [(1, vec![150, 150]), (2, vec![250, 50]), (3, vec![100, 100, 100])] {
        let told = told_across(&sizes, DEFAULT_WANT, seed);
        let near = told.iter().filter(|(me, other)| subnet(*me) == subnet(*other)).count();
        assert!(near * 10 >= told.len() * 7, "{sizes:?}: {near} of {}", told.len());
        assert!(near * 20 <= told.len() * 19, "{sizes:?}: {near} of {}", told.len());
        let mut degrees: HashMap<SocketAddr, usize> = HashMap::new();
        told.iter().for_each(|(_, other)| *degrees.entry(*other).or_default() += 1);
        let mean = told.len() as f64 / 300.0;
        let max = *degrees.values().max().unwrap() as f64;
        assert!(max <= 2.0 * mean, "{sizes:?}: max {max}, mean {mean}");
        assert_eq!(degrees.len(), 300, "{sizes:?}: everybody is named");
    }
}

#[test]
fn subnets_are_not_cut_off_from_each_other() {
    for seed in 0..5 {
        // small answers, and a subnet of one
        let told = told_across(&[100, 60, 7, 1], 10, seed);
        let mut reached: HashSet<SocketAddr> = HashSet::from([told[0].0]);
        loop {
            let before = reached.len();
            for (a, b) in &told {
                if reached.contains(a) || reached.contains(b) {
                    reached.extend([*a, *b]);
                }
            }
            if reached.len() == before {
                break;
            }
        }
        assert_eq!(reached.len(), 168, "seed {seed}");
        let across = told.iter().filter(|(a, b)| Subnet::of(a) != Subnet::of(b)).count();
        assert!(across * 20 >= told.len(), "seed {seed}: {across} of {}", told.len());
    }
}
