//! What is shown to whom, and until when.

use super::*;

const SEC: fn(u64) -> Duration = Duration::from_secs;

fn ip(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

fn setup(pieces: u32, peers: u32) -> (Reveal, fastrand::Rng) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut reveal = Reveal::new(pieces, 4, &mut rng);
    for key in 0..peers {
        assert!(reveal.join(PeerKey(key), ip(key), SEC(0), &mut rng));
    }
    (reveal, rng)
}

fn show_all(reveal: &mut Reveal, peer: u32, crowd: usize) -> Vec<u32> {
    let none = Bitfield::empty(reveal.pieces);
    std::iter::from_fn(|| reveal.next(PeerKey(peer), &none, crowd, 0, SEC(0)).map(|p| p.0))
        .collect()
}

#[test]
fn each_piece_is_shown_once() {
    let (mut reveal, _) = setup(100, 5);
    let mut shown: Vec<u32> = (0..5).flat_map(|peer| show_all(&mut reveal, peer, 5)).collect();
    assert_eq!(shown.len(), 20, "four per peer");
    shown.sort_unstable();
    shown.dedup();
    assert_eq!(shown.len(), 20, "no piece twice");
}

#[test]
fn a_have_opens_the_next_and_hidden_pieces_are_refused() {
    let (mut reveal, _) = setup(100, 5);
    let first = show_all(&mut reveal, 0, 5);
    assert!(reveal.may_request(PeerKey(0), PieceIndex(first[0])));
    assert!(!reveal.may_request(PeerKey(1), PieceIndex(first[0])));
    reveal.seen(PeerKey(0), PieceIndex(first[0]), SEC(1));
    assert_eq!(show_all(&mut reveal, 0, 5).len(), 1);
}

#[test]
fn pieces_of_a_gone_peer_come_back() {
    let (mut reveal, mut rng) = setup(8, 2);
    let first = show_all(&mut reveal, 0, 2);
    assert_eq!(first.len(), 8, "twice as many while there are only two peers");
    assert!(show_all(&mut reveal, 1, 2).is_empty());
    reveal.leave(PeerKey(0), |p| p.0 == first[3], &Bitfield::empty(8), SEC(1), &mut rng);
    let mut second = show_all(&mut reveal, 1, 2);
    second.push(first[3]);
    second.sort_unstable();
    assert_eq!(second, (0..8).collect::<Vec<_>>());
}

#[test]
fn silence_ends_hiding_in_the_end() {
    let (mut reveal, mut rng) = setup(4, 3);
    let held = show_all(&mut reveal, 0, 3);
    assert_eq!(held.len(), 1);
    reveal.idle_turn(PeerKey(0), |_| false, &mut rng);
    assert_eq!(reveal.pool.len(), 3);
    reveal.idle_turn(PeerKey(0), |_| false, &mut rng);
    assert_eq!(reveal.pool.len(), 4, "a peer that never asks loses its pieces");
    assert!(!reveal.should_finish(false, true, 3, SEC(10), SEC(9)));
    assert!(reveal.should_finish(false, true, 3, SEC(10), SEC(10)));
    assert_eq!(reveal.finish().len(), 3);
    assert!(!reveal.join(PeerKey(9), ip(9), SEC(11), &mut rng), "late joiners see everything");
}

#[test]
fn an_idle_uplink_with_nothing_to_show_ends_hiding() {
    let (mut reveal, _) = setup(4, 2);
    assert!(!reveal.should_finish(false, false, 2, SEC(10), SEC(1)), "there is more to show");
    assert_eq!(show_all(&mut reveal, 0, 2).len(), 4);
    assert!(!reveal.should_finish(false, true, 2, SEC(10), SEC(2)));
    assert!(!reveal.should_finish(false, false, 2, SEC(10), SEC(3)));
    assert!(reveal.should_finish(false, false, 2, SEC(10), SEC(4)));
}

#[test]
fn hiding_ends_where_nobody_gives_anything_to_others() {
    let half_a_second = Duration::from_millis(500);
    for relayed in [false, true] {
        let (mut reveal, _) = setup(4, 4);
        reveal.set_round(Duration::from_millis(100));
        for peer in 0..4 {
            for piece in show_all(&mut reveal, peer, 4) {
                reveal.sent(PeerKey(peer), PieceIndex(piece), 100, 100, SEC(1));
                reveal.seen(PeerKey(peer), PieceIndex(piece), SEC(1));
                if relayed {
                    reveal.seen(PeerKey((peer + 1) % 4), PieceIndex(piece), SEC(1));
                }
            }
        }
        assert!(reveal.in_pool.is_empty());
        assert!(!reveal.should_finish(true, false, 4, SEC(10), SEC(1)), "it may be on its way");
        let over = reveal.should_finish(true, false, 4, SEC(10), SEC(1) + half_a_second);
        assert_eq!(over, !relayed);
    }
}

#[test]
fn a_new_crowd_is_steered_again() {
    let (mut reveal, mut rng) = setup(4, 1);
    reveal.finish();
    reveal.crowd_gone(SEC(100));
    assert!(!reveal.join(PeerKey(5), ip(5), SEC(110), &mut rng));
    reveal.crowd_gone(SEC(120));
    assert!(reveal.join(PeerKey(6), ip(6), SEC(150), &mut rng));
}

#[test]
fn what_was_sent_whole_makes_room_and_comes_back_when_nobody_shows_it() {
    let (mut reveal, mut rng) = setup(100, 5);
    let first = show_all(&mut reveal, 0, 5);
    assert!(!reveal.sent(PeerKey(0), PieceIndex(first[0]), 60, 100, SEC(1)));
    assert!(show_all(&mut reveal, 0, 5).is_empty());
    assert!(reveal.sent(PeerKey(0), PieceIndex(first[0]), 40, 100, SEC(1)));
    assert_eq!(show_all(&mut reveal, 0, 5).len(), 1);
    assert!(!reveal.in_pool.has(PieceIndex(first[0])));
    reveal.tick(SEC(15), |_| true, |_| false, |_| Vec::new(), &mut rng);
    assert!(!reveal.in_pool.has(PieceIndex(first[0])));
    reveal.tick(SEC(16), |_| true, |_| false, |_| Vec::new(), &mut rng);
    assert!(reveal.in_pool.has(PieceIndex(first[0])), "nobody said that it has it");
}

#[test]
fn a_slow_uplink_is_given_time_for_everybody() {
    let (mut reveal, mut rng) = setup(100, 5);
    reveal.set_round(SEC(10));
    let piece = PieceIndex(show_all(&mut reveal, 0, 5)[0]);
    reveal.sent(PeerKey(0), piece, 100, 100, SEC(1));
    reveal.tick(SEC(35), |_| true, |_| false, |_| Vec::new(), &mut rng);
    assert!(!reveal.in_pool.has(piece), "it may still be in the queue of the link");
    reveal.tick(SEC(36), |_| true, |_| false, |_| Vec::new(), &mut rng);
    assert!(reveal.in_pool.has(piece));
    assert!(reveal.stalled(SEC(21)).is_empty(), "nobody's first piece need be there yet");
    assert_eq!(reveal.stalled(SEC(22)).len(), 4, "all but the one with pieces to take");
}

/// Peers 0 to 3 of five gain a piece every 100 ms each, peer 4 one a second.
fn with_a_slow_one(millis: u64) -> (Reveal, fastrand::Rng) {
    let (mut reveal, mut rng) = setup(200, 5);
    for ms in (0..millis).step_by(100) {
        let (now, piece) = (Duration::from_millis(ms), u32::try_from(ms / 100).unwrap());
        let peers = if ms % 1000 == 0 { 5 } else { 4 };
        (0..peers).for_each(|peer| reveal.seen(PeerKey(peer), PieceIndex(piece), now));
        reveal.tick(now, |_| true, |_| false, |_| Vec::new(), &mut rng);
    }
    (reveal, rng)
}

#[test]
fn what_a_slow_peer_alone_has_is_shown_again_at_the_end() {
    let (mut reveal, mut rng) = with_a_slow_one(4_000);
    let on_its_way = show_all(&mut reveal, 4, 5);
    let on_its_way = PieceIndex(on_its_way[0]);
    assert!(reveal.sent(PeerKey(4), on_its_way, 1, 1, SEC(4)));
    let arrived = PieceIndex(0);
    let only_at = |peer| if peer == PeerKey(4) { vec![arrived] } else { vec![PieceIndex(1)] };
    reveal.tick(SEC(4), |_| true, |_| false, only_at, &mut rng);
    assert!(!reveal.in_pool.has(arrived), "others are shown what nobody has first");
    while !reveal.in_pool.is_empty() {
        for piece in show_all(&mut reveal, 1, 5) {
            reveal.sent(PeerKey(1), PieceIndex(piece), 1, 1, SEC(4));
        }
    }
    reveal.tick(SEC(4), |_| true, |_| false, only_at, &mut rng);
    let mut again = reveal.in_pool.iter().collect::<Vec<_>>();
    again.sort();
    assert_eq!(again, [arrived, on_its_way], "not what a quick one has");
    let shown = show_all(&mut reveal, 0, 5);
    assert_eq!(shown.len(), 2);
    reveal.tick(SEC(4), |_| true, |_| false, only_at, &mut rng);
    assert!(reveal.in_pool.is_empty(), "once is enough");
}

#[test]
fn a_slow_peer_is_shown_one_piece_at_a_time_and_loses_it_at_the_end() {
    let (mut reveal, mut rng) = with_a_slow_one(1_500);
    assert_eq!(show_all(&mut reveal, 4, 5).len(), 4, "not judged yet");
    let (mut reveal, _) = with_a_slow_one(4_000);
    let held = show_all(&mut reveal, 4, 5);
    assert_eq!(held.len(), 1);
    let fast = show_all(&mut reveal, 0, 5);
    assert_eq!(fast.len(), 4);
    // the others take the rest
    while !reveal.in_pool.is_empty() {
        for piece in show_all(&mut reveal, 1, 5) {
            reveal.sent(PeerKey(1), PieceIndex(piece), 1, 1, SEC(4));
        }
    }
    reveal.tick(SEC(4), |_| true, |_| false, |_| Vec::new(), &mut rng);
    assert_eq!(show_all(&mut reveal, 1, 5), held, "what the slow one has not taken");
    assert!(!is_shown_more(&mut reveal, 4));
}

fn is_shown_more(reveal: &mut Reveal, peer: u32) -> bool {
    !show_all(reveal, peer, 5).is_empty()
}

#[test]
fn a_newcomer_is_not_slow() {
    let (mut reveal, mut rng) = with_a_slow_one(4_000);
    reveal.join(PeerKey(9), ip(9), SEC(4), &mut rng);
    for piece in 0..10 {
        let now = SEC(4) + Duration::from_millis(200) * piece;
        reveal.seen(PeerKey(9), PieceIndex(piece), now);
        reveal.tick(now, |_| true, |_| false, |_| Vec::new(), &mut rng);
    }
    reveal.tick(SEC(6), |_| true, |_| false, |_| Vec::new(), &mut rng);
    assert_eq!(show_all(&mut reveal, 9, 6).len(), 4);
}

#[test]
fn with_others_everything_stays_hidden_until_a_peer_stalls() {
    let (mut reveal, mut rng) = setup(4, 3);
    for peer in [0, 1, 2, 0] {
        for piece in show_all(&mut reveal, peer, 3) {
            reveal.sent(PeerKey(peer), PieceIndex(piece), 1, 1, SEC(1));
            reveal.seen(PeerKey(peer), PieceIndex(piece), SEC(1));
        }
    }
    assert!(reveal.in_pool.is_empty());
    assert!(!reveal.should_finish(true, false, 3, SEC(10), SEC(2)), "they have each other");
    assert!(reveal.stalled(SEC(2)).is_empty());
    reveal.seen(PeerKey(1), PieceIndex(0), SEC(3));
    let stalled: Vec<PeerKey> = reveal.stalled(SEC(3)).into_iter().map(|(key, _)| key).collect();
    assert_eq!(stalled, [PeerKey(0), PeerKey(2)]);
    assert!(reveal.may_request(PeerKey(0), PieceIndex(3)));
    // a newcomer waits for the others, if there are any
    assert!(reveal.join(PeerKey(7), ip(7), SEC(3), &mut rng));
    assert!(!reveal.may_request(PeerKey(7), PieceIndex(3)));
    assert!(reveal.should_finish(true, false, 1, SEC(10), SEC(4)), "alone with the seeder");
    reveal.graduated(ip(0), SEC(4));
    assert!(!reveal.should_finish(true, false, 1, SEC(10), SEC(4)), "who is complete serves");
}

#[test]
fn who_was_complete_and_comes_back_with_nothing_is_no_source() {
    let begin = || {
        let (mut reveal, rng) = setup(4, 1);
        assert_eq!(show_all(&mut reveal, 0, 1).len(), 4);
        (0..4).for_each(|piece| reveal.seen(PeerKey(0), PieceIndex(piece), SEC(1)));
        reveal.graduated(ip(0), SEC(1));
        reveal.crowd_gone(SEC(1));
        (reveal, rng)
    };
    let (mut reveal, mut rng) = begin();
    assert!(reveal.join(PeerKey(1), ip(1), SEC(2), &mut rng));
    assert!(show_all(&mut reveal, 1, 1).is_empty(), "another one gets it from the first");
    let (mut reveal, mut rng) = begin();
    assert!(reveal.join(PeerKey(2), ip(0), SEC(2), &mut rng));
    assert_eq!(show_all(&mut reveal, 2, 1).len(), 4, "it has booted again");
    let (mut reveal, mut rng) = begin();
    reveal.graduated(ip(9), SEC(2));
    assert!(reveal.join(PeerKey(2), ip(0), SEC(3), &mut rng));
    assert!(show_all(&mut reveal, 2, 1).is_empty(), "there is one more that has it");
}
