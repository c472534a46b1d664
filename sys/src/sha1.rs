//! SHA-1 of four inputs at once, with the processor's instructions for it (SHA-NI).
//!
//! Each step of SHA-1 needs the result of the step before, and the processor could begin several steps
//! in the time that one takes. Four independent inputs, a step of each in turn, fill that time: four
//! pieces take hardly longer than two one after the other. The instructions and what they compute
//! are described in Intel's "SHA Extensions" (2013); SHA-1 itself in FIPS 180-4.
#![expect(unsafe_code, reason = "instructions that not every processor has")]

pub use crate::sha_lanes::LANES;

/// SHA-1 of four inputs of one length. `None` when their lengths differ, or the processor lacks the
/// instructions: then hash one after the other.
#[must_use]
pub fn four(inputs: [&[u8]; LANES]) -> Option<[[u8; 20]; LANES]> {
    let length = inputs[0].len();
    if inputs.iter().any(|input| input.len() != length) {
        return None;
    }
    lanes::four(inputs)
}

#[cfg(not(target_arch = "x86_64"))]
mod lanes {
    use super::LANES;

    pub(super) fn four(_: [&[u8]; LANES]) -> Option<[[u8; 20]; LANES]> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod lanes {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_loadu_si128, _mm_set_epi64x, _mm_setzero_si128,
        _mm_sha1msg1_epu32, _mm_sha1msg2_epu32, _mm_sha1nexte_epu32, _mm_sha1rnds4_epu32,
        _mm_shuffle_epi8, _mm_xor_si128,
    };

    use super::LANES;
    use crate::sha_lanes::{BLOCK, Block, available, each, end, load, store};

    pub(super) fn four(inputs: [&[u8]; LANES]) -> Option<[[u8; 20]; LANES]> {
        if !available() {
            return None;
        }
        let split = inputs.map(<[u8]>::as_chunks::<BLOCK>);
        let ends = split.map(|(_, rest)| end(rest, inputs[0].len()));
        let used = ends[0].1;
        let mut hashes = State::new();
        // SAFETY: the processor was just found to have every instruction that `take` uses
        unsafe {
            hashes.take(split.map(|(blocks, _)| blocks));
            hashes.take(ends.each_ref().map(|(end, _)| &end[..used]));
        }
        Some(hashes.digests())
    }

    /// The five words of each hash so far, as the instructions want them: the first word of the
    /// hash in the highest quarter, and the fifth in the highest quarter of a vector of its own.
    struct State {
        abcd: [[u32; 4]; LANES],
        e: [[u32; 4]; LANES],
    }

    impl State {
        fn new() -> Self {
            Self {
                abcd: [[0x1032_5476, 0x98ba_dcfe, 0xefcd_ab89, 0x6745_2301]; LANES],
                e: [[0, 0, 0, 0xc3d2_e1f0]; LANES],
            }
        }

        fn digests(&self) -> [[u8; 20]; LANES] {
            std::array::from_fn(|lane| {
                let [d, c, b, a] = self.abcd[lane];
                let mut digest = [0; 20];
                for (bytes, word) in digest.chunks_exact_mut(4).zip([a, b, c, d, self.e[lane][3]]) {
                    bytes.copy_from_slice(&word.to_be_bytes());
                }
                digest
            })
        }

        /// Takes in as many blocks of each input as the shortest has.
        #[target_feature(enable = "sha,sse2,ssse3")]
        fn take(&mut self, inputs: [&[Block]; LANES]) {
            let mut abcd = [_mm_setzero_si128(); LANES];
            let mut e = abcd;
            each!(I, {
                abcd[I] = load(&self.abcd[I]);
                e[I] = load(&self.e[I]);
            });
            let [a, b, c, d] = inputs;
            for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
                one_block(&mut abcd, &mut e, [a, b, c, d]);
            }
            each!(I, {
                store(&mut self.abcd[I], abcd[I]);
                store(&mut self.e[I], e[I]);
            });
        }
    }

    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3")]
    fn one_block(abcd: &mut [__m128i; LANES], e: &mut [__m128i; LANES], blocks: [&Block; LANES]) {
        // words are big-endian, and the first one belongs into the highest quarter
        let swap = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
        let (abcd_before, e_before) = (*abcd, *e);
        // the sixteen words of the message that the next steps need, four in each vector
        let mut words = [[_mm_setzero_si128(); LANES]; 4];
        macro_rules! read {
            ($($quarter:literal)*) => {$(
                each!(I, {
                    let bytes = &blocks[I].as_chunks::<16>().0[$quarter];
                    // SAFETY: 16 bytes that may be read, wherever they lie
                    let raw = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
                    words[$quarter][I] = _mm_shuffle_epi8(raw, swap);
                });
            )*};
        }
        // four steps: with which function, and on which words
        macro_rules! steps {
            ($function:literal: $($at:literal)*) => {$(
                each!(I, {
                    let with_e = _mm_sha1nexte_epu32(e[I], words[$at % 4][I]);
                    e[I] = abcd[I];
                    abcd[I] = _mm_sha1rnds4_epu32::<$function>(abcd[I], with_e);
                });
            )*};
        }
        // the words for the steps from `at` on, and then the steps
        macro_rules! next {
            ($function:literal: $($at:literal)*) => {$(
                each!(I, {
                    let mixed = _mm_sha1msg1_epu32(words[$at % 4][I], words[($at + 1) % 4][I]);
                    let mixed = _mm_xor_si128(mixed, words[($at + 2) % 4][I]);
                    words[$at % 4][I] = _mm_sha1msg2_epu32(mixed, words[($at + 3) % 4][I]);
                });
                steps!($function: $at);
            )*};
        }
        read!(0 1 2 3);
        // in the first steps the fifth word is taken as it is, later ones rotate it
        each!(I, {
            let with_e = _mm_add_epi32(e[I], words[0][I]);
            e[I] = abcd[I];
            abcd[I] = _mm_sha1rnds4_epu32::<0>(abcd[I], with_e);
        });
        steps!(0: 1 2 3);
        next!(0: 4);
        next!(1: 5 6 7 8 9);
        next!(2: 10 11 12 13 14);
        next!(3: 15 16 17 18 19);
        each!(I, {
            e[I] = _mm_sha1nexte_epu32(e[I], e_before[I]);
            abcd[I] = _mm_add_epi32(abcd[I], abcd_before[I]);
        });
    }
}

#[cfg(test)]
mod tests {
    use sha1::Digest as _;

    use super::*;

    #[test]
    fn every_length_gives_what_one_by_one_gives() {
        let bytes: Vec<u8> =
            (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        // around the ends of blocks, and longer ones
        let lengths = (0..200).chain([1000, 1023, 1024, 1025, 4000]);
        for length in lengths {
            let inputs = [0, 1, 17, 96].map(|from| &bytes[from..from + length]);
            let Some(digests) = four(inputs) else {
                assert!(!crate::sha_lanes::available(), "inputs of one length");
                return;
            };
            for (input, digest) in inputs.iter().zip(digests) {
                assert_eq!(digest, <[u8; 20]>::from(sha1::Sha1::digest(input)), "{length}");
            }
        }
    }

    #[test]
    fn inputs_of_different_lengths_are_not_taken() {
        assert!(four([b"abc", b"abc", b"abc", b"ab"]).is_none());
    }
}
