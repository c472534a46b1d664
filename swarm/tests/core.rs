//! The core through its public interface, one peer at a time.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::{BLOCK_LEN, Block, Geometry, PieceIndex};
use proto::hash::PeerId;
use swarm::core::{
    Action, Check, CloseReason, Control, CoreConfig, Identity, PeerKey, PeerSetup, Priority,
    Receipt, Torrent, Violation,
};

const NOW: Duration = Duration::from_secs(1);
const PEER: PeerKey = PeerKey(1);

fn geometry() -> Geometry {
    Geometry::new(20 * 32_768, 32_768).unwrap()
}

fn setup(number: u8, fast: bool) -> PeerSetup {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
    PeerSetup { identity: Identity { ip, id: PeerId([number; 20]) }, fast, near: true, v2: false }
}

fn torrent(have: Bitfield, config: CoreConfig) -> Torrent {
    Torrent::new(config, geometry(), have, 1)
}

fn actions(torrent: &mut Torrent) -> Vec<Action> {
    std::iter::from_fn(|| torrent.poll()).collect()
}

fn messages(torrent: &mut Torrent, to: PeerKey) -> Vec<Control> {
    let sent = |action| match action {
        Action::Send(key, message) if key == to => Some(message),
        _ => None,
    };
    actions(torrent).into_iter().filter_map(sent).collect()
}

fn requests(torrent: &mut Torrent, to: PeerKey) -> Vec<Block> {
    let block = |message| match message {
        Control::Request(block) => Some(block),
        _ => None,
    };
    messages(torrent, to).into_iter().filter_map(block).collect()
}

fn deliver(torrent: &mut Torrent, from: PeerKey, piece: u32) {
    for begin in [0, BLOCK_LEN] {
        let block = Block { piece: PieceIndex(piece), begin, length: BLOCK_LEN };
        torrent.block(NOW, from, block).unwrap();
    }
}

#[test]
fn two_empty_peers_tell_each_other_what_they_get() {
    let mut torrent = torrent(Bitfield::empty(20), CoreConfig::default());
    let source = PeerKey(2);
    torrent.connected(NOW, PEER, setup(1, true));
    assert_eq!(messages(&mut torrent, PEER), [Control::HaveNone]);
    torrent.message(NOW, PEER, Control::HaveNone).unwrap();
    torrent.connected(NOW, source, setup(2, true));
    torrent.message(NOW, source, Control::HaveAll).unwrap();
    torrent.message(NOW, source, Control::Unchoke).unwrap();
    let first = requests(&mut torrent, source)[0].piece;
    deliver(&mut torrent, source, first.0);
    assert!(actions(&mut torrent).contains(&Action::Verify(first)));
    torrent.checked(NOW, first, Check::Good);
    assert_eq!(
        messages(&mut torrent, PEER),
        [Control::Have(first)],
        "at once: it wants nothing yet"
    );
}

#[test]
fn haves_wait_for_data_to_ride_on_and_are_not_lost() {
    let config = CoreConfig::default();
    let batch = config.have_batch;
    let mut torrent = torrent(Bitfield::from_bytes(&[0x80, 0, 0], 20).unwrap(), config);
    let source = PeerKey(2);
    torrent.connected(NOW, PEER, setup(1, true));
    torrent.message(NOW, PEER, Control::Interested).unwrap();
    torrent.connected(NOW, source, setup(2, true));
    torrent.message(NOW, source, Control::HaveAll).unwrap();
    torrent.message(NOW, source, Control::Unchoke).unwrap();
    for other in 3..6 {
        // with them no piece is rare
        torrent.connected(NOW, PeerKey(other), setup(3, true));
        torrent.message(NOW, PeerKey(other), Control::HaveAll).unwrap();
    }
    let asked = requests(&mut torrent, source);
    let (first, second) = (asked[0].piece, asked[2].piece);
    for piece in [first, second] {
        deliver(&mut torrent, source, piece.0);
        torrent.checked(NOW, piece, Check::Good);
    }
    let all = actions(&mut torrent);
    let told = all.iter().any(|a| matches!(a, Action::Send(PEER, Control::Have(_))));
    assert!(!told, "an interested peer can wait");
    let third = asked[4].piece;
    let request = Control::Request(geometry().block(PieceIndex(0), 0).unwrap());
    torrent.message(NOW, PEER, request).unwrap();
    assert!(torrent.next_upload(NOW, PEER).is_some());
    assert_eq!(messages(&mut torrent, PEER), [Control::Have(first), Control::Have(second)]);
    deliver(&mut torrent, source, third.0);
    torrent.checked(NOW, third, Check::Good);
    torrent.tick(NOW + batch);
    assert_eq!(messages(&mut torrent, PEER), [Control::Have(third)], "nothing to ride on");
}

#[test]
fn what_hardly_anybody_has_is_told_at_once() {
    let config = CoreConfig::default();
    let mut torrent = torrent(Bitfield::from_bytes(&[0x80, 0, 0], 20).unwrap(), config);
    let (source, owner) = (PeerKey(2), PeerKey(3));
    torrent.connected(NOW, PEER, setup(1, true));
    torrent.message(NOW, PEER, Control::Interested).unwrap();
    torrent.connected(NOW, owner, setup(3, true));
    torrent.message(NOW, owner, Control::HaveAll).unwrap();
    torrent.connected(NOW, source, setup(2, true));
    torrent.message(NOW, source, Control::HaveAll).unwrap();
    torrent.message(NOW, source, Control::Unchoke).unwrap();
    let piece = requests(&mut torrent, source)[0].piece;
    deliver(&mut torrent, source, piece.0);
    torrent.checked(NOW, piece, Check::Good);
    let told: Vec<PeerKey> = actions(&mut torrent)
        .iter()
        .filter_map(|action| match action {
            Action::Send(key, Control::Have(_)) => Some(*key),
            _ => None,
        })
        .collect();
    assert_eq!(told, [PEER], "two neighbours have it; who has it can wait to hear");
}

#[test]
fn a_reader_comes_first_and_a_lost_piece_is_wanted_again() {
    let mut torrent = torrent(Bitfield::full(20), CoreConfig::default());
    torrent.connected(NOW, PEER, setup(1, true));
    torrent.message(NOW, PEER, Control::Interested).unwrap();
    let block = geometry().block(PieceIndex(7), 0).unwrap();
    torrent.message(NOW, PEER, Control::Request(block)).unwrap();
    actions(&mut torrent);
    for piece in [3, 7, 11] {
        torrent.lose_piece(NOW, PieceIndex(piece));
    }
    assert_eq!(messages(&mut torrent, PEER), [Control::Reject(block)], "it is not there any more");
    assert!(!torrent.is_done() && torrent.have().count() == 17);
    torrent.want(NOW, 11 * 32_768 + 5, 10);
    torrent.set_priority(NOW, PieceIndex(3), Priority::Skip);
    let source = PeerKey(2);
    torrent.connected(NOW, source, setup(2, true));
    torrent.message(NOW, source, Control::HaveAll).unwrap();
    torrent.message(NOW, source, Control::Unchoke).unwrap();
    let pieces: Vec<u32> = requests(&mut torrent, source).iter().map(|b| b.piece.0).collect();
    assert_eq!(pieces, [11, 11, 7, 7], "the reader's first, the skipped one not at all");
}

#[test]
fn a_choke_is_honoured_with_and_without_the_fast_extension() {
    for fast in [true, false] {
        let mut torrent = torrent(Bitfield::empty(20), CoreConfig::default());
        torrent.connected(NOW, PEER, setup(1, fast));
        torrent.message(NOW, PEER, Control::Bitfield(Bitfield::full(20))).unwrap();
        torrent.message(NOW, PEER, Control::Unchoke).unwrap();
        let asked = requests(&mut torrent, PEER);
        assert_eq!(asked.len(), 16, "the whole window, of the only source");
        torrent.message(NOW, PEER, Control::Choke).unwrap();
        if fast {
            for block in &asked {
                torrent.message(NOW, PEER, Control::Reject(*block)).unwrap();
            }
        } else {
            assert_eq!(
                torrent.message(NOW, PEER, Control::Reject(asked[0])),
                Err(Violation::NotNegotiated)
            );
        }
        let other = PeerKey(2);
        torrent.connected(NOW, other, setup(2, true));
        torrent
            .message(
                NOW,
                other,
                Control::Bitfield({
                    let mut only = Bitfield::empty(20);
                    only.insert(asked[0].piece);
                    only
                }),
            )
            .unwrap();
        torrent.message(NOW, other, Control::Unchoke).unwrap();
        assert_eq!(
            requests(&mut torrent, other).len(),
            2,
            "what was asked of the first is free again"
        );
    }
}

#[test]
fn requests_are_bounded_and_refused_politely() {
    let config = CoreConfig { reqq: 10, ..CoreConfig::default() };
    let mut torrent = torrent(Bitfield::full(20), config);
    torrent.connected(NOW, PEER, setup(1, true));
    let all: Vec<Block> = geometry().indices().map(|p| geometry().block(p, 0).unwrap()).collect();
    torrent.message(NOW, PEER, Control::Request(all[0])).unwrap();
    assert!(messages(&mut torrent, PEER).contains(&Control::Reject(all[0])), "choked");
    torrent.message(NOW, PEER, Control::Interested).unwrap();
    actions(&mut torrent);
    for block in &all {
        torrent.message(NOW, PEER, Control::Request(*block)).unwrap();
    }
    let rejected = messages(&mut torrent, PEER);
    assert_eq!(rejected.len(), 10, "beyond reqq");
    let mut sent = Vec::new();
    loop {
        let turn: Vec<Block> = std::iter::from_fn(|| torrent.next_upload(NOW, PEER)).collect();
        assert!(turn.len() <= 2, "a quantum of 32 KiB at a time");
        turn.iter().for_each(|block| torrent.uploaded(NOW, PEER, *block));
        torrent.look_at_sockets(NOW, |_| 0);
        sent.extend_from_slice(&turn);
        if turn.is_empty() {
            break;
        }
    }
    assert_eq!(sent, all[..10]);
    let far = Block { piece: PieceIndex(99), begin: 0, length: 1 };
    assert_eq!(torrent.message(NOW, PEER, Control::Request(far)), Err(Violation::BadBlock(99)));
}

#[test]
fn silence_frees_requests_after_a_time_that_the_link_sets() {
    let mut all_but_one = Bitfield::full(20);
    all_but_one.remove(PieceIndex(4));
    let mut torrent = torrent(all_but_one, CoreConfig::default());
    let (silent, other) = (PEER, PeerKey(2));
    let mut one = Bitfield::empty(20);
    one.insert(PieceIndex(4));
    for (number, key) in [(1, silent), (2, other)] {
        torrent.connected(NOW, key, setup(number, true));
        torrent.message(NOW, key, Control::Bitfield(one.clone())).unwrap();
    }
    torrent.message(NOW, silent, Control::Unchoke).unwrap();
    assert_eq!(requests(&mut torrent, silent).len(), 2);
    torrent.tick(NOW + Duration::from_secs(10));
    torrent.message(NOW + Duration::from_secs(10), other, Control::Unchoke).unwrap();
    assert_eq!(requests(&mut torrent, other).len(), 2, "end-game, not yet a lapse");
    torrent.tick(NOW + Duration::from_secs(30));
    torrent.tick(NOW + Duration::from_secs(70));
    let gone = Action::Disconnect(silent, CloseReason::Silent);
    assert!(actions(&mut torrent).contains(&gone));
}

#[test]
fn a_block_that_was_given_up_is_kept_and_is_not_asked_for_twice() {
    let mut torrent = torrent(Bitfield::empty(20), CoreConfig::default());
    torrent.connected(NOW, PEER, setup(1, true));
    torrent.message(NOW, PEER, Control::HaveAll).unwrap();
    torrent.message(NOW, PEER, Control::Unchoke).unwrap();
    let asked = requests(&mut torrent, PEER);
    let (late, rest) = asked.split_first().unwrap();
    let later = NOW + Duration::from_secs(30);
    torrent.tick(later);
    assert_eq!(requests(&mut torrent, PEER), [], "it is silent, and all it was asked for is free");
    assert_eq!(torrent.block(later, PEER, *late).unwrap(), Receipt::Keep);
    let again = requests(&mut torrent, PEER);
    assert!(!again.contains(late) && !rest.iter().any(|block| again.contains(block)), "{again:?}");
    for block in rest {
        assert_eq!(torrent.block(later, PEER, *block).unwrap(), Receipt::Keep);
    }
    assert_eq!(torrent.totals().wasted, 0);
}

#[test]
fn blocks_nobody_asked_for_are_wasted_and_then_punished() {
    let mut torrent = torrent(Bitfield::empty(20), CoreConfig::default());
    torrent.connected(NOW, PEER, setup(1, true));
    let block = geometry().block(PieceIndex(0), 0).unwrap();
    for _ in 0..32 {
        assert_eq!(torrent.block(NOW, PEER, block), Ok(Receipt::Waste));
    }
    assert_eq!(torrent.block(NOW, PEER, block), Err(Violation::Unsolicited));
    let odd = Block { begin: 5, ..block };
    assert_eq!(torrent.block(NOW, PEER, odd), Err(Violation::BadBlock(0)));
}

#[test]
fn two_complete_peers_part() {
    let mut torrent = torrent(Bitfield::full(20), CoreConfig::default());
    torrent.connected(NOW, PEER, setup(1, true));
    torrent.message(NOW, PEER, Control::HaveAll).unwrap();
    assert!(actions(&mut torrent).contains(&Action::Disconnect(PEER, CloseReason::BothComplete)));
}

#[test]
fn an_initial_seeder_hides_and_shows_all_when_all_is_seen() {
    let config = CoreConfig { initial_seeding: true, ..CoreConfig::default() };
    let mut torrent = torrent(Bitfield::full(20), config);
    let mut shown = Vec::new();
    for number in 1..=3u8 {
        let key = PeerKey(u32::from(number));
        torrent.connected(NOW, key, setup(number, true));
        torrent.message(NOW, key, Control::HaveNone).unwrap();
        let first = messages(&mut torrent, key);
        assert_eq!(first[0], Control::HaveNone);
        shown.extend(first.into_iter().filter_map(|m| match m {
            Control::Have(piece) => Some(piece),
            _ => None,
        }));
    }
    let distinct: std::collections::BTreeSet<_> = shown.iter().collect();
    assert_eq!(distinct.len(), shown.len(), "each piece to one peer");
    assert!(torrent.is_hiding());
    for piece in geometry().indices().take(19) {
        torrent.message(NOW, PEER, Control::Have(piece)).unwrap();
    }
    torrent.message(NOW, PeerKey(2), Control::Have(PieceIndex(19))).unwrap();
    actions(&mut torrent);
    torrent.tick(NOW);
    assert!(!torrent.is_hiding());
    let third = messages(&mut torrent, PeerKey(3));
    assert!(third.len() >= 20 - 8, "the third peer sees everything now: {}", third.len());
    torrent.connected(NOW, PeerKey(9), setup(9, true));
    assert_eq!(messages(&mut torrent, PeerKey(9)), [Control::HaveAll], "and so does a late one");
}

/// More peers than slots and pieces: a slot must not wait for a peer that has taken all it may.
#[test]
fn a_hiding_seeders_slot_passes_on_with_the_piece() {
    let config = CoreConfig {
        initial_seeding: true,
        upload_slots: 1,
        quantum: 1 << 20,
        ..CoreConfig::default()
    };
    let mut torrent = torrent(Bitfield::full(20), config);
    let keys: Vec<PeerKey> = (1..=30).map(PeerKey).collect();
    let mut shown = Vec::new();
    for (key, number) in keys.iter().zip(1..) {
        torrent.connected(NOW, *key, setup(number, true));
        torrent.message(NOW, *key, Control::HaveNone).unwrap();
        torrent.message(NOW, *key, Control::Interested).unwrap();
    }
    let mut unchoked = Vec::new();
    for action in actions(&mut torrent) {
        match action {
            Action::Send(key, Control::Have(piece)) => shown.push((key, piece)),
            Action::Send(key, Control::Unchoke) => unchoked.push(key),
            _ => {}
        }
    }
    assert_eq!(shown.len(), 20, "each piece to one peer");
    assert_eq!(unchoked, [PEER]);
    for (_, piece) in shown.iter().filter(|(key, _)| *key == PEER) {
        assert!(actions(&mut torrent).is_empty(), "it has something to take");
        for block in (0..2).filter_map(|number| geometry().block(*piece, number)) {
            torrent.message(NOW, PEER, Control::Request(block)).unwrap();
            actions(&mut torrent);
            assert_eq!(torrent.next_upload(NOW, PEER), Some(block));
            torrent.uploaded(NOW, PEER, block);
            torrent.look_at_sockets(NOW, |_| 0);
        }
    }
    let sent = actions(&mut torrent);
    assert!(sent.contains(&Action::Send(PEER, Control::Choke)), "{sent:?}");
    assert!(sent.contains(&Action::Send(PeerKey(2), Control::Unchoke)), "{sent:?}");
}
