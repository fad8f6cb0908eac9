// SPDX-License-Identifier: GPL-2.0

//! What a contiguous view is made of.
//!
//! C header: `helpers.h`.

use kpreserve::prelude::*;

use crate::command::check;

extern "C" {
    fn selftest_faults(address: *const c_void) -> bool;
    fn selftest_mapped_bytes(address: *const c_void) -> c_ulong;
    fn selftest_maps_huge() -> bool;
}

/// What a huge page maps.
const HUGE_BYTES: usize = 2 << 20;

/// Checks a mapping: its last byte is there, the one behind its last page is not; and if its first
/// run, of `first_bytes`, is large enough, and kpreserve is built in, it begins with a huge page.
pub(crate) fn check_mapping(view: &[u64], first_bytes: usize) -> Result {
    let start = view.as_ptr().cast::<u8>();
    let last = start.wrapping_add(size_of_val(view).saturating_sub(1));
    // The mapping is that of whole runs.
    let behind = start.wrapping_add(size_of_val(view).next_multiple_of(4096));
    // SAFETY: reads a byte wherever it is; a fault is caught.
    let faults = unsafe { selftest_faults(last.cast()) };
    check("reading the last byte faults", faults, false)?;
    // SAFETY: as above.
    let faults = unsafe { selftest_faults(behind.cast()) };
    check("reading behind the mapping faults", faults, true)?;
    // SAFETY: the address is mapped as long as the view is there.
    let mapped_bytes = unsafe { selftest_mapped_bytes(start.cast()) };
    // SAFETY: no requirements.
    let is_huge = unsafe { selftest_maps_huge() } && first_bytes >= HUGE_BYTES;
    let expected = if is_huge { HUGE_BYTES } else { 4096 };
    check("bytes mapped at once", mapped_bytes, expected)
}
