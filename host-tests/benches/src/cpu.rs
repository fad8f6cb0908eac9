// SPDX-License-Identifier: GPL-2.0

//! A thread is a CPU: it draws a number when it first asks, and hands it back when it ends.

use core::cell::Cell;
use std::sync::{
    Mutex,
    PoisonError, //
};

/// How many threads there can be at a time.
pub(crate) const NR_CPUS: usize = 64;

const NONE: usize = usize::MAX;

/// A bit a number that nobody has. The lock also orders what the last thread of a number did before
/// what the next one does.
static FREE: Mutex<u64> = Mutex::new(u64::MAX);

std::thread_local! {
    // Initialised at compile time and without a destructor: an access is one instruction.
    static CPU: Cell<usize> = const { Cell::new(NONE) };
    static GUARD: Guard = const { Guard };
}

/// Hands the number back when the thread ends.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        kpreserve_kho::pinned::forget_cpu();
        let cpu = CPU.replace(NONE);
        if cpu < NR_CPUS {
            *FREE.lock().unwrap_or_else(PoisonError::into_inner) |= 1 << cpu;
        }
    }
}

/// Returns the number of this thread, below [`NR_CPUS`].
#[inline(always)]
pub(crate) fn here() -> usize {
    let cpu = CPU.get();
    if cpu != NONE {
        return cpu;
    }
    draw()
}

#[cold]
#[inline(never)]
fn draw() -> usize {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let cpu = free.trailing_zeros() as usize;
    assert!(cpu < NR_CPUS, "more than {NR_CPUS} threads at a time");
    *free &= *free - 1;
    CPU.set(cpu);
    // A thread that is past its thread-locals keeps the number for good.
    let _ = GUARD.try_with(|_| ());
    cpu
}

#[cfg(test)]
mod tests {
    use super::{
        here,
        NR_CPUS, //
    };

    #[test]
    fn a_number_is_one_threads_and_comes_back() {
        let mine = here();
        assert_eq!(here(), mine);
        for _ in 0..3 * NR_CPUS {
            let other = std::thread::spawn(here).join().unwrap();
            assert_ne!(other, mine);
            assert!(other < NR_CPUS);
        }
    }
}
