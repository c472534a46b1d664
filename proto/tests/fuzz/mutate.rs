//! A small deterministic mutator: the same seed gives the same inputs on every machine.

/// Longest input made, in bytes.
const MAX_LEN: usize = 4096;

/// Pieces of text and bytes that parsers treat specially.
const WORDS: [&[u8]; 30] = [
    b"0",
    b"-1",
    b"i-0e",
    b"i9223372036854775807e",
    b"i-9223372036854775808e",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967295:",
    b"99999999999999999999",
    b"d",
    b"l",
    b"e",
    b":",
    b"%",
    b"%00",
    b"&",
    b"=",
    b"\"",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"null",
    b"1e999",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x80",
    "é".as_bytes(),
    b"beeswarm.",
    b" ",
];

/// A stream of pseudo-random numbers (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    /// Starts a stream; streams of different seeds are unrelated.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`; 0 when `limit` is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.next() >> 16) % limit).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// Changes one of `seeds` in one to eight places.
pub(crate) fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        change(&mut data, seeds, random);
    }
    data.truncate(MAX_LEN);
    data
}

fn change(data: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(data.len());
    let end = at + random.below((data.len() - at).min(64) + 1).min(data.len() - at);
    match random.below(9) {
        0 => data.truncate(at),
        1 => drop(data.drain(at..end)),
        2 => {
            let copy = data[at..end].to_vec();
            data.splice(at..at, copy);
        }
        3 => data.insert(at, random.byte()),
        4 => {
            let word = WORDS[random.below(WORDS.len())];
            data.splice(at..at, word.iter().copied());
        }
        5 => {
            let word = WORDS[random.below(WORDS.len())];
            data.splice(at..end, word.iter().copied());
        }
        6 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            data.truncate(at);
            data.extend(&other[from..]);
        }
        7 => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        _ => {
            if let Some(byte) = data.get_mut(at) {
                *byte = random.byte();
            }
        }
    }
}
