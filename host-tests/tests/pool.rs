// SPDX-License-Identifier: GPL-2.0

//! Pools of preserved memory, under the boxes and vectors of the (stand-in) kernel crate.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | what leaves its class stays in its slot | `resizing_...`, `random_allocations_...` |
//! | __GFP_ZERO is not looked at when resizing | `resizing_...` |
//! | a free frees nothing | 5 tests |
//! | the old allocation is freed when a new one cannot be had | 3 tests |
//! | 64 bytes are copied, whatever the size | crash |
//! | a kept box is not published | 8 tests |
//! | each allocation is published | 6 tests |
//! | the seal is not compared | `hostile_handles_...` |
//! | a box that was taken is freed as if it were anonymous | 4 tests |
//! | the alignment does not count for the class | `allocations_are_aligned_...`, `random_...` |
//! | classes are not aligned | `allocations_are_aligned_...` |
//! | what has no size is freed | crash |
//! | a link stores the seal after the slot | `a_cut_at_each_step_...` (both) |
//! | finish() does nothing | `finish_frees_...` |
//! | the node is not passed on | `memory_comes_from_the_node_...` |

use core::alloc::Layout;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use kernel::alloc::flags::__GFP_ZERO;
use kernel::alloc::{
    Allocator,
    NumaNode, //
};
use kernel::fault::{
    fail_nth_allocation,
    nr_allocations, //
};
use kernel::prelude::{
    Box,
    Result,
    Vec,
    EBUSY,
    EINVAL,
    ENAMETOOLONG,
    ENOENT,
    ENOMEM,
    EPROBE_DEFER,
    ESTALE,
    GFP_ATOMIC,
    GFP_KERNEL, //
};
use kpreserve::allocator::SIZE_MAX_BYTES;
use kpreserve::{
    BoxHandle,
    BoxLink,
    Named,
    Node,
    Preservable,
    PreservedPool, //
};
use kpreserve_kho::hash::fnv1a_u64;
use kpreserve_sim::{
    Call,
    Config,
    Faults,
    Recorder,
    SimMachine, //
};
use kpreserve_testing::Kernel;

kpreserve::preserved_pool! {
    /// The pool of most tests.
    struct TestPool = c"test/pool"
    /// Another one.
    struct OtherPool = c"test/other";
    /// One whose classes would have too long names.
    struct LongPool = c"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123"
    /// One with a reserved name.
    struct HiddenPool = c".hidden"
}

kpreserve::preservable! {
    /// 64 bytes.
    pub struct NodeSer {
        /// A pattern.
        pub words: [u64; 8],
    }
    compatible = "pool-node", version = 1

    /// What finds the first box again.
    pub struct StateSer {
        /// The box.
        pub node: BoxHandle<NodeSer>,
    }
    compatible = "pool-state", version = 1

    /// An element of a list.
    pub struct ListedSer {
        /// Its number.
        pub number: u64,
        /// Follows from the number.
        pub words: [u64; 5],
        /// The element before.
        pub next: BoxHandle<ListedSer>,
    }
    compatible = "pool-listed", version = 1

    /// Where the list begins.
    pub struct ListSer {
        /// The element that was added last.
        pub first: BoxLink<ListedSer>,
    }
    compatible = "pool-list", version = 1
}

/// Other types of the same size.
mod other {
    kpreserve::preservable! {
        /// The next version.
        pub struct NewerSer {
            /// A pattern.
            pub words: [u64; 8],
        }
        compatible = "pool-node", version = 2

        /// The same version, another layout.
        pub struct ChangedSer {
            /// A pattern.
            pub sums: [u64; 8],
        }
        compatible = "pool-node", version = 1
    }
}

type TestBox<T> = Box<T, TestPool>;
type TestVec<T> = Vec<T, TestPool>;

fn node(word: u64) -> NodeSer {
    NodeSer { words: [word; 8] }
}

fn new_node(word: u64) -> TestBox<NodeSer> {
    TestBox::new(node(word), GFP_KERNEL).unwrap()
}

fn boot() -> Kernel {
    let kernel = Kernel::boot_with(Config::with_pages(4096));
    TestPool::open(GFP_KERNEL).unwrap();
    kernel
}

fn kexec(kernel: Kernel) -> Kernel {
    let next = kernel.kexec();
    TestPool::open(GFP_KERNEL).unwrap();
    next
}

fn error<T>(taken: Result<TestBox<T>>) -> Option<kernel::prelude::Error> {
    taken.err()
}

/// Every page that is out belongs to a key, and every key to the run table.
#[track_caller]
fn assert_nothing_leaked(kernel: &Kernel) {
    let held = kernel.machine().counters();
    assert_eq!(held.keys, kernel.framework().stats().nr_keys as u64);
    let keys = kernel.machine().image();
    let nr_pages: u64 = keys.keys().map(|(_, order)| 1 << order).sum();
    assert_eq!(held.pages_out, nr_pages);
    kernel.assert_sound();
}

#[test]
fn boxes_and_vectors_hold_what_is_put_into_them() {
    let kernel = boot();
    let boxes: std::vec::Vec<_> = (0..500).map(new_node).collect();
    // What has a destructor may live there, too.
    let counted = std::rc::Rc::new(());
    let mut vec = TestVec::new();
    for _ in 0..100 {
        vec.push(counted.clone(), GFP_KERNEL).unwrap();
    }
    for (word, node) in (0..).zip(&boxes) {
        assert_eq!(node.words, [word; 8]);
    }
    drop(boxes);
    drop(vec);
    assert_eq!(std::rc::Rc::strong_count(&counted), 1);
    assert_nothing_leaked(&kernel);
}

#[test]
fn a_vector_grows_through_the_classes() {
    let kernel = boot();
    let mut vec = TestVec::<u16>::new();
    let nr_max = SIZE_MAX_BYTES / 2;
    for i in 0..nr_max {
        vec.push(i as u16, GFP_KERNEL).unwrap();
    }
    assert_eq!(vec.capacity(), nr_max);
    // There is no larger class.
    assert!(vec.push(0, GFP_KERNEL).is_err());
    assert!(vec.iter().copied().eq((0..nr_max).map(|i| i as u16)));
    assert_eq!(TestPool::counts().unwrap().nr_objects, 0);
    drop(vec);
    assert!(TestBox::new([0u8; SIZE_MAX_BYTES], GFP_KERNEL).is_ok());
    assert!(TestBox::new([0u8; SIZE_MAX_BYTES + 1], GFP_KERNEL).is_err());
    assert_nothing_leaked(&kernel);
}

fn alloc(size: usize, align: usize) -> Option<NonNull<u8>> {
    let layout = Layout::from_size_align(size, align).unwrap();
    let start = TestPool::alloc(layout, GFP_KERNEL, NumaNode::NO_NODE).ok()?;
    assert!(start.len() >= size);
    assert_eq!(
        start.cast::<u8>().addr().get() % align.max(TestPool::MIN_ALIGN),
        0
    );
    Some(start.cast())
}

#[test]
fn allocations_are_aligned_up_to_a_page() {
    let kernel = boot();
    for shift in 0..13 {
        for size in [1, 8, 24, 48, 100, 1536, 4096, 5000, SIZE_MAX_BYTES] {
            for _ in 0..4 {
                assert!(alloc(size, 1 << shift).is_some(), "{size} {shift}");
            }
        }
    }
    assert!(alloc(8, 8192).is_none());
    kernel.assert_sound();
}

#[test]
fn what_has_no_size_takes_no_memory() {
    let kernel = boot();
    let bytes = TestPool::counts().unwrap().bytes;
    let unit = TestBox::new((), GFP_KERNEL).unwrap();
    let mut vec = TestVec::<[u64; 0]>::new();
    vec.push([], GFP_KERNEL).unwrap();
    drop((unit, vec, TestVec::<u64>::new()));
    assert!(alloc(0, 64).is_some());
    assert_eq!(TestPool::counts().unwrap().bytes, bytes);
    kernel.assert_sound();
}

/// Changes the size of an allocation of bytes.
fn resize(start: NonNull<u8>, old: usize, new: usize, flags: kernel::alloc::Flags) -> NonNull<u8> {
    let layout = |size| Layout::from_size_align(size, 8).unwrap();
    let (new, old) = (layout(new), layout(old));
    // SAFETY: an allocation of the pool, of the old size.
    let moved = unsafe { TestPool::realloc(Some(start), new, old, flags, NumaNode::NO_NODE) };
    moved.unwrap().cast()
}

fn bytes_of<'a>(start: NonNull<u8>, size: usize) -> &'a mut [u8] {
    // SAFETY: an allocation of that size, all of which was written, by the pool or by the test.
    unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), size) }
}

#[test]
fn resizing_stays_in_the_class_or_moves_and_zeroes_when_asked() {
    let kernel = boot();
    let start = alloc(64, 8).unwrap();
    // A free slot is zeros, asked for or not.
    assert_eq!(bytes_of(start, 64), [0; 64]);
    bytes_of(start, 64).fill(0xa5);
    let again = resize(start, 64, 50, GFP_KERNEL);
    assert_eq!(again, start);
    assert_eq!(resize(start, 50, 60, GFP_KERNEL | __GFP_ZERO), start);
    assert_eq!(bytes_of(start, 50), [0xa5; 50]);
    assert_eq!(bytes_of(start, 60)[50..], [0; 10]);
    bytes_of(start, 60).fill(0x5a);
    // Up and down.
    let moved = resize(start, 60, 200, GFP_KERNEL | __GFP_ZERO);
    assert_ne!(moved, start);
    assert_eq!(bytes_of(moved, 60), [0x5a; 60]);
    assert_eq!(bytes_of(moved, 200)[60..], [0; 140]);
    let small = resize(moved, 200, 20, GFP_KERNEL);
    assert_eq!(bytes_of(small, 20), [0x5a; 20]);
    // The slots that were left are free, and zeros, again.
    let mut slots: std::vec::Vec<_> = (0..64).map(|_| alloc(64, 8).unwrap()).collect();
    assert!(slots.contains(&start));
    assert!(slots.iter().all(|&slot| bytes_of(slot, 64) == [0; 64]));
    slots.clear();
    // Nothing but a free.
    resize(small, 20, 0, GFP_KERNEL);
    assert_eq!(TestPool::counts().unwrap().nr_quarantined, 0);
    kernel.assert_sound();
}

#[test]
fn random_allocations_never_overlap() {
    let kernel = boot();
    let mut seed = 1u64;
    let mut random = |below: usize| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) as usize % below
    };
    let mut held: std::vec::Vec<(NonNull<u8>, Layout, u8)> = std::vec::Vec::new();
    for round in 0..20_000 {
        let size_max = 1 << (1 + random(12));
        let size = 1 + random(size_max);
        let layout = Layout::from_size_align(size, 1 << random(7)).unwrap();
        let fill = round as u8;
        match random(3) {
            0 if held.len() > 50 => {
                let (start, layout, fill) = held.swap_remove(random(held.len()));
                assert!(bytes_of(start, layout.size()).iter().all(|&b| b == fill));
                // SAFETY: allocated for this layout, and forgotten.
                unsafe { TestPool::free(start, layout) };
            }
            1 if held.len() > 50 => {
                let at = random(held.len());
                let (start, old, before) = held[at];
                let (new, nid) = (layout.align_to(old.align()).unwrap(), NumaNode::NO_NODE);
                // SAFETY: allocated for this layout.
                let moved = unsafe { TestPool::realloc(Some(start), new, old, GFP_KERNEL, nid) };
                let start = moved.unwrap().cast::<u8>();
                assert_eq!(start.addr().get() % new.align(), 0);
                let nr_same = old.size().min(new.size());
                assert!(bytes_of(start, nr_same).iter().all(|&b| b == before));
                bytes_of(start, new.size()).fill(fill);
                held[at] = (start, new, fill);
            }
            _ => {
                let nid = NumaNode::NO_NODE;
                let start = TestPool::alloc(layout, GFP_KERNEL, nid)
                    .unwrap()
                    .cast::<u8>();
                assert_eq!(start.addr().get() % layout.align(), 0);
                assert!(bytes_of(start, size).iter().all(|&b| b == 0));
                bytes_of(start, size).fill(fill);
                held.push((start, layout, fill));
            }
        }
        while held.len() > 300 {
            let (start, layout, fill) = held.swap_remove(random(held.len()));
            assert!(bytes_of(start, layout.size()).iter().all(|&b| b == fill));
            // SAFETY: allocated for this layout, and forgotten.
            unsafe { TestPool::free(start, layout) };
        }
    }
    for (start, layout, fill) in held {
        assert!(bytes_of(start, layout.size()).iter().all(|&b| b == fill));
        // SAFETY: allocated for this layout, and forgotten.
        unsafe { TestPool::free(start, layout) };
    }
    assert_eq!(TestPool::counts().unwrap().nr_quarantined, 0);
    assert_nothing_leaked(&kernel);
}

/// Fills the pool with what no kernel knows of the one before, and leaves it there.
fn leave_anonymous() {
    for i in 0..400 {
        core::mem::forget(TestBox::new([0xa5a5u64; 8], GFP_KERNEL).unwrap());
        let mut vec = TestVec::new();
        vec.extend_with(1 + i, 0x5a5a_5a5au32, GFP_KERNEL).unwrap();
        core::mem::forget(vec);
    }
}

#[test]
fn anonymous_memory_comes_back_free_and_zeroed() {
    let mut kernel = boot();
    leave_anonymous();
    kernel = kexec(kernel);
    assert_eq!(TestPool::counts().unwrap().nr_objects, 0);
    let held = kernel.machine().counters().held();
    for _ in 0..400 {
        let found = TestBox::<[u64; 8]>::new_uninit(GFP_KERNEL).unwrap();
        // SAFETY: slots are zeros.
        assert_eq!(unsafe { found.assume_init_ref() }, &[0; 8]);
        core::mem::forget(found);
    }
    for i in 0..400 {
        let mut vec = TestVec::<u32>::with_capacity(1 + i, GFP_KERNEL).unwrap();
        let room: &[MaybeUninit<u32>] = vec.spare_capacity_mut();
        // SAFETY: slots are zeros.
        assert!(room.iter().all(|word| unsafe { word.assume_init() } == 0));
        core::mem::forget(vec);
    }
    // All of that is what the last kernel had.
    assert_eq!(kernel.machine().counters().held(), held);
    kernel.assert_sound();
}

#[test]
fn memory_does_not_grow_with_the_number_of_kernels() {
    let mut kernel = boot();
    leave_anonymous();
    let held = kernel.machine().counters().held();
    for _ in 0..20 {
        kernel = kexec(kernel);
        leave_anonymous();
        assert_eq!(kernel.machine().counters().held(), held);
    }
}

#[test]
fn a_kept_box_is_taken_here_and_by_the_next_kernel() {
    let mut kernel = boot();
    let handles: std::vec::Vec<_> = (0..300).map(|i| TestPool::keep(new_node(i))).collect();
    assert_eq!(TestPool::counts().unwrap().nr_objects, 300);
    let first = TestPool::take(handles[0]).unwrap();
    assert_eq!(first.words, [0; 8]);
    assert_eq!(error(TestPool::take(handles[0])), Some(EBUSY));
    // Kept again, it has the same handle.
    assert!(TestPool::keep(first) == handles[0]);
    for _ in 0..3 {
        leave_anonymous();
        kernel = kexec(kernel);
        for (i, &handle) in (0..).zip(&handles) {
            let mut taken = TestPool::take(handle).unwrap();
            assert_eq!(taken.words, [i; 8]);
            taken.words[3] = 7;
            taken.words[3] = i;
            // Still owned when the kernel stops, or given up: the next one finds it.
            if i % 2 == 0 {
                core::mem::forget(taken);
            } else {
                TestPool::keep(taken);
            }
        }
    }
    kernel = kexec(kernel);
    for &handle in &handles {
        drop(TestPool::take(handle).unwrap());
        assert_eq!(error(TestPool::take(handle)), Some(ENOENT));
    }
    assert_eq!(TestPool::counts().unwrap().nr_objects, 0);
    assert_nothing_leaked(&kernel);
}

#[test]
fn a_handle_is_stored_in_a_named_object() {
    let open = || {
        let new = StateSer {
            node: BoxHandle::NULL,
        };
        Named::<StateSer>::open(c"pool/state", new, GFP_KERNEL).unwrap()
    };
    let kernel = boot();
    open().node = TestPool::keep(new_node(5));
    let next = kexec(kernel);
    assert_eq!(TestPool::take(open().node).unwrap().words, [5; 8]);
    next.assert_sound();
}

#[test]
fn finish_frees_what_nobody_took() {
    let kernel = boot();
    let handles: std::vec::Vec<_> = (0..100).map(|i| TestPool::keep(new_node(i))).collect();
    leave_anonymous();
    let next = kexec(kernel);
    let taken: std::vec::Vec<_> = handles[..40]
        .iter()
        .map(|&handle| TestPool::take(handle).unwrap())
        .collect();
    let new = TestPool::keep(new_node(1000));
    assert_eq!(TestPool::finish(), Ok(60));
    assert_eq!(TestPool::finish(), Ok(0));
    assert_eq!(error(TestPool::take(handles[70])), Some(ENOENT));
    assert!((0..).zip(&taken).all(|(i, node)| node.words == [i; 8]));
    assert_eq!(TestPool::take(new).unwrap().words, [1000; 8]);
    // What the last kernel used, and this one does not, goes back.
    let before = TestPool::counts().unwrap().bytes;
    next.framework().work();
    assert!(TestPool::counts().unwrap().bytes < before);
    next.assert_sound();
}

#[test]
fn hostile_handles_are_refused() {
    let kernel = boot();
    let handle = TestPool::keep(new_node(1));
    let [object, seal] = handle.into_raw();
    assert_eq!(
        seal,
        fnv1a_u64(NodeSer::FINGERPRINT, NodeSer::VERSION.into())
    );
    let take = |raw| error(TestPool::take(BoxHandle::<NodeSer>::from_raw(raw)));
    assert_eq!(take([0, 0]), Some(EINVAL));
    assert_eq!(take([0, seal]), Some(EINVAL));
    assert_eq!(take([object, seal ^ 1]), Some(EINVAL));
    assert_eq!(take([object, 0]), Some(EINVAL));
    // Another type, version, layout or size.
    let raw = handle.into_raw();
    let newer = TestPool::take(BoxHandle::<other::NewerSer>::from_raw(raw));
    assert_eq!(error(newer), Some(EINVAL));
    let changed = TestPool::take(BoxHandle::<other::ChangedSer>::from_raw(raw));
    assert_eq!(error(changed), Some(EINVAL));
    assert_eq!(
        error(TestPool::take(BoxHandle::<u64>::from_raw(raw))),
        Some(EINVAL)
    );
    // Addresses that are none, or not of a slot.
    for object in [
        object + 8,
        object - 1,
        object & !4095,
        object ^ (1 << 40),
        u64::MAX,
        1,
        object & !((1 << 56) - 1),
    ] {
        assert_eq!(take([object, seal]), Some(EINVAL), "{object:#x}");
    }
    // Another tag: of an object to come, or gone.
    assert_eq!(take([object ^ (2 << 56), seal]), Some(ESTALE));
    // A slot that is in use, but anonymous; one that is free.
    let anonymous = new_node(2);
    let stride = 64;
    assert_eq!(take([object + stride, seal]), Some(ENOENT));
    drop(anonymous);
    assert_eq!(take([object + stride, seal]), Some(ENOENT));
    // The handle of another size class, with a seal that was forged, too.
    let big = TestPool::keep(TestBox::new([1u64; 16], GFP_KERNEL).unwrap());
    assert_eq!(take([big.into_raw()[0], seal]), Some(EINVAL));
    // A box that went, and another in its place.
    drop(TestPool::take(handle).unwrap());
    let next = TestPool::keep(new_node(3));
    assert_eq!(
        next.into_raw()[0] & ((1 << 56) - 1),
        object & ((1 << 56) - 1)
    );
    assert_eq!(error(TestPool::take(handle)), Some(ESTALE));
    assert_eq!(TestPool::take(next).unwrap().words, [3; 8]);
    kernel.assert_sound();
}

#[test]
fn pools_are_apart() {
    let kernel = boot();
    OtherPool::open(GFP_KERNEL).unwrap();
    let own = TestPool::keep(new_node(1));
    assert!(OtherPool::take(own).is_err_and(|error| error == EINVAL));
    let theirs = OtherPool::keep(Box::<_, OtherPool>::new(node(2), GFP_KERNEL).unwrap());
    assert_eq!(error(TestPool::take(theirs)), Some(EINVAL));
    assert_eq!(OtherPool::counts().unwrap().nr_objects, 1);
    kernel.assert_sound();
}

#[test]
fn a_pool_opens_once_a_boot_for_all_and_never_before() {
    let kernel = Kernel::boot();
    assert!(TestBox::new(1, GFP_KERNEL).is_err());
    assert_eq!(TestPool::counts().err(), Some(EINVAL));
    assert_eq!(TestPool::finish(), Err(EINVAL));
    assert_eq!(TestPool::set_node(Node(0)), Err(EINVAL));
    assert_eq!(error(TestPool::take(BoxHandle::<u64>::NULL)), Some(EINVAL));
    assert_eq!(TestPool::open(GFP_ATOMIC), Err(EINVAL));
    assert_eq!(LongPool::open(GFP_KERNEL), Err(ENAMETOOLONG));
    assert_eq!(HiddenPool::open(GFP_KERNEL), Err(EINVAL));
    kernel.framework().freeze();
    assert_eq!(TestPool::open(GFP_KERNEL), Err(EBUSY));
    kernel.framework().thaw();
    assert_eq!(kernel.framework().stats().nr_names, 0);
    TestPool::open(GFP_KERNEL).unwrap();
    let names = kernel.framework().stats().nr_names;
    let kept = new_node(1);
    TestPool::open(GFP_KERNEL).unwrap();
    assert_eq!(kernel.framework().stats().nr_names, names);
    assert_eq!(kept.words, [1; 8]);
    // The names are no user's.
    use kpreserve::Open as _;
    let cache = kpreserve::Cache::<u64>::open(c".pool/test/pool/8", GFP_KERNEL);
    assert_eq!(cache.err(), Some(EINVAL));
    drop(kept);
    kpreserve::global::set_framework(None);
    assert_eq!(TestPool::open(GFP_KERNEL), Err(EPROBE_DEFER));
}

#[test]
fn a_frozen_pool_gives_out_what_it_has() {
    let kernel = boot();
    let boxes: std::vec::Vec<_> = (0..100).map(new_node).collect();
    kernel.framework().freeze();
    let more = core::iter::from_fn(|| TestBox::new(node(7), GFP_KERNEL).ok());
    let more: std::vec::Vec<_> = more.collect();
    assert!(!more.is_empty() && more.len() < 1000);
    let handle = TestPool::keep(new_or(boxes));
    drop(more);
    let next = kexec(kernel);
    assert_eq!(TestPool::take(handle).unwrap().words, [99; 8]);
    next.assert_sound();
}

/// The last of the boxes.
fn new_or(mut boxes: std::vec::Vec<TestBox<NodeSer>>) -> TestBox<NodeSer> {
    boxes.pop().unwrap()
}

#[test]
fn who_cannot_sleep_allocates_and_frees() {
    let kernel = boot();
    drop(new_node(0));
    kernel::context::enter_atomic();
    let one = TestBox::new(node(1), GFP_ATOMIC).unwrap();
    drop(one);
    // Nothing is there, and nothing can be had: refused, and asked for.
    let none = TestBox::new([0u64; 100], GFP_ATOMIC);
    kernel::context::leave_atomic();
    assert!(none.is_err());
    kernel.framework().work();
    kernel::context::enter_atomic();
    assert!(TestBox::new([0u64; 100], GFP_ATOMIC).is_ok());
    kernel::context::leave_atomic();
    kernel.assert_sound();
}

#[test]
fn memory_comes_from_the_node_that_is_asked_for() {
    let kernel = boot();
    TestPool::set_node(Node(1)).unwrap();
    drop(new_node(0));
    assert_eq!(kernel.machine().counters().alloc_on_node, 1);
}

fn open_list() -> Result<Named<ListSer>> {
    TestPool::open(GFP_KERNEL)?;
    let new = ListSer {
        first: BoxLink::new(BoxHandle::NULL),
    };
    Named::open(c"pool/list", new, GFP_KERNEL)
}

fn push(list: &ListSer, number: u64) {
    let element = ListedSer {
        number,
        words: [number ^ 0x55; 5],
        next: list.first.load(),
    };
    let element = TestBox::new(element, GFP_KERNEL).unwrap();
    list.first.store(TestPool::keep(element));
}

fn pop(list: &ListSer) -> Option<u64> {
    let first = list.first.load();
    if first.is_null() {
        return None;
    }
    let element = TestPool::take(first).unwrap();
    assert_eq!(element.words, [element.number ^ 0x55; 5]);
    list.first.store(element.next);
    Some(element.number)
}

/// Returns the number of elements; they count down to 0.
fn len_of(list: &ListSer) -> u64 {
    let (mut handle, mut numbers) = (list.first.load(), std::vec::Vec::new());
    while !handle.is_null() {
        let element = TestPool::take(handle).unwrap();
        assert_eq!(element.words, [element.number ^ 0x55; 5]);
        numbers.push(element.number);
        let next = element.next;
        TestPool::keep(element);
        handle = next;
    }
    assert!(numbers.iter().copied().eq((0..numbers.len() as u64).rev()));
    numbers.len() as u64
}

/// Grows and shrinks a list; stops at each step. The next kernel finds what was there before the
/// operation, or after it, and frees what was linked by nobody.
fn cut_each(torn: bool) {
    let machine = SimMachine::boot(Config::with_pages(512));
    let kernel = Kernel::on(machine).unwrap();
    let list = open_list().unwrap();
    let recorder = Recorder::start(machine);
    let recorder = if torn {
        recorder.torn(1).overtaking()
    } else {
        recorder
    };
    let mut lens = std::vec![0];
    for (phase, grows) in [true, true, true, false, true, false, false, false, true]
        .into_iter()
        .enumerate()
    {
        recorder.phase(phase);
        let len = lens[phase];
        if grows {
            push(&list, len);
            lens.push(len + 1);
        } else {
            assert_eq!(pop(&list), Some(len - 1));
            lens.push(len - 1);
        }
    }
    drop(list);
    let cuts = recorder.finish();
    kernel.assert_sound();
    assert!(cuts.len() > 30, "{}", cuts.len());
    for cut in cuts {
        let second = Kernel::on(cut.image.boot()).unwrap();
        let list = open_list().unwrap();
        let len = len_of(&list);
        let (before, after) = (lens[cut.phase], lens.get(cut.phase + 1));
        assert!(len == before || Some(&len) == after, "{}: {len}", cut.step);
        // What is linked is taken in time; of the rest there is one, at most.
        let taken: std::vec::Vec<_> = core::iter::from_fn(|| pop(&list)).collect();
        assert_eq!(taken.len() as u64, len);
        assert!(TestPool::finish().unwrap() <= 1, "{}", cut.step);
        assert_eq!(TestPool::counts().unwrap().nr_objects, 0);
        push(&list, 0);
        drop(list);
        let third = second.kexec();
        assert_eq!(len_of(&open_list().unwrap()), 1);
        third.machine().power_off();
    }
}

#[test]
fn a_cut_at_each_step_leaves_a_whole_list() {
    cut_each(false);
}

#[test]
fn a_cut_at_each_step_with_stores_reordered_leaves_a_whole_list() {
    cut_each(true);
}

/// What is done to a pool while something fails.
fn work() -> Result {
    TestPool::open(GFP_KERNEL)?;
    let kept = TestPool::keep(TestBox::new(node(1), GFP_KERNEL)?);
    let mut vec = TestVec::<u64>::new();
    let filled = (0..600).try_for_each(|i| vec.push(i, GFP_KERNEL));
    // A vector that could not grow is as it was.
    assert!(vec.iter().copied().eq(0..vec.len() as u64));
    drop(TestPool::take(kept)?);
    Ok(filled?)
}

fn survive(fail: impl Fn(&Kernel, u64), nr_calls: impl Fn(&Kernel) -> u64) {
    for n in 1.. {
        assert!(n < 5000);
        let kernel = Kernel::boot_with(Config::with_pages(1024));
        fail(&kernel, n);
        let result = work();
        let nr = nr_calls(&kernel);
        assert_nothing_leaked(&kernel);
        if nr < n {
            assert_eq!(result, Ok(()));
            assert!(n > 1, "nothing was made to fail");
            break;
        }
        if let Err(error) = result {
            assert_eq!(error, ENOMEM);
        }
        // Done again, it succeeds, with what is left of the first time.
        assert_eq!(work(), Ok(()));
        assert_eq!(TestPool::counts().unwrap().nr_objects, 0);
        assert_nothing_leaked(&kernel);
        let names = kernel.framework().stats().nr_names;
        let next = kernel.kexec();
        assert_eq!(work(), Ok(()));
        assert_eq!(next.framework().stats().nr_names, names);
        assert_eq!(TestPool::counts().unwrap().nr_objects, 0);
        next.machine().power_off();
    }
}

#[test]
fn each_small_allocation_that_fails_leaks_nothing() {
    survive(
        |_, n| fail_nth_allocation(Some(n)),
        |_| {
            let nr = nr_allocations();
            fail_nth_allocation(None);
            nr
        },
    );
}

#[test]
fn each_call_of_the_machine_that_fails_leaks_nothing() {
    for call in [Call::Alloc, Call::Preserve] {
        survive(
            |kernel, n| {
                kernel.machine().set_faults(Faults::nth_of(call, n));
            },
            |kernel| kernel.machine().set_faults(Faults::none()).count(),
        );
    }
}
