//! Trees against vectors made by libtorrent, and against a plain tree.

use proptest::prelude::*;

use super::*;

/// Every level of the tree of a content, each padded: the plain way to make one.
fn levels(content: &[u8]) -> Vec<Vec<Node>> {
    let mut level = blocks(content);
    level.resize(level.len().next_power_of_two(), Node::ZERO);
    let mut all = vec![level];
    while let Some(below) = all.last().filter(|level| level.len() > 1) {
        let next = below.as_chunks::<2>().0.iter().map(|[left, right]| parent(*left, *right));
        all.push(next.collect());
    }
    all
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1].rotate_left(3)).collect()
}

fn tree(content: &[u8], piece_length: u32) -> (Geometry, BlockTree) {
    let geometry = Geometry::new(content.len() as u64, piece_length.into()).unwrap();
    (geometry, BlockTree::new(&geometry, layer(content, piece_length)).unwrap())
}

/// What a peer computes from an answer: the node above all of it.
fn climb(range: &HashRange, answer: &[Node]) -> Node {
    let (base, uncles) = answer.split_at(range.length as usize);
    let up = range.length.ilog2();
    let node = root(base, 0, up);
    let with = |node, (side, uncle): (u32, &Node)| match (range.index >> side) & 1 {
        0 => parent(node, *uncle),
        _ => parent(*uncle, node),
    };
    (up..).zip(uncles).fold(node, with)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn root_and_answers_are_those_of_the_whole_tree(
        length in 1usize..600_000, step in 0u32..5, base in 0u32..2, at in any::<u32>(), width in 1u32..6, proof in 0u32..8,
    ) {
        let content = content(length);
        let (geometry, tree) = tree(&content, BLOCK_LEN << step);
        let levels = levels(&content);
        prop_assert_eq!(tree.root(), levels[levels.len() - 1][0]);
        let base_layer = if base == 0 { 0 } else { tree.level };
        let count = 1 << width;
        let slots = u32::try_from(levels.get(base_layer as usize).map_or(1, Vec::len)).unwrap();
        let index = at % slots / count * count;
        let range = HashRange { root: tree.root(), base_layer, index, length: count, proof_layers: proof };
        let of = tree.piece_of(&range);
        let bytes = of.map(|piece| {
            let start = usize::try_from(geometry.piece_offset(piece)).unwrap().min(content.len());
            &content[start..(start + geometry.piece_length() as usize).min(content.len())]
        });
        let answer = tree.answer(&range, &blocks(bytes.unwrap_or_default()));
        let answerable = count <= slots
            && proof + base_layer < tree.height
            && (base_layer == tree.level || width <= tree.level);
        prop_assert_eq!(answer.is_some(), answerable);
        let Some(answer) = answer else { return Ok(()) };
        let level = &levels[base_layer as usize];
        prop_assert_eq!(&answer[..count as usize], &level[index as usize..][..count as usize]);
        let top = proof.max(width - 1) + 1 + base_layer;
        prop_assert_eq!(u32::try_from(answer.len()).unwrap(), count + (top - base_layer - width));
        // the proof leads to a node of the tree
        prop_assert_eq!(climb(&range, &answer), levels[top as usize][(index >> (top - base_layer)) as usize]);
    }
}

#[test]
fn asking_for_the_blocks_of_a_piece() {
    let content = content(300_000);
    let (geometry, tree) = tree(&content, 65_536);
    for (piece, bytes) in geometry.indices().zip(content.chunks(65_536)) {
        let range = tree.blocks_of(piece).unwrap();
        assert_eq!(tree.piece_of(&range), Some(piece));
        let answer = tree.answer(&range, &blocks(bytes)).unwrap();
        assert_eq!(answer.len(), 4);
        assert!(tree.piece_is(piece, &answer));
    }
    // a piece of one block: its hash is there already
    assert_eq!(self::tree(&content, 16_384).1.blocks_of(PieceIndex(0)), None);
    // the tree of a short file is no wider than the file
    let (_, short) = self::tree(&content[..40_000], 1 << 20);
    assert_eq!(short.blocks_of(PieceIndex(0)).unwrap().length, 4);
    // more blocks than one question may have
    let large = vec![0; 17 << 20];
    assert_eq!(self::tree(&large, 16 << 20).1.blocks_of(PieceIndex(0)), None);
}

#[test]
fn strange_questions_are_not_answered() {
    let content = content(600_000);
    let (_, tree) = tree(&content, 65_536);
    let good = tree.blocks_of(PieceIndex(1)).unwrap();
    let blocks = blocks(&content[65_536..131_072]);
    assert!(tree.answer(&good, &blocks).is_some());
    for bad in [
        HashRange { root: Node::ZERO, ..good },
        HashRange { base_layer: 1, ..good },
        HashRange { base_layer: u32::MAX, ..good },
        HashRange { index: 5, ..good },
        HashRange { index: u32::MAX - 3, ..good },
        HashRange { index: 64, ..good },
        HashRange { length: 0, ..good },
        HashRange { length: 1, ..good },
        HashRange { length: 3, ..good },
        HashRange { length: 8, index: 8, ..good },
        HashRange { length: 1 << 31, index: 0, ..good },
        HashRange { proof_layers: u32::MAX, ..good },
        HashRange { proof_layers: tree.height, ..good },
    ] {
        assert_eq!(tree.answer(&bad, &blocks), None, "{bad:?}");
    }
}

#[test]
fn layers_of_the_wrong_length() {
    let geometry = Geometry::new(100_000, 32_768).unwrap();
    for hashes in [0, 3, 5] {
        let error = BlockTree::new(&geometry, vec![Node::ZERO; hashes]).unwrap_err();
        assert_eq!(error, TreeError::LayerLength { hashes, pieces: 4 });
    }
}
