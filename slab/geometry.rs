// SPDX-License-Identifier: GPL-2.0

//! How slots are laid into a slab.

use kernel::prelude::*;

use kpreserve_kho::phys::{
    run_size_bytes,
    MAX_ORDER,
    PAGE_SHIFT,
    PAGE_SIZE_BYTES, //
};
use kpreserve_kho::refusal::Relation;
use kpreserve_kho::validate::{
    expect,
    expect_at_least,
    expect_at_most,
    expect_equal, //
};
use kpreserve_kho::{
    ArenaSer,
    Refusal, //
};

use crate::abi::HEADER_BYTES;
use crate::check::REDZONE_BYTES;

/// Slots are at least this far apart, and aligned to it, in bytes.
pub const STRIDE_MIN_BYTES: usize = 8;

/// The largest alignment that a slot can have, in bytes.
pub const ALIGN_MAX_BYTES: usize = PAGE_SIZE_BYTES;

/// From this order on, little waste is enough to accept a slab; below it, it also has to hold
/// [`NR_SLOTS_WISHED`] slots.
const ORDER_BIG: u8 = 3;
const NR_SLOTS_WISHED: usize = 8;

/// Slots are aligned to what their size is a multiple of, up to a cache line, where that costs no
/// slot.
const ALIGN_WISHED_BYTES: usize = 64;

/// `offset / stride` is `(offset * reciprocal) >> RECIPROCAL_SHIFT`.
///
/// Exact: with `reciprocal = ceil(2^44 / stride)` the error is below `offset * stride / 2^44`, and
/// both are below 2^22 ([`MAX_ORDER`]); the product stays below 2^22 * (2^41 + 1).
const RECIPROCAL_SHIFT: u32 = 44;

/// The layout of each slab of a cache.
///
/// # Invariants
///
/// - `1 <= nr_slots`; `slab_order <= MAX_ORDER`; the stride is a multiple of 8 and not 0;
///   `first_slot` is a multiple of 8, and fits into 16 bits.
/// - `HEADER_BYTES + nr_slots <= first_slot`, and `first_slot + nr_slots * stride <=
///   slab_bytes()`: header, tags and slots do not overlap and lie inside the slab.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Geometry {
    stride_bytes: u32,
    nr_slots: u32,
    first_slot: usize,
    slab_order: u8,
    reciprocal: u64,
    /// The bits of an address that say where it is in its slab.
    offset_mask: usize,
    nr_words: u32,
}

impl Geometry {
    /// Chooses a layout for objects of `size_bytes` that are aligned to `align_bytes`.
    ///
    /// The smallest slab with at least 8 slots that wastes at most 1/8 (header, tags and gaps
    /// included); from 32 KiB on the waste alone decides; where every slab wastes more, the one
    /// that wastes least.
    ///
    /// # Errors
    ///
    /// EINVAL if the size is 0 or no slab holds a slot of it, if the alignment is not a power of
    /// two or more than [`ALIGN_MAX_BYTES`].
    pub fn of(size_bytes: usize, align_bytes: usize) -> Result<Self> {
        Self::try_of(size_bytes, align_bytes).ok_or(EINVAL)
    }

    /// Like [`of`](Self::of), at compile time.
    pub const fn try_of(size_bytes: usize, align_bytes: usize) -> Option<Self> {
        if size_bytes == 0 || !align_bytes.is_power_of_two() || align_bytes > ALIGN_MAX_BYTES {
            return None;
        }
        let align = if align_bytes < STRIDE_MIN_BYTES {
            STRIDE_MIN_BYTES
        } else {
            align_bytes
        };
        if size_bytes > PAGE_SIZE_BYTES << MAX_ORDER {
            return None;
        }
        let stride = align_up(size_bytes, align);

        let mut best: Option<Self> = None;
        let mut order = 0;
        while order <= MAX_ORDER {
            if let Some(geometry) = Self::fit(stride, align, order) {
                let used = geometry.nr_slots as usize * stride;
                let thrifty = used >= geometry.slab_bytes() / 8 * 7;
                if thrifty && (geometry.nr_slots as usize >= NR_SLOTS_WISHED || order >= ORDER_BIG)
                {
                    return Some(geometry);
                }
                best = match best {
                    // Compares used / slab_bytes, both brought to the larger slab.
                    Some(other)
                        if (other.nr_slots as usize * stride) << (order - other.slab_order)
                            >= used =>
                    {
                        Some(other)
                    }
                    _ => Some(geometry),
                };
            }
            order += 1;
        }
        best
    }

    /// Chooses a layout for values of `T`.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn of_type<T>() -> Result<Self> {
        Self::of_object(size_of::<T>(), align_of::<T>())
    }

    /// Chooses a layout for objects, in debug builds with a redzone behind each, if there is room.
    pub(crate) fn of_object(size_bytes: usize, align_bytes: usize) -> Result<Self> {
        Self::of(size_bytes.saturating_add(REDZONE_BYTES), align_bytes)
            .or_else(|_| Self::of(size_bytes, align_bytes))
    }

    const fn fit(stride: usize, align: usize, order: u8) -> Option<Self> {
        let slab_bytes = PAGE_SIZE_BYTES << order;
        let mut nr_slots = match (slab_bytes - HEADER_BYTES).checked_div(stride + 1) {
            Some(nr_slots) => nr_slots,
            None => return None,
        };
        while nr_slots > 0 {
            let first_slot = align_up(HEADER_BYTES + nr_slots, align);
            if first_slot <= u16::MAX as usize && first_slot + nr_slots * stride <= slab_bytes {
                break;
            }
            nr_slots -= 1;
        }
        if nr_slots == 0 {
            return None;
        }
        let natural = 1 << stride.trailing_zeros();
        let wished = if natural < ALIGN_WISHED_BYTES {
            natural
        } else {
            ALIGN_WISHED_BYTES
        };
        let mut first_slot = align_up(HEADER_BYTES + nr_slots, align);
        if wished > align {
            let aligned = align_up(HEADER_BYTES + nr_slots, wished);
            if aligned <= u16::MAX as usize && aligned + nr_slots * stride <= slab_bytes {
                first_slot = aligned;
            }
        }
        // INVARIANT: the loop above ended where tags and slots fit; aligning the first slot was
        // undone unless they still did.
        Some(Self::new(stride as u32, nr_slots as u32, first_slot, order))
    }

    const fn new(stride_bytes: u32, nr_slots: u32, first_slot: usize, slab_order: u8) -> Self {
        Self {
            stride_bytes,
            nr_slots,
            first_slot,
            slab_order,
            reciprocal: match ((1u64 << RECIPROCAL_SHIFT) - 1).checked_div(stride_bytes as u64) {
                Some(quotient) => quotient + 1,
                None => 0,
            },
            offset_mask: (PAGE_SIZE_BYTES << slab_order) - 1,
            nr_words: nr_slots.div_ceil(64),
        }
    }

    /// Returns how far into its slab an address is, in bytes. Slabs are aligned to their size, as
    /// physical addresses and, by the invariants of the window, as virtual ones.
    #[inline(always)]
    pub(crate) const fn offset_of(&self, address: usize) -> usize {
        address & self.offset_mask
    }

    /// Takes the layout that an arena's descriptor, perhaps of the previous kernel, asks for.
    ///
    /// It need not be the one that [`of`](Self::of) would choose today; it has to be one that
    /// fits.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names the first field that is wrong.
    pub fn from_ser(ser: &ArenaSer) -> Result<Self, Refusal> {
        const S: &str = "ArenaSer";
        let at = u64::from(ser.id);
        expect_at_most(
            S,
            "slab_order",
            at,
            u64::from(ser.slab_order),
            u64::from(MAX_ORDER),
        )?;
        let slab_bytes = run_size_bytes(ser.slab_order).unwrap_or(PAGE_SIZE_BYTES) as u64;
        let stride = u64::from(ser.stride_bytes);
        let first_slot = u64::from(ser.first_slot);
        let nr_slots = u64::from(ser.nr_slots);
        let unit = STRIDE_MIN_BYTES as u64;

        expect_at_least(S, "stride_bytes", at, stride, unit)?;
        expect_at_most(S, "stride_bytes", at, stride, slab_bytes)?;
        expect(
            S,
            "stride_bytes",
            at,
            stride,
            unit,
            Relation::MultipleOf,
            stride % unit == 0,
        )?;
        expect_at_least(S, "nr_slots", at, nr_slots, 1)?;
        // Neither sum nor product can overflow: every factor is below 2^32.
        expect_at_least(
            S,
            "first_slot",
            at,
            first_slot,
            HEADER_BYTES as u64 + nr_slots,
        )?;
        expect(
            S,
            "first_slot",
            at,
            first_slot,
            unit,
            Relation::MultipleOf,
            first_slot % unit == 0,
        )?;
        expect_at_most(S, "first_slot", at, first_slot, slab_bytes)?;
        let room = slab_bytes.saturating_sub(first_slot).checked_div(stride);
        expect_at_most(S, "nr_slots", at, nr_slots, room.unwrap_or(0))?;
        // Only the elements of an area can have been changed half-way.
        expect_equal(S, "pending", at, ser.pending.load(), 0)?;
        // INVARIANT: the comparisons above, one by one.
        Ok(Self::new(
            ser.stride_bytes,
            ser.nr_slots,
            ser.first_slot as usize,
            ser.slab_order,
        ))
    }

    /// Writes the layout into a descriptor; its checksum is the caller's to renew.
    pub fn fill(&self, ser: &mut ArenaSer) {
        ser.stride_bytes = self.stride_bytes;
        ser.nr_slots = self.nr_slots;
        ser.first_slot = self.first_slot as u16;
        ser.slab_order = self.slab_order;
    }

    /// Returns the bytes from one slot to the next.
    #[inline]
    pub const fn stride_bytes(&self) -> usize {
        self.stride_bytes as usize
    }

    /// Returns the number of slots of a slab.
    #[inline]
    pub const fn nr_slots(&self) -> u32 {
        self.nr_slots
    }

    /// Returns the offset of the first slot in its slab, in bytes.
    #[inline]
    pub const fn first_slot(&self) -> usize {
        self.first_slot
    }

    /// Returns the order of a slab.
    #[inline]
    pub const fn slab_order(&self) -> u8 {
        self.slab_order
    }

    /// Returns the size of a slab in bytes.
    #[inline]
    pub const fn slab_bytes(&self) -> usize {
        PAGE_SIZE_BYTES << self.slab_order
    }

    /// Returns how many words of 64 bits it takes to have a bit for each slot of a slab.
    #[inline]
    pub const fn nr_words(&self) -> u32 {
        self.nr_words
    }

    /// Returns the bits of word `word` that stand for slots.
    #[inline]
    pub const fn word_mask(&self, word: u32) -> u64 {
        match self.nr_slots.checked_sub(word.saturating_mul(64)) {
            None | Some(0) => 0,
            Some(n) if n >= 64 => u64::MAX,
            Some(n) => (1 << n) - 1,
        }
    }

    /// Returns the offset of a slot in its slab, in bytes; `None` if there is no such slot.
    #[inline]
    pub const fn slot_offset(&self, slot: u32) -> Option<usize> {
        if slot >= self.nr_slots {
            return None;
        }
        Some(self.first_slot + slot as usize * self.stride_bytes as usize)
    }

    /// Returns which slot begins at `offset` bytes into a slab; `None` if none does.
    #[inline]
    pub const fn slot_at(&self, offset: usize) -> Option<u32> {
        let Some(within) = offset.checked_sub(self.first_slot) else {
            return None;
        };
        if within >= self.slab_bytes() {
            return None;
        }
        let slot = ((within as u64 * self.reciprocal) >> RECIPROCAL_SHIFT) as u32;
        if slot >= self.nr_slots || slot as usize * self.stride_bytes as usize != within {
            return None;
        }
        Some(slot)
    }

    /// Returns the number of the slot that holds what is `offset` bytes into a slab, where the caller
    /// knows that there is a slot.
    #[inline(always)]
    pub(crate) const fn slot_of(&self, offset: usize) -> usize {
        let within = offset.wrapping_sub(self.first_slot);
        ((within as u64).wrapping_mul(self.reciprocal) >> RECIPROCAL_SHIFT) as usize
    }

    /// Returns how many slabs there are in `run_bytes`, a power of two.
    #[inline]
    pub const fn nr_slabs(&self, run_bytes: usize) -> usize {
        run_bytes >> (PAGE_SHIFT + self.slab_order as u32)
    }

    /// Returns whether slots are apart from each other as values of `T` have to be.
    pub const fn holds<T>(&self) -> bool {
        self.fits(size_of::<T>(), align_of::<T>())
    }

    /// Returns whether slots have that size and alignment (a power of two), in bytes.
    pub const fn fits(&self, size_bytes: usize, align: usize) -> bool {
        size_bytes <= self.stride_bytes as usize
            && align <= ALIGN_MAX_BYTES
            && self.stride_bytes as usize & (align - 1) == 0
            && self.first_slot & (align - 1) == 0
    }
}

/// Rounds up to a multiple of a power of two.
const fn align_up(value: usize, align: usize) -> usize {
    (value + (align - 1)) & !(align - 1)
}

#[cfg(any(test, CONFIG_KPRESERVE_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_KPRESERVE_KUNIT_TEST,
    kernel::macros::kunit_tests(kpreserve_slab_geometry)
)]
mod tests {
    use super::*;
    use kpreserve_kho::SharedU64;

    /// Whether the invariants of a layout hold, and slots are found where they are.
    fn is_sound(geometry: &Geometry, size_bytes: usize, align: usize) -> bool {
        let nr_slots = geometry.nr_slots();
        let end = geometry.first_slot() + nr_slots as usize * geometry.stride_bytes();
        let mut sound = nr_slots >= 1
            && geometry.stride_bytes() >= size_bytes
            && geometry.stride_bytes() % align == 0
            && geometry.first_slot() % align == 0
            && geometry.first_slot() >= HEADER_BYTES + nr_slots as usize
            && end <= geometry.slab_bytes();
        for slot in 0..nr_slots {
            let Some(offset) = geometry.slot_offset(slot) else {
                return false;
            };
            sound &= geometry.slot_at(offset) == Some(slot);
            sound &= geometry.slot_at(offset + 1).is_none();
            sound &= geometry.slot_at(offset - 1).is_none();
        }
        sound && geometry.slot_at(end).is_none() && geometry.slot_offset(nr_slots).is_none()
    }

    #[test]
    fn every_size_has_a_sound_layout() -> Result {
        for shift in 0..8 {
            let align = 1 << shift;
            for size_bytes in Iterator::chain(1..300, [512, 2000, 4096, 5000, 8192, 65536, 100_000])
            {
                assert!(is_sound(
                    &Geometry::of(size_bytes, align)?,
                    size_bytes,
                    align
                ));
            }
        }
        Ok(())
    }

    #[test]
    fn waste_is_at_most_an_eighth() -> Result {
        for size_bytes in 8..=16384 {
            let size_bytes = size_bytes & !7;
            let geometry = Geometry::of(size_bytes, 8)?;
            let used = geometry.nr_slots() as usize * geometry.stride_bytes();
            assert!(used * 8 >= geometry.slab_bytes() * 7);
            assert!(geometry.nr_slots() >= 8 || geometry.slab_order() >= 3);
        }
        Ok(())
    }

    #[test]
    fn a_page_holds_62_objects_of_a_cache_line() -> Result {
        let geometry = Geometry::of(64, 8)?;
        assert_eq!(geometry.slab_order(), 0);
        assert_eq!(geometry.nr_slots(), 62);
        // On cache lines, though nobody asked for it.
        assert_eq!(geometry.first_slot(), 128);
        assert_eq!(geometry.word_mask(0), (1 << 62) - 1);
        assert_eq!(geometry.word_mask(1), 0);
        assert_eq!(geometry.word_mask(u32::MAX), 0);
        Ok(())
    }

    #[test]
    fn impossible_objects_are_refused() {
        assert_eq!(Geometry::of(0, 8).err(), Some(EINVAL));
        assert_eq!(Geometry::of(64, 0).err(), Some(EINVAL));
        assert_eq!(Geometry::of(64, 24).err(), Some(EINVAL));
        assert_eq!(Geometry::of(64, 8192).err(), Some(EINVAL));
        assert_eq!(Geometry::of(4 << 20, 8).err(), Some(EINVAL));
        assert_eq!(Geometry::of(usize::MAX, 8).err(), Some(EINVAL));
        assert!(Geometry::of((4 << 20) - 4096, 8).is_ok());
    }

    /// The descriptor of a cache with this layout.
    fn ser(geometry: &Geometry) -> ArenaSer {
        let mut ser = ArenaSer {
            kind: 1,
            id: 7,
            fingerprint: 0,
            version: 1,
            stride_bytes: 0,
            slab_order: 0,
            reserved0: 0,
            first_slot: 0,
            nr_slots: 0,
            len: SharedU64::new(0),
            generation: 1,
            reserved1: 0,
            pending: SharedU64::new(0),
            check: 0,
        };
        geometry.fill(&mut ser);
        ser
    }

    #[test]
    fn a_descriptor_gives_the_layout_back() -> Result {
        for size_bytes in [8, 24, 64, 100, 4096, 1 << 20] {
            let geometry = Geometry::of(size_bytes, 8)?;
            assert_eq!(Geometry::from_ser(&ser(&geometry)).ok(), Some(geometry));
        }
        Ok(())
    }

    /// The field that a changed descriptor is refused for.
    fn refused(change: impl FnOnce(&mut ArenaSer)) -> &'static str {
        let Ok(geometry) = Geometry::of(64, 8) else {
            return "no layout";
        };
        let mut ser = ser(&geometry);
        change(&mut ser);
        match Geometry::from_ser(&ser) {
            Ok(_) => "accepted",
            Err(refusal) => refusal.field,
        }
    }

    #[test]
    fn a_descriptor_that_does_not_fit_is_refused() {
        assert_eq!(refused(|_| {}), "accepted");
        assert_eq!(refused(|ser| ser.slab_order = 11), "slab_order");
        assert_eq!(refused(|ser| ser.slab_order = 255), "slab_order");
        assert_eq!(refused(|ser| ser.stride_bytes = 0), "stride_bytes");
        assert_eq!(refused(|ser| ser.stride_bytes = 68), "stride_bytes");
        assert_eq!(refused(|ser| ser.stride_bytes = 4104), "stride_bytes");
        assert_eq!(refused(|ser| ser.stride_bytes = u32::MAX), "stride_bytes");
        assert_eq!(refused(|ser| ser.nr_slots = 0), "nr_slots");
        assert_eq!(refused(|ser| ser.nr_slots = 63), "nr_slots");
        assert_eq!(refused(|ser| ser.nr_slots = u32::MAX), "first_slot");
        assert_eq!(refused(|ser| ser.first_slot = 117), "first_slot");
        assert_eq!(refused(|ser| ser.first_slot = 121), "first_slot");
        assert_eq!(refused(|ser| ser.first_slot = 4104), "first_slot");
        assert_eq!(refused(|ser| ser.first_slot = 136), "nr_slots");
        assert_eq!(refused(|ser| ser.pending.store(1)), "pending");
    }
}
