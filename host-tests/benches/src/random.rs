// SPDX-License-Identifier: GPL-2.0

//! Random numbers that cost next to nothing, the same in each run.

/// A generator (xorshift).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts one.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed) | 1)
    }

    /// Returns the next number.
    #[inline(always)]
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `limit`, which is not 0.
    #[inline(always)]
    pub fn below(&mut self, limit: usize) -> usize {
        // The upper half of a product instead of a division.
        (((self.next_u64() >> 32) * limit as u64) >> 32) as usize
    }

    /// Returns whether something happens that does so in `percent` of all cases.
    #[inline]
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Turns numbers side by side into numbers far apart.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
