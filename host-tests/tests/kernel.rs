// SPDX-License-Identifier: GPL-2.0

//! The stand-in kernel is as strict as it says.

use kernel::alloc::flags::{
    GFP_ATOMIC,
    GFP_KERNEL,
    GFP_NOWAIT, //
};
use kernel::fault::fail_nth_allocation;
use kernel::prelude::{
    pr_err,
    pr_info,
    CStr,
    Error,
    InPlaceInit,
    KBox,
    KVVec,
    KVec,
    EINVAL,
    ENOMEM,
    EPROBE_DEFER, //
};
use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Full,
    Relaxed,
    Release, //
};
use kernel::sync::{
    Arc,
    Mutex,
    SetOnce,
    SpinLock, //
};
use kernel::types::ForeignOwnable;
use kernel::{
    new_mutex,
    new_spinlock, //
};

#[allow(dead_code)]
const __LOG_PREFIX: &[u8] = b"test\0";

#[test]
fn atomics_do_what_the_kernel_says() {
    let word = Atomic::new(5u64);
    assert_eq!(word.xchg(7, Full), 5);
    assert_eq!(word.cmpxchg(7, 8, Relaxed), Ok(7));
    assert_eq!(word.cmpxchg(7, 9, Acquire), Err(8));
    assert_eq!(word.fetch_add(u64::MAX, Relaxed), 8);
    assert_eq!(word.fetch_sub(8u64, Full), 7);
    assert_eq!(word.load(Acquire), u64::MAX);
    let flag = Atomic::new(false);
    flag.store(true, Release);
    assert!(flag.load(Relaxed));
    let mut number = 3;
    let pointer = Atomic::new(&raw mut number);
    assert_eq!(pointer.xchg(core::ptr::null_mut(), Full), &raw mut number);
    assert!(pointer.load(Relaxed).is_null());
}

#[test]
fn stores_are_observed_and_loads_are_not() {
    let nr_seen = std::rc::Rc::new(core::cell::Cell::new(0));
    let seen = nr_seen.clone();
    kernel::observe::set_observer(Some(Box::new(move |_| seen.set(seen.get() + 1))));
    let word = Atomic::new(0u32);
    word.store(1, Relaxed);
    let _ = word.load(Relaxed);
    let _ = word.cmpxchg(0, 1, Relaxed);
    word.add(1u32, Relaxed);
    kernel::observe::set_observer(None);
    word.store(2, Relaxed);
    assert_eq!(nr_seen.get(), 3);
}

#[test]
fn an_allocation_fails_when_told_to() {
    fail_nth_allocation(Some(2));
    let mut vec = KVec::new();
    vec.push(1, GFP_KERNEL).unwrap();
    // There is no room for a second without an allocation, which fails.
    assert!(vec.push(2, GFP_KERNEL).is_err());
    assert_eq!(vec, [1]);
    assert!(KBox::new(3, GFP_KERNEL).is_ok());
    fail_nth_allocation(Some(1));
    let failed: Result<KBox<u8>, Error> = KBox::new(3, GFP_NOWAIT).map_err(Error::from);
    assert_eq!(failed.err(), Some(ENOMEM));
    fail_nth_allocation(None);
}

#[test]
fn locks_lock() {
    let counter = Arc::pin_init(new_mutex!(0, "counter"), GFP_KERNEL).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let counter = counter.clone();
            scope.spawn(move || {
                for _ in 0..1000 {
                    *counter.lock() += 1;
                }
            });
        }
    });
    assert_eq!(*counter.lock(), 4000);
    let guard = counter.lock();
    assert!(counter.try_lock().is_none());
    drop(guard);
    assert!(counter.try_lock().is_some());
}

fn spinlock() -> core::pin::Pin<KBox<SpinLock<u32>>> {
    KBox::pin_init(new_spinlock!(0, "spin"), GFP_KERNEL).unwrap()
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_lock_taken_twice_panics() {
    let lock: core::pin::Pin<KBox<Mutex<u32>>> =
        KBox::pin_init(new_mutex!(0, "mutex"), GFP_KERNEL).unwrap();
    let _first = lock.lock();
    let _second = lock.lock();
}

#[test]
#[should_panic(expected = "may sleep")]
fn sleeping_allocations_are_refused_under_a_spin_lock() {
    let lock = spinlock();
    let _guard = lock.lock();
    let _ = KBox::new(1, GFP_KERNEL);
}

#[test]
fn atomic_allocations_are_fine_under_a_spin_lock() {
    let lock = spinlock();
    let guard = lock.lock();
    assert!(KBox::new(1, GFP_ATOMIC).is_ok());
    drop(guard);
    assert!(KBox::new(1, GFP_KERNEL).is_ok());
}

#[test]
fn what_is_logged_is_remembered() {
    kernel::print::take_log();
    pr_info!("hello {}\n", 1);
    pr_err!("no {what}\n", what = "way");
    assert_eq!(kernel::print::take_complaints(), ["test: no way"]);
    assert!(kernel::print::take_log().is_empty());
}

#[test]
fn errors_have_names_and_numbers() {
    assert_eq!(EINVAL.to_errno(), -22);
    assert_eq!(format!("{EPROBE_DEFER:?}"), "EPROBE_DEFER");
    assert_eq!(Error::from_errno(-12), ENOMEM);
    assert_eq!(Error::from_errno(7), EINVAL);
}

#[test]
fn what_is_set_once_stays() {
    let once = SetOnce::new();
    assert_eq!(once.copy(), None);
    assert!(once.populate(1));
    assert!(!once.populate(2));
    assert_eq!(once.copy(), Some(1));
    let name: &CStr = kernel::c_str!("name");
    assert_eq!(name.to_bytes(), b"name");
}

#[test]
fn boxes_and_vectors_own_their_elements_once() {
    let counted = std::rc::Rc::new(());
    let nr = || std::rc::Rc::strong_count(&counted) - 1;
    let mut vec = KVVec::new();
    for _ in 0..10 {
        vec.push(counted.clone(), GFP_KERNEL).unwrap();
    }
    assert_eq!(nr(), 10);
    vec.truncate(8);
    drop(vec.pop());
    drop(vec.remove(0).unwrap());
    assert!(vec.remove(6).is_err());
    assert_eq!(nr(), 6);
    vec.shrink_to(0, GFP_KERNEL).unwrap();
    assert_eq!((vec.capacity(), nr()), (6, 6));
    let mut n = 0;
    vec.retain(|_| {
        n += 1;
        n % 2 == 0
    });
    assert_eq!((vec.len(), nr()), (3, 3));
    drop(vec.drain_all().next());
    assert_eq!((vec.len(), nr()), (0, 0));
    vec.extend_with(5, counted.clone(), GFP_KERNEL).unwrap();
    let mut iter = vec.into_iter();
    drop(iter.next());
    assert_eq!(nr(), 4);
    drop(iter);
    let boxed = KBox::new(counted.clone(), GFP_KERNEL).unwrap();
    let raw = boxed.into_foreign();
    // SAFETY: from `into_foreign` above, and taken back once.
    let boxed: KBox<std::rc::Rc<()>> = unsafe { KBox::from_foreign(raw) };
    assert_eq!(nr(), 1);
    assert_eq!(std::rc::Rc::strong_count(&KBox::into_inner(boxed)), 2);
    assert_eq!(nr(), 0);
}

#[test]
fn vectors_insert_remove_and_hold_what_has_no_size() {
    let mut vec = KVec::with_capacity(4, GFP_KERNEL).unwrap();
    vec.extend_from_slice(&[1, 2, 4], GFP_KERNEL).unwrap();
    vec.insert_within_capacity(2, 3).unwrap();
    assert!(vec.insert_within_capacity(0, 0).is_err());
    assert_eq!(vec.remove(0).unwrap(), 1);
    assert_eq!(vec, [2, 3, 4]);
    assert_eq!(KVec::<u64>::zeroed(3, GFP_KERNEL).unwrap(), [0; 3]);
    let mut nothing = KVec::new();
    nothing.push((), GFP_KERNEL).unwrap();
    assert_eq!((nothing.len(), nothing.capacity()), (1, usize::MAX));
    assert_eq!(nothing.into_iter().count(), 1);
    let from: KVec<u8> = KBox::new([1, 2, 3], GFP_KERNEL).unwrap().into();
    assert_eq!(from, [1, 2, 3]);
}
