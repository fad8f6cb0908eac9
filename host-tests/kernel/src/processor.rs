// SPDX-License-Identifier: GPL-2.0

//! Stands in for rust/kernel/processor.rs.

/// Lets somebody else run, who may change what the caller waits for.
#[inline]
pub fn cpu_relax() {
    #[cfg(models)]
    crate::models::relax();
    #[cfg(not(models))]
    core::hint::spin_loop();
}
