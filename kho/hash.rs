// SPDX-License-Identifier: GPL-2.0

//! The two hashes of the formats: FNV-1a over bytes, and a mixer over words.
//!
//! Both detect damage and tell layouts apart; neither defends against an adversary.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
const MIX_START: u64 = 0x9e37_79b9_7f4a_7c15;

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
    let mut hash = MIX_START;
    let mut i = 0;
    while i < words.len() {
        hash = stir(hash ^ words[i]);
        i += 1;
    }
    hash
}

/// Returns the first word of which [`mix`] makes `sum` when `rest` follows. There is exactly one,
/// since each step of the mixer can be undone.
pub const fn first_word(sum: u64, rest: &[u64]) -> u64 {
    let mut hash = sum;
    let mut i = rest.len();
    while i > 0 {
        i -= 1;
        hash = unstir(hash) ^ rest[i];
    }
    unstir(hash) ^ MIX_START
}

const fn stir(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Undoes [`stir`]: its steps in reverse, with the inverses of its factors modulo 2^64.
const fn unstir(hash: u64) -> u64 {
    let hash = hash ^ (hash >> 31) ^ (hash >> 62);
    let hash = hash.wrapping_mul(0x3196_42b2_d24d_8ec3);
    let hash = hash ^ (hash >> 27) ^ (hash >> 54);
    let hash = hash.wrapping_mul(0x96de_1b17_3f11_9089);
    hash ^ (hash >> 30) ^ (hash >> 60)
}

const _: () = assert!(unstir(stir(0x0123_4567_89ab_cdef)) == 0x0123_4567_89ab_cdef);
const _: () = assert!(first_word(mix(&[!7, 1, 2, 3]), &[1, 2, 3]) == !7);
