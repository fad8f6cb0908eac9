// SPDX-License-Identifier: GPL-2.0

//! The two hashes of the formats: FNV-1a over bytes, and a mixer over words.
//!
//! Both detect damage and tell layouts apart; neither defends against an adversary.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Hashes bytes (FNV-1a, 64 bits), from `seed`; `0` stands for the standard offset basis.
pub const fn fnv1a(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = if seed == 0 { FNV_OFFSET } else { seed };
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(FNV_PRIME);
        i += 1;
    }
    hash
}

/// Folds a number into an FNV-1a hash, as its eight little-endian bytes.
pub const fn fnv1a_u64(seed: u64, value: u64) -> u64 {
    fnv1a(seed, &value.to_le_bytes())
}

/// Mixes words into a checksum: each word is xored in and stirred with the finaliser of splitmix64
/// (Steele, Lea, Flood, OOPSLA 2014).
#[inline]
pub const fn mix(words: &[u64]) -> u64 {
    let mut hash = 0x9e37_79b9_7f4a_7c15;
    let mut i = 0;
    while i < words.len() {
        hash ^= words[i];
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        i += 1;
    }
    hash
}
