// SPDX-License-Identifier: GPL-2.0

//! One flipped bit of an image, and the bit that mends it.

use kpreserve::kho::Phys;
use kpreserve_sim::Image;

/// A bit of an image.
#[derive(Clone, Copy, Debug)]
pub struct Bit {
    /// The byte that it is in.
    pub at: u64,
    /// 0 to 7.
    pub bit: u32,
}

impl Bit {
    /// The `bit`th bit of what stands at `at`, in the order of the machine.
    pub fn of(at: u64, bit: u32) -> Bit {
        Bit {
            at: at + u64::from(bit / 8),
            bit: bit % 8,
        }
    }

    /// Flips it.
    pub fn flip(self, image: &mut Image) {
        let byte = self.byte(image);
        image.write(Phys::new(self.at), &[byte ^ (1 << self.bit)]);
    }

    /// Returns the byte that it is in.
    pub fn byte(self, image: &Image) -> u8 {
        let mut byte = [0];
        image.read(Phys::new(self.at), &mut byte);
        byte[0]
    }
}
