//! How long a piece is.
//!
//! A swarm is fast with 500 to 2000 pieces: below, few nodes have something that others lack;
//! above, hashes, bitfields and Have messages cost more than they bring. With few nodes fewer
//! pieces do.

/// Shortest piece, in bytes: one block. A piece of one block can be handed on as soon as it came. With
/// 32 MB and 30 nodes it takes a hundredth less time than one of two blocks, with 16 MB and 100 nodes
/// three hundredths; from 64 MB on it makes no difference.
pub const MIN: u32 = 16 * 1024;

/// Longest piece, in bytes: it is also what an on-demand read has to wait for.
pub const MAX: u32 = 2 * 1024 * 1024;

/// Nodes from which on the full number of pieces is worth its cost.
const MANY_NODES: u32 = 21;

/// Length of a piece for an image of `image_bytes` that `nodes` nodes fetch at once: a power of
/// two from [`MIN`] to [`MAX`].
#[must_use]
pub fn choose(image_bytes: u64, nodes: u32) -> u32 {
    let most_pieces = if nodes < MANY_NODES { 1000 } else { 2000 };
    let mut length = MIN;
    while length < MAX && image_bytes.div_ceil(u64::from(length)) > most_pieces {
        length *= 2;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn five_hundred_to_two_thousand_pieces() {
        for nodes in [1, 10, 400, 10_000] {
            for mib in 32..4000 {
                let length = choose(mib * MIB, nodes);
                let pieces = (mib * MIB).div_ceil(u64::from(length));
                assert!(length.is_power_of_two());
                assert!((500..=2000).contains(&pieces), "{mib} MiB, {nodes} nodes: {pieces}");
            }
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!(choose(4096, 400), MIN);
        assert_eq!(choose(117_825_536, 400), 64 * 1024);
        assert_eq!(choose(117_825_536, 20), 128 * 1024);
        assert_eq!(choose(1024 * MIB, 400), 1024 * 1024);
        assert_eq!(choose(100_000 * MIB, 400), MAX);
        assert_eq!(choose(u64::MAX, 1), MAX);
    }
}
