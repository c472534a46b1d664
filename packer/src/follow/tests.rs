//! Following against reading what was written.

use proptest::prelude::*;

use super::*;
use crate::hashes;

const MIB: usize = 1 << 20;

/// A file and who follows it.
struct Bed {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    file: File,
    follower: Follower,
    state: u64,
}

fn expected(order: Order, most: u64, verity: bool) -> Expected {
    let room = match order {
        Order::Forward => Room(8),
        Order::Back => Room(128),
    };
    Expected { order, room, most, nodes: 400, verity }
}

impl Bed {
    fn new(order: Order, most: u64) -> Self {
        Self::of(expected(order, most, false))
    }

    fn of(expected: Expected) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let follower = Follower::start(expected).unwrap();
        Self { _dir: dir, path, file, follower, state: 1 }
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut word = || {
            self.state = self.state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            self.state.to_le_bytes()
        };
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(word());
        }
        bytes.truncate(length);
        bytes
    }

    fn write(&mut self, offset: u64, length: usize) {
        let bytes = self.noise(length);
        self.file.write_all_at(&bytes, offset).unwrap();
        self.follower.write(offset, &bytes);
    }

    /// Writes in pieces of the size that mksquashfs writes in.
    fn append(&mut self, length: usize) {
        for start in (0..length).step_by(100_000) {
            self.write(self.follower.length, (length - start).min(100_000));
        }
    }

    fn cut(&mut self, length: u64) {
        self.file.set_len(length).unwrap();
        self.follower.set_length(length);
    }

    /// The bytes that were read back; hashes and tree must be those of the file.
    fn finish(self) -> u64 {
        let (length, verity) = (self.follower.length, self.follower.expected.verity);
        let mut last = 0;
        let followed = self.follower.finish(&self.file, |done| last = done).unwrap();
        compare(&self.path, length, verity, &followed);
        assert_eq!(last, followed.hashes.length);
        followed.read_back
    }
}

/// What was followed must be what reading the file gives: an image of `length` bytes, and its tree.
fn compare(path: &std::path::Path, length: u64, with_tree: bool, followed: &Followed) {
    let total = std::fs::metadata(path).unwrap().len();
    let piece_length = piece_length::choose(total, 400);
    let (expected, _) = hashes::read(path, piece_length, false, |_| {}).unwrap();
    assert!(followed.hashes == expected, "other hashes for {length} bytes");
    match followed.verity {
        None => assert!(!with_tree && total == length),
        Some(verity) => {
            assert!(with_tree && verity.length() == total && verity.hash_offset() == length);
            assert!(verity::fits(path, &verity).unwrap(), "another tree for {length} bytes");
        }
    }
}

#[test]
fn a_tree_is_made_of_what_was_hashed_while_it_was_written() {
    // a tree that ends within the last chunk, one that needs further chunks, and whole chunks
    for blocks in [1, 2, 300, 511, 512, 513, 1024, 5000, 11_264] {
        for order in [Order::Forward, Order::Back] {
            let mut bed = Bed::of(expected(order, 100 << 20, true));
            bed.append(blocks * 4096);
            bed.write(0, 96);
            assert_eq!(bed.finish(), 0, "{blocks} blocks");
        }
    }
}

#[test]
fn a_file_that_was_not_followed_is_read_once() {
    for (length, verity) in [(5000, false), (2 * MIB, true), (9 * MIB + 4096, true)] {
        let mut bed = Bed::new(Order::Forward, 100 << 20);
        bed.append(length);
        let expected = expected(Order::Forward, 100 << 20, verity);
        let follower = Follower::too_late(expected, length as u64).unwrap();
        let followed = follower.finish(&bed.file, |_| {}).unwrap();
        compare(&bed.path, length as u64, verity, &followed);
        assert_eq!(followed.read_back, length as u64);
    }
}

#[test]
fn an_empty_file_has_no_tree() {
    let bed = Bed::of(expected(Order::Forward, 100, true));
    let error = bed.follower.finish(&bed.file, |_| {}).unwrap_err();
    assert!(error.to_string().contains("empty"), "{error}");
}

#[test]
fn what_may_be_held_follows_from_the_memory_that_is_free() {
    assert_eq!(Room::choose(Order::Forward).0, 8);
    assert!(Room::choose(Order::Back).0 >= 128);
}

#[test]
fn what_is_appended_and_gets_its_superblock_last_is_not_read() {
    for length in [1, 5000, 2 * MIB - 96, 2 * MIB, 20 * MIB + 1, 45 * MIB] {
        let mut bed = Bed::new(Order::Forward, 200 << 20);
        bed.write(96, length);
        bed.append(length);
        bed.write(0, 96);
        assert_eq!(bed.finish(), 0, "{length}");
    }
}

#[test]
fn of_what_is_taken_back_a_chunk_is_read() {
    let mut bed = Bed::new(Order::Forward, 200 << 20);
    bed.append(30 * MIB);
    // within what is still held, and beyond it
    bed.cut(25 * MIB as u64 + 17);
    bed.append(30 * MIB);
    bed.cut(31 * MIB as u64 + 5);
    bed.append(30 * MIB);
    bed.write(0, 96);
    assert_eq!(bed.finish(), CHUNK as u64);
}

#[test]
fn an_image_of_another_size_than_expected_is_read_but_never_wrong() {
    // longer: pieces may be longer than any that was thought of
    let mut bed = Bed::new(Order::Forward, 1000);
    bed.append(40 * MIB);
    let read = bed.finish();
    assert!((1..=32 * MIB as u64).contains(&read), "{read}");
    // shorter by more than two halvings
    let mut bed = Bed::new(Order::Forward, 500 << 20);
    bed.write(300 << 20, 5);
    for offset in (0..40 * MIB as u64).step_by(MIB) {
        bed.write(offset, MIB);
    }
    bed.cut(40 * MIB as u64);
    let read = bed.finish();
    assert!((1..=40 * MIB as u64).contains(&read), "{read}");
}

#[test]
fn what_is_written_out_of_order_is_not_read_as_long_as_it_is_held() {
    let order = |count: u64| {
        let mut bed = Bed::new(Order::Back, 500 << 20);
        for number in 0..count {
            bed.write(number * CHUNK as u64 + 4096, 4096);
        }
        for number in 0..count {
            bed.write(number * CHUNK as u64, 64);
        }
        bed.finish()
    };
    assert_eq!(order(100), 0);
    // the first chunk and 128 others are held
    assert_eq!(order(132), 3 * CHUNK as u64);
}

#[test]
fn a_file_that_another_program_changed_is_told() {
    let mut bed = Bed::new(Order::Forward, 1 << 20);
    bed.append(100_000);
    bed.file.set_len(100_001).unwrap();
    let error = bed.follower.finish(&bed.file, |_| {}).unwrap_err();
    assert!(error.to_string().contains("100000 bytes: another program"), "{error}");
}

#[derive(Debug, Clone)]
enum Act {
    Append(usize),
    Write(u64, usize),
    Resize(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let offset = 0..26 * MIB as u64;
    // offsets at the borders of chunks and near them are what goes wrong
    let border = (0..13u64, 0..3u64).prop_map(|(n, by)| (n * CHUNK as u64 + by).saturating_sub(1));
    let offset = prop_oneof![offset, border];
    prop_oneof![
        4 => (1..5 * MIB).prop_map(Act::Append),
        3 => (offset.clone(), 1..100_000usize).prop_map(|(at, n)| Act::Write(at, n)),
        1 => (offset.clone(), 1..5 * MIB).prop_map(|(at, n)| Act::Write(at, n)),
        2 => offset.prop_map(Act::Resize),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_written_the_hashes_are_those_of_the_file(
        acts in proptest::collection::vec(act(), 1..25),
        back: bool,
        verity: bool,
        most in 1..100_000_000u64,
    ) {
        let order = if back { Order::Back } else { Order::Forward };
        let mut bed = Bed::of(expected(order, most, verity));
        for act in acts {
            match act {
                Act::Append(length) => bed.append(length),
                Act::Write(offset, length) => bed.write(offset, length),
                Act::Resize(length) => bed.cut(length),
            }
        }
        if bed.follower.length == 0 {
            bed.append(1);
        }
        if verity {
            // as images are
            bed.cut(bed.follower.length.next_multiple_of(4096));
        }
        bed.finish();
    }
}
