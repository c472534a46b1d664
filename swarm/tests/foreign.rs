//! Answers of libtorrent to questions for hashes (BEP 52), as recorded in `fixtures/`.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use proto::geometry::PieceIndex;
use proto::hash::Sha256Digest;
use proto::hash_range::HashRange;
use proto::merkle;
use proto::metainfo::Metainfo;
use proto::wire::Message;

/// Bytes of the content: seven pieces of 128 KiB, and one of six blocks of which the last is short.
const LENGTH: usize = 7 * 131_072 + 5 * 16_384 + 100;

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// What the torrent is of, as `fixtures/README.md` says.
fn content() -> Vec<u8> {
    let mut state: u32 = 7;
    let mut next = || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
        (state >> 16).to_le_bytes()[0]
    };
    (0..LENGTH).map(|_| next()).collect()
}

/// Level, first, number and proof layers of a question.
type Question = (u32, u32, u32, u32);

fn question(range: &HashRange) -> Question {
    (range.base_layer, range.index, range.length, range.proof_layers)
}

#[test]
fn answers_of_libtorrent_are_those_that_we_would_give() {
    let content = content();
    let metainfo = Metainfo::parse(&fixture("libtorrent-hybrid.torrent")).unwrap();
    let tree = metainfo.info.tree().unwrap();
    assert_eq!(tree.layer(), merkle::layer(&content, 131_072));
    let recorded = fixture("libtorrent-hashes");
    let (mut rest, mut seen) = (recorded.as_slice(), Vec::new());
    while let Some((message, used)) = Message::parse(rest).unwrap() {
        let (range, given) = match message {
            Message::Hashes { range, nodes } => {
                (range, Some(nodes.iter().copied().map(Sha256Digest).collect::<Vec<_>>()))
            }
            Message::HashReject(range) => (range, None),
            other => panic!("{other:?}"),
        };
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(again, rest[..used], "byte by byte");
        let blocks = tree.piece_of(&range).map(|PieceIndex(piece)| {
            let piece = piece as usize;
            merkle::blocks(&content[piece * 131_072..((piece + 1) * 131_072).min(LENGTH)])
        });
        let ours = tree.answer(&range, &blocks.unwrap_or_default());
        if let Some(given) = &given {
            assert_eq!(Some(given), ours.as_ref(), "{range:?}");
            if let Some(piece) = tree.piece_of(&range) {
                assert!(tree.piece_is(piece, &given[..8]), "{range:?}");
            }
        }
        seen.push((question(&range), given.map(|nodes| nodes.len()), ours.is_some()));
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    let expected: [(Question, Option<usize>, bool); 9] = [
        // blocks of one piece, without and with the proof up to the root
        ((0, 16, 8, 0), Some(8), true),
        ((0, 16, 8, 5), Some(8 + 3), true),
        // of the last one, past whose end are digests of zeros
        ((0, 56, 8, 0), Some(8), true),
        ((0, 56, 8, 5), Some(8 + 3), true),
        // pieces; the layer above all of them needs no uncle
        ((3, 0, 8, 0), Some(8), true),
        ((3, 0, 8, 2), Some(8), true),
        ((3, 4, 4, 2), Some(4 + 1), true),
        // the root is nobody's uncle
        ((0, 56, 8, 6), None, false),
        // a seeder that never read its file has no blocks to tell of
        ((0, 16, 8, 0), None, true),
    ];
    assert_eq!(seen, expected);
}
