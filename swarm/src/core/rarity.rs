//! Pieces grouped by how many peers have them: O(1) updates, rarest first, random ties.

use proto::geometry::PieceIndex;

const ABSENT: u32 = u32::MAX;

/// A set of pieces, each in the bucket of its availability. The order within a bucket is random.
#[derive(Debug, Clone)]
pub(crate) struct Rarity {
    buckets: Vec<Vec<PieceIndex>>,
    /// Position of each piece in its bucket, or `ABSENT`.
    at: Vec<u32>,
    len: u32,
}

impl Rarity {
    pub(crate) fn new(pieces: u32) -> Self {
        Self { buckets: Vec::new(), at: vec![ABSENT; pieces as usize], len: 0 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn contains(&self, piece: PieceIndex) -> bool {
        self.at[piece.as_usize()] != ABSENT
    }

    /// Adds a piece that is not in the set.
    pub(crate) fn insert(&mut self, piece: PieceIndex, availability: u32, rng: &mut fastrand::Rng) {
        debug_assert!(!self.contains(piece), "inserted twice");
        let level = availability as usize;
        if self.buckets.len() <= level {
            self.buckets.resize_with(level + 1, Vec::new);
        }
        let bucket = &mut self.buckets[level];
        let last = bucket.len();
        bucket.push(piece);
        let swap = rng.usize(..=last);
        bucket.swap(last, swap);
        let (moved, new) = (bucket[last], bucket[swap]);
        self.at[moved.as_usize()] = position(last);
        self.at[new.as_usize()] = position(swap);
        self.len += 1;
    }

    /// Removes a piece that is in the bucket of `availability`.
    pub(crate) fn remove(&mut self, piece: PieceIndex, availability: u32) {
        let bucket = &mut self.buckets[availability as usize];
        let at = self.at[piece.as_usize()];
        debug_assert_eq!(bucket.get(at as usize), Some(&piece), "index out of step");
        bucket.swap_remove(at as usize);
        if let Some(moved) = bucket.get(at as usize) {
            self.at[moved.as_usize()] = at;
        }
        self.at[piece.as_usize()] = ABSENT;
        self.len -= 1;
    }

    /// Moves a piece from one bucket to another; nothing happens when it is not in the set.
    pub(crate) fn shift(&mut self, piece: PieceIndex, from: u32, to: u32, rng: &mut fastrand::Rng) {
        if self.contains(piece) {
            self.remove(piece, from);
            self.insert(piece, to, rng);
        }
    }

    /// All pieces, rarest first.
    pub(crate) fn rarest_first(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.buckets.iter().flatten().copied()
    }

    /// Pieces that some peer has, rarest first.
    pub(crate) fn seen_rarest_first(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.buckets.iter().skip(1).flatten().copied()
    }

    /// All pieces from a random one on.
    pub(crate) fn rotated(&self, rng: &mut fastrand::Rng) -> impl Iterator<Item = PieceIndex> + '_ {
        let skip = if self.len == 0 { 0 } else { rng.u32(..self.len) as usize };
        self.rarest_first().skip(skip).chain(self.rarest_first().take(skip))
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).expect("a bucket holds at most MAX_PIECES pieces")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_model(
            seed: u64,
            steps in prop::collection::vec((0u32..40, 0u32..4, 0u32..9), 1..300),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut rarity = Rarity::new(40);
            let mut model = std::collections::BTreeMap::new();
            for (piece, what, level) in steps {
                let index = PieceIndex(piece);
                match (what, model.get(&piece).copied()) {
                    (0, None) => {
                        rarity.insert(index, level, &mut rng);
                        model.insert(piece, level);
                    }
                    (1, Some(at)) => {
                        rarity.remove(index, at);
                        model.remove(&piece);
                    }
                    (_, Some(at)) => {
                        rarity.shift(index, at, level, &mut rng);
                        model.insert(piece, level);
                    }
                    _ => rarity.shift(index, 0, level, &mut rng),
                }
                prop_assert_eq!(rarity.len() as usize, model.len());
                let levels: Vec<u32> = rarity.rarest_first().map(|p| model[&p.0]).collect();
                prop_assert!(levels.is_sorted(), "{:?}", levels);
                let mut all: Vec<u32> = rarity.rotated(&mut rng).map(|p| p.0).collect();
                all.sort_unstable();
                prop_assert!(all.iter().eq(model.keys()));
            }
        }
    }

    #[test]
    fn ties_are_random() {
        let firsts: std::collections::BTreeSet<u32> = (0..50)
            .filter_map(|seed| {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut rarity = Rarity::new(30);
                (0..30).for_each(|p| rarity.insert(PieceIndex(p), 3, &mut rng));
                rarity.rarest_first().next().map(|p| p.0)
            })
            .collect();
        assert!(firsts.len() > 10, "{firsts:?}");
    }
}
