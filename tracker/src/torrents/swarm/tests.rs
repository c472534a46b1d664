//! Lists and slots agree after anything.

use super::*;

fn peer(number: u16, complete: bool, now: Instant) -> Peer {
    let [high, low] = number.to_be_bytes();
    let addr = if number.is_multiple_of(5) {
        SocketAddr::from(([0xfd00, 0, 0, number % 7, 0, 0, 0, number], 6881))
    } else {
        SocketAddr::from(([10, 0, high, low % 16], 1 + number))
    };
    let id = PeerId([low; 20]);
    let key = number.is_multiple_of(3).then(|| Key::from_text("77"));
    Peer { addr, id, key, complete, seed_from_start: complete, heard: now }
}

fn check(swarm: &Swarm) {
    let mut seen = 0;
    for (index, list) in swarm.classes.iter().enumerate() {
        for (position, slot) in list.iter().enumerate() {
            let cold = &swarm.cold[at(*slot)];
            assert_eq!((at(cold.class_at), Class::of(&cold.peer).index()), (position, index));
            assert_eq!(swarm.index[&cold.peer.addr], *slot);
            let members = &swarm.subnets[&Subnet::of(&cold.peer.addr)];
            assert_eq!(members[at(cold.subnet_at)], *slot);
            assert!(swarm.hot[at(*slot)].used);
            assert_eq!(swarm.hot[at(*slot)].complete, cold.peer.complete);
            seen += 1;
        }
    }
    assert_eq!(seen, swarm.len());
    assert_eq!(seen, swarm.subnets.values().map(Vec::len).sum::<usize>());
    assert_eq!(seen, swarm.addresses.values().map(|n| at(*n)).sum::<usize>());
    assert_eq!(seen + swarm.free.len(), swarm.hot.len());
    for (identity, slot) in &swarm.identities {
        assert_eq!(super::identity(&swarm.cold[at(*slot)].peer), Some(*identity));
    }
}

#[test]
fn any_order_of_comings_changes_and_goings() {
    let mut rng = Rng::with_seed(1);
    let now = Instant::now();
    let mut swarm = Swarm::new(now);
    for step in 0..5000u64 {
        let one = peer(rng.u16(..300), rng.bool(), now);
        match rng.u8(..10) {
            0..6 => drop(swarm.put(one, now, Duration::from_secs(rng.u64(1..100)))),
            6..8 => drop(swarm.find(&one.addr).map(|slot| swarm.remove(slot))),
            8 => swarm.remove_old(&mut rng),
            _ => drop(swarm.expire(now + Duration::from_secs(rng.u64(..60)))),
        }
        if step % 50 == 0 {
            check(&swarm);
        }
    }
    check(&swarm);
    while !swarm.is_empty() {
        swarm.remove_old(&mut rng);
    }
    check(&swarm);
}

#[test]
fn loads_are_comparable_over_hours() {
    let start = Instant::now();
    let mut swarm = Swarm::new(start);
    let life = Duration::from_secs(1 << 20);
    let [old, new] = [1, 2].map(|n| swarm.put(peer(n, false, start), start, life));
    let mut now = start;
    for _ in 0..50 {
        for _ in 0..8 {
            let weight = swarm.weight(now);
            swarm.hand_out(old, weight);
        }
        now += LOAD_HALF_LIFE;
        let weight = swarm.weight(now);
        (0..5).for_each(|_| swarm.hand_out(new, weight));
        let (a, b) = (swarm.hot(old).load, swarm.hot(new).load);
        assert!(a.is_finite() && b.is_finite() && a > 0.0 && b > 0.0, "{a} {b}");
        // 8 hand-outs each half-life before, and 5 each just now: 8 against 10 in the long run
        assert!(b > a, "{a} {b}");
        now += Duration::from_secs(97);
    }
    let share = |swarm: &Swarm| swarm.hot(old).load / swarm.hot(new).load;
    let before = share(&swarm);
    swarm.weight(now + REBASE);
    assert!((share(&swarm) - before).abs() < 1e-2, "rebasing changes no order");
}

#[test]
fn as_many_admins_as_are_believed() {
    use proto::hash::PeerRole;
    let now = Instant::now();
    let mut swarm = Swarm::new(now);
    for number in 0..200u8 {
        let id = PeerId::new(PeerRole::Admin, [number; 12]);
        let addr = SocketAddr::from(([10, 1, 1, number], 1));
        swarm.put(Peer { addr, id, ..peer(1, true, now) }, now, Duration::from_secs(9));
    }
    assert_eq!(swarm.admins().len(), MAX_ADMINS);
    assert_eq!(swarm.len(), 200);
}
