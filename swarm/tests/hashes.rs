//! Wrong pieces of hybrid torrents in the core: whom it asks for the digests of blocks (BEP 52), and what
//! it does with the answer.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proto::bitfield::Bitfield;
use proto::geometry::{Block, Geometry, PieceIndex};
use proto::hash::PeerId;
use swarm::core::{
    Action, Check, CloseReason, Control, CoreConfig, Identity, PeerKey, PeerSetup, Torrent,
};

const NOW: Duration = Duration::from_secs(1);
const PIECE: PieceIndex = PieceIndex(0);
const LIAR: PeerKey = PeerKey(1);
const HELPER: PeerKey = PeerKey(2);
const WITNESS: PeerKey = PeerKey(3);

fn geometry() -> Geometry {
    Geometry::new(65_536, 65_536).unwrap()
}

fn identity(key: PeerKey) -> Identity {
    let number = u8::try_from(key.0).unwrap();
    let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
    Identity { ip, id: PeerId([number; 20]) }
}

fn block(number: u32) -> Block {
    geometry().block(PIECE, number).unwrap()
}

/// One piece of four blocks: the third came from [`LIAR`], the others from [`HELPER`]. `v2`: who speaks
/// BEP 52.
fn delivered(ask_hashes: bool, v2: &[PeerKey]) -> Torrent {
    let config = CoreConfig { ask_hashes, ..CoreConfig::default() };
    let mut torrent = Torrent::new(config, geometry(), Bitfield::empty(1), 1);
    for key in [LIAR, HELPER, WITNESS] {
        let (identity, v2) = (identity(key), v2.contains(&key));
        torrent.connected(NOW, key, PeerSetup { identity, fast: true, near: true, v2 });
        torrent.message(NOW, key, Control::HaveAll).unwrap();
    }
    // each peer is asked in turn, and gives back what it does not deliver
    for (key, numbers) in [(LIAR, vec![2]), (HELPER, vec![0, 1, 3])] {
        torrent.message(NOW, key, Control::Unchoke).unwrap();
        for number in numbers {
            torrent.block(NOW, key, block(number)).unwrap();
        }
        torrent.message(NOW, key, Control::Choke).unwrap();
        for number in 0..4 {
            torrent.message(NOW, key, Control::Reject(block(number))).unwrap();
        }
    }
    assert!(actions(&mut torrent).contains(&Action::Verify(PIECE)));
    torrent
}

fn actions(torrent: &mut Torrent) -> Vec<Action> {
    std::iter::from_fn(|| torrent.poll()).collect()
}

/// Whom it asked, if anybody.
fn asked(actions: &[Action]) -> Option<PeerKey> {
    actions.iter().find_map(|action| match action {
        Action::Send(key, Control::AskHashes(piece)) if *piece == PIECE => Some(*key),
        _ => None,
    })
}

fn requests(actions: &[Action], from: PeerKey) -> Vec<Block> {
    let request = |action: &Action| match action {
        Action::Send(key, Control::Request(block)) if *key == from => Some(*block),
        _ => None,
    };
    actions.iter().filter_map(request).collect()
}

#[test]
fn the_wrong_block_alone_comes_again() {
    let mut torrent = delivered(true, &[LIAR, HELPER, WITNESS]);
    torrent.checked(NOW, PIECE, Check::Wrong);
    let first = actions(&mut torrent);
    assert_eq!(asked(&first), Some(WITNESS), "rather than who sent a part of it");
    assert!(first.contains(&Action::Hold(PIECE)));
    // from others than the one that was asked nothing is believed
    torrent.hashes(NOW, LIAR, PIECE, Some(&[0, 1, 3]));
    assert_eq!(actions(&mut torrent), []);
    torrent.hashes(NOW, WITNESS, PIECE, Some(&[2]));
    let then = actions(&mut torrent);
    assert!(then.contains(&Action::Resume(PIECE)));
    assert!(then.contains(&Action::Ban(identity(LIAR))), "at once");
    assert!(then.contains(&Action::Disconnect(LIAR, CloseReason::Banned)));
    assert_eq!(then.iter().filter(|action| matches!(action, Action::Ban(_))).count(), 1);
    torrent.message(NOW, WITNESS, Control::Unchoke).unwrap();
    assert_eq!(requests(&actions(&mut torrent), WITNESS), [block(2)]);
    torrent.block(NOW, WITNESS, block(2)).unwrap();
    assert!(actions(&mut torrent).contains(&Action::Verify(PIECE)));
    torrent.checked(NOW, PIECE, Check::Good);
    let totals = torrent.totals();
    assert_eq!((totals.hash_failures, totals.wasted), (1, 16_384));
    assert!(torrent.is_done());
}

#[test]
fn who_does_not_tell_is_not_asked_again_and_at_last_the_piece_is_dropped() {
    let mut torrent = delivered(true, &[LIAR, HELPER, WITNESS]);
    torrent.checked(NOW, PIECE, Check::Wrong);
    let mut order = vec![asked(&actions(&mut torrent)).unwrap()];
    // a refusal, a peer that leaves, silence
    torrent.hashes(NOW, WITNESS, PIECE, None);
    order.push(asked(&actions(&mut torrent)).unwrap());
    torrent.disconnected(NOW, order[1]);
    order.push(asked(&actions(&mut torrent)).unwrap());
    torrent.tick(NOW + Duration::from_secs(2));
    assert!(!actions(&mut torrent).contains(&Action::Discard(PIECE)), "it may still answer");
    torrent.tick(NOW + Duration::from_secs(4));
    let last = actions(&mut torrent);
    assert_eq!(asked(&last), None);
    assert!(last.contains(&Action::KeepEvidence(PIECE)), "as in a torrent of BEP 3");
    assert!(last.contains(&Action::Discard(PIECE)));
    order.sort();
    assert_eq!(order, [LIAR, HELPER, WITNESS]);
    // too late
    torrent.hashes(NOW, order[2], PIECE, Some(&[2]));
    assert_eq!(actions(&mut torrent), []);
}

#[test]
fn nobody_is_asked_who_does_not_speak_bep_52() {
    for (ask, v2) in [(true, &[][..]), (false, &[WITNESS])] {
        let mut torrent = delivered(ask, v2);
        torrent.checked(NOW, PIECE, Check::Wrong);
        let then = actions(&mut torrent);
        assert_eq!(asked(&then), None);
        assert!(then.contains(&Action::Discard(PIECE)));
    }
    let mut torrent = delivered(true, &[HELPER]);
    torrent.checked(NOW, PIECE, Check::Wrong);
    assert_eq!(asked(&actions(&mut torrent)), Some(HELPER));
}

#[test]
fn blocks_that_are_known_to_be_wrong_need_no_question() {
    let mut torrent = delivered(true, &[WITNESS]);
    torrent.checked(NOW, PIECE, Check::WrongBlocks(vec![0, 1, 2, 3]));
    let then = actions(&mut torrent);
    assert_eq!(asked(&then), None);
    assert!(then.contains(&Action::Discard(PIECE)));
    for peer in [LIAR, HELPER] {
        assert!(then.contains(&Action::Ban(identity(peer))));
    }
    assert!(!torrent.is_banned(&identity(WITNESS)));
}
