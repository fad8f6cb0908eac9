// SPDX-License-Identifier: GPL-2.0

//! Staying on a CPU, and what each CPU has to itself, without a call where that can be had.

use core::marker::PhantomData;

use kernel::prelude::*;

use crate::seams::Machine;

/// Stays on the current CPU while it lives: no other task runs here, interrupts do. Nests. Its
/// holder must not sleep.
///
/// Cost: in a kernel for x86-64 one instruction to begin and two to end, none of them locked or a
/// call; elsewhere the calls of [`CpuLocal`](crate::CpuLocal).
#[must_use = "it ends when it is dropped"]
pub struct Pinned<'a> {
    pin: arch::Pin<'a>,
    /// It belongs to this CPU: neither `Send` nor `Sync`.
    _here: PhantomData<*mut ()>,
}

impl<'a> Pinned<'a> {
    /// Stays on the current CPU.
    #[inline(always)]
    pub fn new(machine: &'a dyn Machine) -> Self {
        Self {
            pin: arch::Pin::new(machine),
            _here: PhantomData,
        }
    }
}

impl Drop for Pinned<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.pin.end();
    }
}

/// A value for each CPU, on cache lines of its own. It is dropped without its values.
pub struct PerCpu<T> {
    values: arch::Values<T>,
}

impl<T: Send> PerCpu<T> {
    /// Makes them; `init` is asked for one for each CPU that there can be. May sleep.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn new(machine: &dyn Machine, init: impl FnMut(usize) -> T) -> Result<Self> {
        const { assert!(!core::mem::needs_drop::<T>() && align_of::<T>() <= 4096) };
        Ok(Self {
            values: arch::Values::new(machine, init)?,
        })
    }

    /// Returns this CPU's. It may be used by what interrupts the holder, too, hence the pointer.
    #[inline(always)]
    pub fn here(&self, pinned: &Pinned<'_>) -> *mut T {
        self.values.here(&pinned.pin)
    }

    /// Returns that of a CPU; `None` if there is no such CPU.
    pub fn of(&self, cpu: usize) -> Option<*mut T> {
        self.values.of(cpu)
    }
}

// SAFETY: what is inside is reached through raw pointers only.
unsafe impl<T: Send> Send for PerCpu<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for PerCpu<T> {}

/// What `preempt_disable()`, `preempt_enable()` and `this_cpu_ptr()` are on x86
/// (`arch/x86/include/asm/preempt.h`, `percpu.h`): changes of a variable of the CPU's own, an
/// addition. The kernel crate has no abstraction for it, and helpers in C are calls. A kernel that
/// wants to hear of each of them (tracing, debugging) gets the calls.
#[cfg(all(
    CONFIG_RUST,
    CONFIG_X86_64,
    CONFIG_SMP,
    CONFIG_PREEMPTION,
    not(any(CONFIG_DEBUG_PREEMPT, CONFIG_TRACE_PREEMPT_TOGGLE))
))]
mod arch {
    use core::arch::asm;
    use core::marker::PhantomData;

    use super::Machine;
    pub(super) use crate::kho::Values;

    #[cfg(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS)]
    macro_rules! count {
        ($operation:literal) => {
            concat!($operation, "q %gs:__preempt_count(%rip)")
        };
    }
    #[cfg(not(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS))]
    macro_rules! count {
        ($operation:literal) => {
            concat!($operation, "l %gs:__preempt_count(%rip)")
        };
    }

    pub(super) struct Pin<'a>(PhantomData<&'a dyn Machine>);

    impl<'a> Pin<'a> {
        #[inline(always)]
        pub(super) fn new(_machine: &'a dyn Machine) -> Self {
            // SAFETY: counts up what `end` counts down; nothing is moved before it, as memory is
            // not declared untouched.
            unsafe { asm!(count!("inc"), options(att_syntax, nostack)) };
            Self(PhantomData)
        }

        #[inline(always)]
        pub(super) fn end(&mut self) {
            // 0 means that this CPU is not held any more, and somebody else should run: both are in
            // the one number.
            // SAFETY: counts down what `new` counted up; nothing is moved behind it, as memory is
            // not declared untouched. The thunk saves all registers but the flags, and asks for no
            // alignment of the stack; there is no red zone below it that the call would write to.
            unsafe {
                asm!(
                    count!("dec"),
                    "jnz 2f",
                    "call preempt_schedule_thunk",
                    "2:",
                    options(att_syntax, nostack)
                )
            };
        }
    }

    impl<T> Values<T> {
        #[inline(always)]
        pub(super) fn here(&self, _pin: &Pin<'_>) -> *mut T {
            let mut here = self.base();
            // SAFETY: reads a number that cannot change while this CPU is not left.
            unsafe {
                asm!(
                    "addq %gs:this_cpu_off(%rip), {here}",
                    here = inout(reg) here,
                    options(att_syntax, nostack, readonly)
                )
            };
            here
        }
    }
}

#[cfg(all(
    CONFIG_RUST,
    not(all(
        CONFIG_X86_64,
        CONFIG_SMP,
        CONFIG_PREEMPTION,
        not(any(CONFIG_DEBUG_PREEMPT, CONFIG_TRACE_PREEMPT_TOGGLE))
    ))
))]
mod arch {
    use super::Machine;
    pub(super) use crate::kho::Values;

    pub(super) struct Pin<'a> {
        cpu: usize,
        machine: &'a dyn Machine,
    }

    impl<'a> Pin<'a> {
        pub(super) fn new(machine: &'a dyn Machine) -> Self {
            Self {
                cpu: machine.pin(),
                machine,
            }
        }

        pub(super) fn end(&mut self) {
            // SAFETY: `new` pinned; called once, when the holder is dropped.
            unsafe { self.machine.unpin() };
        }
    }

    impl<T> Values<T> {
        pub(super) fn here(&self, pin: &Pin<'_>) -> *mut T {
            self.of(pin.cpu).unwrap_or(core::ptr::null_mut())
        }
    }
}

#[cfg(not(CONFIG_RUST))]
mod arch {
    use super::Machine;
    use core::cell::UnsafeCell;
    use kernel::prelude::*;

    #[cfg(not(feature = "thread_is_cpu"))]
    pub(super) struct Pin<'a> {
        cpu: usize,
        machine: &'a dyn Machine,
    }

    #[cfg(not(feature = "thread_is_cpu"))]
    impl<'a> Pin<'a> {
        #[inline(always)]
        pub(super) fn new(machine: &'a dyn Machine) -> Self {
            Self {
                cpu: machine.pin(),
                machine,
            }
        }

        #[inline(always)]
        pub(super) fn end(&mut self) {
            // SAFETY: `new` pinned; called once, when the holder is dropped.
            unsafe { self.machine.unpin() };
        }
    }

    #[cfg(feature = "thread_is_cpu")]
    pub(super) use super::thread::Pin;

    /// A value on a cache line of its own; the value comes first.
    #[repr(C, align(64))]
    struct Line<T>(UnsafeCell<T>);

    pub(super) struct Values<T> {
        lines: KVVec<Line<T>>,
    }

    impl<T> Values<T> {
        pub(super) fn new(machine: &dyn Machine, mut init: impl FnMut(usize) -> T) -> Result<Self> {
            let mut lines = KVVec::with_capacity(machine.nr_cpus(), GFP_KERNEL)?;
            for cpu in 0..machine.nr_cpus() {
                lines.push(Line(UnsafeCell::new(init(cpu))), GFP_KERNEL)?;
            }
            Ok(Self { lines })
        }

        #[inline(always)]
        pub(super) fn here(&self, pin: &Pin<'_>) -> *mut T {
            // SAFETY: the contract of `CpuLocal`: the number is below `nr_cpus`, which is the
            // number of lines.
            let line = unsafe { self.lines.as_ptr().add(pin.cpu) };
            // As below.
            #[cfg(models)]
            kernel::models::exclusive(line.addr());
            line.cast_mut().cast()
        }

        pub(super) fn of(&self, cpu: usize) -> Option<*mut T> {
            let value = self.lines.get(cpu)?.0.get();
            // Whoever asks has it to itself, or loom has something to say.
            #[cfg(models)]
            kernel::models::exclusive(value.addr());
            Some(value)
        }
    }
}

/// A thread is a CPU for its whole life: the machine is asked once.
#[cfg(all(not(CONFIG_RUST), feature = "thread_is_cpu"))]
mod thread {
    use core::cell::Cell;
    use core::marker::PhantomData;

    use super::Machine;

    const NONE: usize = usize::MAX;

    std::thread_local! {
        static CPU: Cell<usize> = const { Cell::new(NONE) };
    }

    pub(super) struct Pin<'a> {
        pub(super) cpu: usize,
        _machine: PhantomData<&'a dyn Machine>,
    }

    impl<'a> Pin<'a> {
        #[inline(always)]
        pub(super) fn new(machine: &'a dyn Machine) -> Self {
            let cpu = match CPU.get() {
                NONE => ask(machine),
                cpu => cpu,
            };
            Self {
                cpu,
                _machine: PhantomData,
            }
        }

        #[inline(always)]
        pub(super) fn end(&mut self) {}
    }

    #[cold]
    #[inline(never)]
    fn ask(machine: &dyn Machine) -> usize {
        let cpu = machine.pin();
        // SAFETY: just pinned.
        unsafe { machine.unpin() };
        CPU.set(cpu);
        cpu
    }

    /// Forgets which CPU this thread is: it ends, and another one will be it.
    pub fn forget_cpu() {
        CPU.set(NONE);
    }
}

#[cfg(all(not(CONFIG_RUST), feature = "thread_is_cpu"))]
pub use thread::forget_cpu;
