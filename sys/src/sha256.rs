//! SHA-256 of four inputs at once, with the processor's instructions for it (SHA-NI).
//!
//! As in `sha1`: each step waits for the one before, and four inputs in turn fill that time. The blocks of
//! a piece (BEP 52) are such inputs, whatever else comes. What the instructions compute is described in
//! Intel's "SHA Extensions" (2013); SHA-256 itself in FIPS 180-4.
#![expect(unsafe_code, reason = "instructions that not every processor has")]

use sha2::{Digest as _, Sha256};

use crate::sha_lanes;
pub use crate::sha_lanes::LANES;

/// Whether the processor has instructions for SHA-256: without them SHA-1 is twice as fast.
#[must_use]
pub fn is_quick() -> bool {
    sha_lanes::available()
}

/// SHA-256 of each input, several at once where the processor can and they are of one length.
#[must_use]
pub fn each(inputs: &[&[u8]]) -> Vec<[u8; 32]> {
    let mut digests = Vec::with_capacity(inputs.len());
    for few in inputs.chunks(LANES) {
        // of three the first is hashed twice; two take as long as one after the other
        let lane = |number: usize| few.get(number).or(few.first()).copied().unwrap_or_default();
        match if few.len() > 2 { four(std::array::from_fn(lane)) } else { None } {
            Some(all) => digests.extend(all.into_iter().take(few.len())),
            None => digests.extend(few.iter().map(|input| <[u8; 32]>::from(Sha256::digest(input)))),
        }
    }
    digests
}

/// SHA-256 of four inputs of one length. `None` when their lengths differ, or the processor lacks the
/// instructions: then hash one after the other.
#[must_use]
pub fn four(inputs: [&[u8]; LANES]) -> Option<[[u8; 32]; LANES]> {
    let length = inputs[0].len();
    if inputs.iter().any(|input| input.len() != length) {
        return None;
    }
    lanes::four(inputs)
}

#[cfg(not(target_arch = "x86_64"))]
mod lanes {
    use super::LANES;

    pub(super) fn four(_: [&[u8]; LANES]) -> Option<[[u8; 32]; LANES]> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod lanes {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi64x,
        _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
        _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::LANES;
    use crate::sha_lanes::{BLOCK, Block, available, each, end, load, store};

    /// The constants of the steps, four for each vector of words.
    static STEPS: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    pub(super) fn four(inputs: [&[u8]; LANES]) -> Option<[[u8; 32]; LANES]> {
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

    /// The eight words of each hash so far, as the instructions want them: words 0, 1, 4, 5 and words
    /// 2, 3, 6, 7, the first of them in the highest quarter.
    struct State {
        abef: [[u32; 4]; LANES],
        cdgh: [[u32; 4]; LANES],
    }

    impl State {
        fn new() -> Self {
            Self {
                abef: [[0x9b05_688c, 0x510e_527f, 0xbb67_ae85, 0x6a09_e667]; LANES],
                cdgh: [[0x5be0_cd19, 0x1f83_d9ab, 0xa54f_f53a, 0x3c6e_f372]; LANES],
            }
        }

        fn digests(&self) -> [[u8; 32]; LANES] {
            std::array::from_fn(|lane| {
                let ([f, e, b, a], [h, g, d, c]) = (self.abef[lane], self.cdgh[lane]);
                let mut digest = [0; 32];
                for (bytes, word) in digest.chunks_exact_mut(4).zip([a, b, c, d, e, f, g, h]) {
                    bytes.copy_from_slice(&word.to_be_bytes());
                }
                digest
            })
        }

        /// Takes in as many blocks of each input as the shortest has.
        #[target_feature(enable = "sha,sse2,ssse3")]
        fn take(&mut self, inputs: [&[Block]; LANES]) {
            let mut abef = [_mm_setzero_si128(); LANES];
            let mut cdgh = abef;
            each!(I, {
                abef[I] = load(&self.abef[I]);
                cdgh[I] = load(&self.cdgh[I]);
            });
            let [a, b, c, d] = inputs;
            for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
                one_block(&mut abef, &mut cdgh, [a, b, c, d]);
            }
            each!(I, {
                store(&mut self.abef[I], abef[I]);
                store(&mut self.cdgh[I], cdgh[I]);
            });
        }
    }

    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3")]
    fn one_block(
        abef: &mut [__m128i; LANES],
        cdgh: &mut [__m128i; LANES],
        blocks: [&Block; LANES],
    ) {
        // words are big-endian
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let (abef_before, cdgh_before) = (*abef, *cdgh);
        // the sixteen words of the message that the next steps need, four in each vector
        let mut words = [[_mm_setzero_si128(); LANES]; 4];
        // four steps, on the words and constants of one vector
        macro_rules! steps {
            ($constants:expr, $at:literal) => {{
                let constants = load(&$constants);
                each!(I, {
                    let sum = _mm_add_epi32(words[$at][I], constants);
                    cdgh[I] = _mm_sha256rnds2_epu32(cdgh[I], abef[I], sum);
                    let rest = _mm_shuffle_epi32::<0x0e>(sum);
                    abef[I] = _mm_sha256rnds2_epu32(abef[I], cdgh[I], rest);
                });
            }};
        }
        macro_rules! first {
            ($($at:literal)*) => {$(
                each!(I, {
                    let bytes = &blocks[I].as_chunks::<16>().0[$at];
                    // SAFETY: 16 bytes that may be read, wherever they lie
                    let raw = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
                    words[$at][I] = _mm_shuffle_epi8(raw, swap);
                });
                steps!(STEPS[$at], $at);
            )*};
        }
        // the words that follow from the sixteen before, and their steps
        macro_rules! next {
            ($constants:ident: $($at:literal)*) => {$(
                each!(I, {
                    let last = words[($at + 3) % 4][I];
                    let mixed = _mm_sha256msg1_epu32(words[$at][I], words[($at + 1) % 4][I]);
                    let moved = _mm_alignr_epi8::<4>(last, words[($at + 2) % 4][I]);
                    words[$at][I] = _mm_sha256msg2_epu32(_mm_add_epi32(mixed, moved), last);
                });
                steps!($constants[$at], $at);
            )*};
        }
        first!(0 1 2 3);
        for constants in STEPS[4..].as_chunks::<4>().0 {
            next!(constants: 0 1 2 3);
        }
        each!(I, {
            abef[I] = _mm_add_epi32(abef[I], abef_before[I]);
            cdgh[I] = _mm_add_epi32(cdgh[I], cdgh_before[I]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_inputs() {
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(40_000).collect();
        let mut inputs: Vec<&[u8]> = bytes.chunks(3_000).collect();
        // a short one in the middle, too
        inputs.insert(2, &bytes[5..77]);
        for count in 0..inputs.len() {
            let alone = inputs[..count].iter().map(|i| <[u8; 32]>::from(Sha256::digest(i)));
            assert_eq!(each(&inputs[..count]), alone.collect::<Vec<_>>(), "{count}");
        }
    }

    #[test]
    fn every_length_gives_what_one_by_one_gives() {
        let bytes: Vec<u8> =
            (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        // around the ends of blocks, and longer ones
        let lengths = (0..200).chain([1000, 1023, 1024, 1025, 4000]);
        for length in lengths {
            let inputs = [0, 1, 17, 96].map(|from| &bytes[from..from + length]);
            let Some(digests) = four(inputs) else {
                assert!(!is_quick(), "inputs of one length");
                return;
            };
            for (input, digest) in inputs.iter().zip(digests) {
                assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(input)), "{length}");
            }
        }
    }

    #[test]
    fn inputs_of_different_lengths_are_not_taken() {
        assert!(four([b"abc", b"abc", b"abc", b"ab"]).is_none());
    }
}
