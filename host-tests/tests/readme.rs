// SPDX-License-Identifier: GPL-2.0

//! The example of README.md does what is said about it there.
//!
//! Tried with an example that was broken on purpose: a misspelt call; nothing linked; the next one
//! not stored in `pop()`; no look at a null handle; no `park()` when the buffer cannot be adopted; no
//! `discard()` in `push()`, none in `pop()`.

use kernel::fault::fail_nth_allocation;
use kernel::print::take_log;
use kpreserve_sim::Faults;
use kpreserve_testing::Kernel;

// As it stands there; build.rs has taken it out.
include!(concat!(env!("OUT_DIR"), "/readme.rs"));

fn nr_objects(list: &List) -> usize {
    list.conns.raw().counts().nr_objects
}

#[test]
fn the_next_kernel_pops_what_this_one_pushed() {
    let first = Kernel::boot();
    let mut list = List::open().unwrap();
    list.push(1, b"one").unwrap();
    list.push(2, &[2; 10_000]).unwrap();
    drop(list);

    let second = first.kexec();
    let mut list = List::open().unwrap();
    assert_eq!(list.pop(), Ok(Some(2)));
    assert_eq!(list.pop(), Ok(Some(1)));
    assert_eq!(list.pop(), Ok(None));
    assert_eq!(nr_objects(&list), 0);
    second.assert_sound();
}

#[test]
fn opening_is_exclusive_and_says_nothing() {
    let kernel = Kernel::boot();
    let list = List::open().unwrap();
    take_log();
    assert_eq!(List::open().err(), Some(EBUSY));
    // What the example spares itself by its look at `is_null`.
    let null = list.conns.claim(Handle::NULL);
    assert_eq!(null.err(), Some(EINVAL));
    assert_eq!(take_log().len(), 0);
    drop(list);
    List::open().unwrap();
    kernel.assert_sound();
}

#[test]
fn a_pop_that_meets_the_freeze_leaves_the_list_whole() {
    let kernel = Kernel::boot();
    let mut list = List::open().unwrap();
    list.push(1, b"one").unwrap();
    kernel.framework().freeze();
    assert_eq!(list.push(2, b"two"), Err(EBUSY));
    assert_eq!(list.pop(), Err(EBUSY));
    assert_eq!(nr_objects(&list), 1);
    drop(list);
    let next = kernel.kexec();
    assert_eq!(List::open().unwrap().pop(), Ok(Some(1)));
    next.assert_sound();
}

#[test]
fn a_push_that_fails_leaves_nothing_behind() {
    let kernel = Kernel::boot();
    let mut list = List::open().unwrap();
    let bytes = [7; 100_000];
    list.push(1, &bytes).unwrap();
    assert_eq!(list.pop(), Ok(Some(1)));
    let held = kernel.machine().counters().held();
    let record = free_record();
    let (mut calls, mut allocations) = (0, 0);
    for n in 1..=40 {
        kernel.machine().set_faults(Faults::nth(n));
        let pushed = list.push(1, &bytes);
        kernel.machine().set_faults(Faults::none());
        calls += usize::from(pushed.is_err());
        check(&mut list, pushed);

        fail_nth_allocation(Some(n));
        let pushed = list.push(1, &bytes);
        fail_nth_allocation(None);
        allocations += usize::from(pushed.is_err());
        check(&mut list, pushed);
        assert_eq!(kernel.machine().counters().held(), held);
        assert_eq!(free_record(), record);
    }
    assert!(calls > 0 && allocations > 0);
    kernel.assert_sound();
}

/// Returns which record of the arena table the next area gets: another one, if a failed push kept it.
fn free_record() -> u32 {
    let area = PVec::<u8>::create(GFP_KERNEL).unwrap();
    let id = area.handle().id();
    area.discard().unwrap();
    id
}

/// Pops what was pushed, after which there is nothing.
fn check(list: &mut List, pushed: Result) {
    if pushed.is_ok() {
        assert_eq!(list.pop(), Ok(Some(1)));
    }
    assert_eq!(list.pop(), Ok(None));
    assert_eq!(nr_objects(list), 0);
}
