//! What SHA-1 and SHA-256 of several inputs at once have in common: see `sha1` and `sha256`.
#![expect(unsafe_code, reason = "instructions that not every processor has")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// How many inputs are hashed together.
pub const LANES: usize = 4;

/// Whether the processor has the instructions.
#[cfg(target_arch = "x86_64")]
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse2")
}

/// Whether the processor has the instructions.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn available() -> bool {
    false
}

/// Bytes that SHA-1 and SHA-256 take in at a time.
#[cfg(target_arch = "x86_64")]
pub(crate) const BLOCK: usize = 64;

/// One of them.
#[cfg(target_arch = "x86_64")]
pub(crate) type Block = [u8; BLOCK];

/// The last bytes of an input of `length`, the bit after them and the length in bits, as both hashes
/// want them; and how many blocks that takes.
#[cfg(target_arch = "x86_64")]
pub(crate) fn end(rest: &[u8], length: usize) -> ([Block; 2], usize) {
    let mut blocks = [[0; BLOCK]; 2];
    let bytes = blocks.as_flattened_mut();
    bytes[..rest.len()].copy_from_slice(rest);
    bytes[rest.len()] = 0x80;
    let used = if rest.len() < BLOCK - 8 { 1 } else { 2 };
    bytes[used * BLOCK - 8..][..8].copy_from_slice(&(8 * length as u64).to_be_bytes());
    (blocks, used)
}

/// Does the same for each lane, with its number as a constant: a loop would keep all vectors in
/// memory where the compiler does not unroll it, as when it looks for small programs.
#[cfg(target_arch = "x86_64")]
macro_rules! each {
    ($lane:ident, $body:block) => {{
        $crate::sha_lanes::each!($lane, 0, $body);
        $crate::sha_lanes::each!($lane, 1, $body);
        $crate::sha_lanes::each!($lane, 2, $body);
        $crate::sha_lanes::each!($lane, 3, $body);
    }};
    ($lane:ident, $number:literal, $body:block) => {{
        const $lane: usize = $number;
        $body
    }};
}
#[cfg(target_arch = "x86_64")]
pub(crate) use each;

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
pub(crate) fn load(words: &[u32; 4]) -> __m128i {
    // SAFETY: 16 bytes that may be read, wherever they lie
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
pub(crate) fn store(words: &mut [u32; 4], vector: __m128i) {
    // SAFETY: 16 bytes that may be written, wherever they lie
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), vector) }
}
