// SPDX-License-Identifier: GPL-2.0

//! Bytes that follow from a place and a seed.

kpreserve::preservable! {
    /// 64 bytes.
    pub(crate) struct ItemSer {
        pub(crate) number: u64,
        pub(crate) words: [u64; 7],
    }
    compatible = "selftest-item", version = 1
}

/// Mixes a number and a seed (the finalizer of SplitMix64).
#[inline]
pub(crate) fn mix(number: u64, seed: u64) -> u64 {
    let mut x = number.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl ItemSer {
    /// Makes the item of that number.
    #[inline]
    pub(crate) fn new(number: u64, seed: u64) -> Self {
        let mut word = mix(number, seed);
        let words = core::array::from_fn(|i| {
            word = word.rotate_left(9).wrapping_add(i as u64);
            word
        });
        Self { number, words }
    }

    /// Returns whether this is the item of that number.
    #[inline]
    pub(crate) fn is(&self, number: u64, seed: u64) -> bool {
        let expected = Self::new(number, seed);
        self.number == expected.number && self.words == expected.words
    }
}
