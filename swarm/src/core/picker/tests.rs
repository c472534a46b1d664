//! The order of choice, and what happens to pieces that fail, vanish or are abandoned.

use super::*;
use proptest::prelude::*;
use proto::geometry::BLOCK_LEN;

const PIECES: u32 = 12;
const PEERS: u32 = 4;

/// A picker with peers whose bitfields and requests are tracked beside it.
struct World {
    picker: Picker,
    rng: fastrand::Rng,
    has: Vec<Bitfield>,
    refused: SortedSet<PieceIndex>,
    asked: SortedSet<(u32, Block)>,
}

impl World {
    fn new(seed: u64, has: &[Vec<bool>]) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let geometry = Geometry::new(u64::from(PIECES * 4 * BLOCK_LEN - 100), 65_536).unwrap();
        let mut picker = Picker::new(geometry, Bitfield::empty(PIECES), 1 << 20, 2, &mut rng);
        let has: Vec<Bitfield> = has.iter().map(|bits| field(bits)).collect();
        for piece in has.iter().flat_map(Bitfield::iter) {
            picker.peer_has(piece, &mut rng);
        }
        Self { picker, rng, has, refused: SortedSet::new(), asked: SortedSet::new() }
    }

    fn pick(&mut self, peer: u32) -> Option<Block> {
        let has = &self.has[peer as usize];
        let asker = Asker { key: PeerKey(peer), has, refused: &self.refused, limit: None };
        let begun: SortedSet<PieceIndex> = self.picker.partials.keys().copied().collect();
        let block = self.picker.pick(asker, &mut self.rng)?;
        assert!(has.has(block.piece), "the peer does not have it");
        let wanted = self.picker.wants(block.piece);
        assert!(wanted || begun.contains(&block.piece), "neither wanted nor begun");
        assert!(self.asked.iter().all(|(_, b)| *b != block), "asked twice outside of the end-game");
        self.asked.insert((peer, block));
        Some(block)
    }

    fn deliver(&mut self, peer: u32, block: Block, good: bool) {
        self.asked.remove(&(peer, block));
        if let Delivery::Kept { cancel, complete } = self.picker.deliver(block, PeerKey(peer)) {
            for other in cancel.into_iter().flatten() {
                assert!(self.asked.remove(&(other.0, block)), "cancels what was not asked");
            }
            if complete && good {
                assert!(self.picker.confirm(block.piece));
            } else if complete {
                self.picker.refuse(block.piece, &mut self.rng);
            }
        }
    }
}

fn field(bits: &[bool]) -> Bitfield {
    let mut field = Bitfield::empty(PIECES);
    for (bit, piece) in bits.iter().zip(0..) {
        if *bit {
            field.insert(PieceIndex(piece));
        }
    }
    field
}

fn bitfields() -> impl Strategy<Value = Vec<Vec<bool>>> {
    prop::collection::vec(prop::collection::vec(any::<bool>(), PIECES as usize), PEERS as usize - 1)
        .prop_map(|mut all| {
            all.push(vec![true; PIECES as usize]);
            all
        })
}

proptest! {
    /// Whatever happens on the way, every piece is fetched in the end, and outside of the
    /// end-game no block is asked for twice at a time.
    #[test]
    fn everything_is_fetched_whatever_happens(
        seed: u64,
        has in bitfields(),
        steps in prop::collection::vec((0u8..8, 0..PEERS, 0..PIECES), 0..300),
    ) {
        let mut world = World::new(seed, &has);
        for (what, peer, piece) in steps {
            let first = world.asked.iter().copied().find(|(p, _)| *p == peer);
            match (what, first) {
                (0..=2, _) => drop(world.pick(peer)),
                (3 | 4, Some((_, block))) => world.deliver(peer, block, what == 3),
                (5, Some((_, block))) => {
                    world.asked.remove(&(peer, block));
                    world.picker.release(block, PeerKey(peer), &mut world.rng);
                }
                (6, _) => drop(world.picker.lose(PieceIndex(piece), &mut world.rng)),
                (7, _) => {
                    let levels = [Priority::Skip, Priority::Normal, Priority::High, Priority::Urgent];
                    let level = levels[usize::from(u8::try_from((seed >> peer) % 4).unwrap())];
                    world.picker.set_priority(PieceIndex(piece), level, &mut world.rng);
                }
                _ => {}
            }
        }
        for piece in 0..PIECES {
            world.picker.set_priority(PieceIndex(piece), Priority::Normal, &mut world.rng);
        }
        for (peer, block) in world.asked.clone() {
            world.deliver(peer, block, true);
        }
        while let Some(block) = world.pick(PEERS - 1) {
            world.deliver(PEERS - 1, block, true);
        }
        prop_assert!(world.picker.is_done(), "{:?}", world.picker);
        prop_assert!(world.picker.have().is_full());
        prop_assert_eq!(world.picker.wanted, PIECES);
    }

    /// Priorities are kept: urgent by index, then high, then rarest first.
    #[test]
    fn the_order_is_kept(seed: u64, has in bitfields(), urgent in 0..PIECES, high in 0..PIECES) {
        let mut world = World::new(seed, &has);
        world.picker.random_first = 0;
        world.picker.set_priority(PieceIndex(high), Priority::High, &mut world.rng);
        world.picker.set_priority(PieceIndex(urgent), Priority::Urgent, &mut world.rng);
        let mut order: Vec<PieceIndex> = Vec::new();
        while let Some(block) = world.pick(PEERS - 1) {
            if order.last() != Some(&block.piece) {
                order.push(block.piece);
            }
        }
        prop_assert_eq!(order.len(), PIECES as usize, "one piece after the other");
        prop_assert_eq!(order[0], PieceIndex(urgent));
        let rest = if urgent == high { &order[1..] } else {
            prop_assert_eq!(order[1], PieceIndex(high));
            &order[2..]
        };
        let levels: Vec<u32> = rest.iter().map(|p| world.picker.availability(*p)).collect();
        prop_assert!(levels.is_sorted(), "{:?}", levels);
    }
}

fn full(seed: u64) -> World {
    World::new(seed, &vec![vec![true; PIECES as usize]; PEERS as usize])
}

#[test]
fn the_end_game_asks_a_second_peer_only_when_nothing_else_is_left() {
    let mut world = full(1);
    let refused = SortedSet::new();
    let has = world.has[1].clone();
    let asker = Asker { key: PeerKey(1), has: &has, refused: &refused, limit: None };
    let mut last = None;
    loop {
        assert_eq!(world.picker.pick_end_game(asker, &mut world.rng), None, "blocks are left");
        match world.pick(0) {
            Some(block) => last = Some(block),
            None => break,
        }
        if world.picker.nothing_left_to_ask() {
            break;
        }
    }
    for (_, block) in world.asked.clone() {
        if Some(block) != last {
            world.deliver(0, block, true);
        }
    }
    let again = world.picker.pick_end_game(asker, &mut world.rng);
    assert_eq!(again, last, "the only one outstanding");
    assert_eq!(world.picker.pick_end_game(asker, &mut world.rng), None, "not twice");
    let block = again.unwrap();
    let kept = world.picker.deliver(block, PeerKey(1));
    assert_eq!(kept, Delivery::Kept { cancel: [Some(PeerKey(0)), None], complete: true });
    assert_eq!(world.picker.deliver(block, PeerKey(0)), Delivery::Unneeded);
}

#[test]
fn a_suspect_piece_comes_from_one_peer() {
    let mut world = full(2);
    let piece = world.pick(0).unwrap().piece;
    world.picker.set_priority(piece, Priority::Urgent, &mut world.rng);
    for (peer, block) in world.asked.clone() {
        world.deliver(peer, block, true);
    }
    for peer in [1, 2, 3] {
        assert_eq!(world.pick(peer).unwrap().piece, piece, "several peers help with an urgent one");
    }
    for (peer, block) in world.asked.clone() {
        world.deliver(peer, block, false);
    }
    assert_eq!(world.pick(2).unwrap().piece, piece);
    assert_ne!(world.pick(3).unwrap().piece, piece, "after the failure nobody may join");
    for _ in 0..3 {
        assert_eq!(world.pick(2).unwrap().piece, piece);
    }
}

#[test]
fn a_web_seed_takes_whole_pieces_and_gives_them_back() {
    let mut world = full(3);
    let piece = world.picker.take_whole(PeerKey::WEB).unwrap();
    assert!(
        world.picker.abandon_whole(piece, PeerKey::WEB, &mut world.rng)
            || !world.picker.partials.contains_key(&piece)
    );
    let again = world.picker.take_whole(PeerKey::WEB).unwrap();
    assert_eq!(world.picker.deliver_whole(again, PeerKey::WEB), Some(vec![]));
    assert_eq!(world.picker.deliver_whole(again, PeerKey::WEB), None, "once");
    assert!(world.picker.sources(again).iter().all(|s| *s == PeerKey::WEB));
    assert!(world.picker.confirm(again));
}
