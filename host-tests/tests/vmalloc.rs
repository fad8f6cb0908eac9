// SPDX-License-Identifier: GPL-2.0

//! Areas and vectors against `Vec`, over reboots, in whole and in fragmented memory.

use std::vec::Vec;

use kernel::alloc::flags::GFP_KERNEL;
use kernel::error::code::{
    EBUSY,
    EINVAL, //
};
use kpreserve::{
    Anonymous as _,
    Area,
    Open as _,
    PVec,
    Preservable, //
};
use kpreserve_testing::{
    Config,
    Kernel, //
};
use proptest::prelude::{
    any,
    prop_oneof,
    proptest,
    Just,
    ProptestConfig,
    Strategy, //
};

kpreserve::preservable! {
    /// An element that does not divide a page.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Triple {
        /// Three numbers.
        pub words: [u64; 3],
    }
    compatible = "vmalloc-triple", version = 1

    /// An element larger than a page.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Block {
        /// Many numbers.
        pub words: [u64; 600],
    }
    compatible = "vmalloc-block", version = 1
}

trait Element: Preservable + Copy + PartialEq + core::fmt::Debug {
    fn of(n: u64) -> Self;

    /// What it is sorted by.
    fn number(&self) -> u64;
}

impl Element for u8 {
    fn of(n: u64) -> Self {
        n as u8
    }

    fn number(&self) -> u64 {
        u64::from(*self)
    }
}

impl Element for u64 {
    fn of(n: u64) -> Self {
        n
    }

    fn number(&self) -> u64 {
        *self
    }
}

impl Element for Triple {
    fn of(n: u64) -> Self {
        Triple {
            words: [n, !n, n ^ 0xa5a5],
        }
    }

    fn number(&self) -> u64 {
        self.words[0]
    }
}

impl Element for Block {
    fn of(n: u64) -> Self {
        Block { words: [n; 600] }
    }

    fn number(&self) -> u64 {
        self.words[0]
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Push(u64),
    Extend(usize, u64),
    ExtendZeroed(usize),
    Pop,
    Truncate(usize),
    Reserve(usize),
    Shrink,
    Set(usize, u64),
    Insert(usize, u64),
    Remove(usize),
    SwapRemove(usize),
    Drain(usize, usize),
    Splice(usize, usize, usize, u64),
    Retain(u8),
    Sort(u8),
    Map,
    Resize(usize),
    Reopen,
    Reboot,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any::<u64>().prop_map(Op::Push),
        3 => (any::<usize>(), any::<u64>()).prop_map(|(n, value)| Op::Extend(n, value)),
        2 => any::<usize>().prop_map(Op::ExtendZeroed),
        3 => Just(Op::Pop),
        2 => any::<usize>().prop_map(Op::Truncate),
        1 => any::<usize>().prop_map(Op::Reserve),
        2 => Just(Op::Shrink),
        3 => (any::<usize>(), any::<u64>()).prop_map(|(n, value)| Op::Set(n, value)),
        2 => (any::<usize>(), any::<u64>()).prop_map(|(n, value)| Op::Insert(n, value)),
        2 => any::<usize>().prop_map(Op::Remove),
        1 => any::<usize>().prop_map(Op::SwapRemove),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(from, nr)| Op::Drain(from, nr)),
        1 => any::<(usize, usize, usize, u64)>()
            .prop_map(|(from, nr, n, value)| Op::Splice(from, nr, n, value)),
        1 => any::<u8>().prop_map(Op::Retain),
        1 => any::<u8>().prop_map(Op::Sort),
        1 => Just(Op::Map),
        2 => any::<usize>().prop_map(Op::Resize),
        1 => Just(Op::Reopen),
        1 => Just(Op::Reboot),
    ]
}

/// About two pages of elements at a time.
fn step<T>(n: usize) -> usize {
    n % (2 * 4096 / size_of::<T>()).max(3)
}

/// The most elements that a test keeps.
fn most<T>() -> usize {
    64 * 4096 / size_of::<T>()
}

fn agree<T: Element>(vec: &PVec<T>, model: &[T]) {
    assert_eq!(vec.len(), model.len());
    assert!(vec.iter().eq(model.iter()));
    assert!(vec.get(model.len()).is_none());
    assert!(vec.capacity() >= vec.len());
    let chunks: Vec<T> = vec.chunks().flatten().copied().collect();
    assert_eq!(chunks, model);
}

fn run<T: Element>(ops: &[Op], config: Config) {
    let zero = T::new_zeroed();
    let mut kernel = Kernel::boot_with(config);
    let mut vec = PVec::<T>::open(c"vmalloc/vec", GFP_KERNEL).unwrap();
    let mut model: Vec<T> = Vec::new();
    for &op in ops {
        match op {
            Op::Push(value) => {
                vec.push(T::of(value)).unwrap();
                model.push(T::of(value));
            }
            Op::Extend(n, value) if model.len() < most::<T>() => {
                let more: Vec<T> = (0..step::<T>(n) as u64)
                    .map(|i| T::of(value.wrapping_add(i)))
                    .collect();
                vec.extend_from_slice(&more).unwrap();
                model.extend(more);
            }
            Op::ExtendZeroed(n) if model.len() < most::<T>() => {
                vec.extend_zeroed(step::<T>(n)).unwrap();
                model.resize(model.len() + step::<T>(n), zero);
            }
            Op::Extend(..) | Op::ExtendZeroed(_) => {}
            Op::Pop => assert_eq!(vec.pop().unwrap(), model.pop()),
            Op::Truncate(n) => {
                let len = n % (model.len() + 3);
                vec.truncate(len).unwrap();
                model.truncate(len);
            }
            Op::Reserve(n) => {
                vec.reserve(step::<T>(n)).unwrap();
                assert!(vec.capacity() >= model.len() + step::<T>(n));
            }
            Op::Shrink => vec.shrink_to_fit().unwrap(),
            Op::Set(n, value) => {
                let at = n % model.len().max(1);
                match model.get_mut(at) {
                    Some(element) => {
                        *element = T::of(value);
                        *vec.get_mut(at).unwrap() = T::of(value);
                    }
                    None => assert!(vec.get_mut(at).is_none()),
                }
            }
            Op::Insert(n, value) => {
                let at = n % (model.len() + 1);
                vec.insert(at, T::of(value)).unwrap();
                model.insert(at, T::of(value));
            }
            Op::Remove(n) if !model.is_empty() => {
                let at = n % model.len();
                assert_eq!(vec.remove(at), Ok(model.remove(at)));
            }
            Op::SwapRemove(n) if !model.is_empty() => {
                let at = n % model.len();
                assert_eq!(vec.swap_remove(at), Ok(model.swap_remove(at)));
            }
            Op::Remove(n) | Op::SwapRemove(n) => assert_eq!(vec.remove(n), Err(EINVAL)),
            Op::Drain(from, nr) => {
                let from = from % (model.len() + 1);
                let range = from..(from + step::<T>(nr)).min(model.len());
                let mut gone = Vec::new();
                let see = |part: &[T]| {
                    gone.extend_from_slice(part);
                    Ok(())
                };
                vec.drain(range.clone(), see).unwrap();
                assert!(model.drain(range).eq(gone));
            }
            Op::Splice(from, nr, n, value) if model.len() < most::<T>() => {
                let from = from % (model.len() + 1);
                let range = from..(from + step::<T>(nr)).min(model.len());
                let new = (0..step::<T>(n) as u64).map(|i| T::of(value ^ i));
                let new: Vec<T> = new.collect();
                vec.splice(range.clone(), &new).unwrap();
                model.splice(range, new);
            }
            Op::Splice(..) => {}
            Op::Retain(mask) => {
                let keep = |element: &T| element.number() & u64::from(mask & 3) == 0;
                vec.retain(keep).unwrap();
                model.retain(keep);
            }
            Op::Sort(mask) => {
                // Some are equal then, and stay in order.
                let key = |element: &T| element.number() & u64::from(mask);
                vec.sort_by_key(key).unwrap();
                model.sort_by_key(key);
            }
            Op::Map => {
                let area = vec.into_area();
                match area.map() {
                    Ok(view) => assert_eq!(&view[..], &model[..]),
                    // Elements that do not divide a page leave holes between runs.
                    Err(error) => assert!(error == EINVAL && 4096 % size_of::<T>() != 0),
                }
                vec = PVec::from_area(area);
            }
            Op::Resize(n) => {
                let len = (model.len() + step::<T>(n)).min(most::<T>()) / 2;
                let mut area = vec.into_area();
                area.resize(len).unwrap();
                model.resize(len, zero);
                vec = PVec::from_area(area);
            }
            Op::Reopen => {
                assert!(PVec::<T>::open(c"vmalloc/vec", GFP_KERNEL).is_err_and(|e| e == EBUSY));
                drop(vec);
                vec = PVec::open(c"vmalloc/vec", GFP_KERNEL).unwrap();
            }
            Op::Reboot => {
                core::mem::forget(vec);
                kernel = kernel.stop();
                vec = PVec::open(c"vmalloc/vec", GFP_KERNEL).unwrap();
            }
        }
        agree(&vec, &model);
    }
    vec.discard().unwrap();
    let vec = PVec::<T>::open(c"vmalloc/vec", GFP_KERNEL).unwrap();
    assert!(vec.is_empty());
    kernel.assert_sound();
    let complaints = kernel::print::take_complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
    drop(vec);
    kernel.machine().power_off();
}

fn whole() -> Config {
    Config::with_pages(1024)
}

fn fragmented() -> Config {
    Config {
        order_max: 1,
        percent_taken: 25,
        ..Config::with_pages(1024)
    }
}

macro_rules! properties {
    ($($test:ident $ty:ident $config:ident)*) => {
        proptest! {
            #![proptest_config(ProptestConfig {
                cases: 32,
                failure_persistence: None,
                ..ProptestConfig::default()
            })]
            $(
                #[test]
                fn $test(ops in proptest::collection::vec(op(), 0..80)) {
                    run::<$ty>(&ops, $config());
                }
            )*
        }
    };
}

properties! {
    bytes u8 whole
    bytes_in_fragmented_memory u8 fragmented
    words u64 whole
    words_in_fragmented_memory u64 fragmented
    triples Triple whole
    triples_in_fragmented_memory Triple fragmented
    blocks Block whole
    blocks_in_fragmented_memory Block fragmented
}

/// An area without a name is found by its handle, in this boot and the next; each way in which a
/// handle can be wrong has its errno.
#[test]
fn areas_without_a_name() {
    use kernel::error::code::{
        ENOENT,
        ESTALE, //
    };
    use kpreserve::ArenaHandle;

    let first = Kernel::boot();
    let mut area = PVec::<u64>::create(GFP_KERNEL).unwrap();
    area.push(42).unwrap();
    let handle = area.handle();
    let adopt = |handle| PVec::<u64>::adopt(handle, GFP_KERNEL).err();
    assert_eq!(adopt(handle), Some(EBUSY));
    drop(area);
    assert_eq!(adopt(handle), None);

    let second = first.kexec();
    assert_eq!(adopt(ArenaHandle::NULL), Some(EINVAL));
    // One that was never given out.
    let to_come = ArenaHandle::new(handle.id(), handle.generation() + 1);
    assert_eq!(adopt(to_come), Some(EINVAL));
    assert_eq!(adopt(ArenaHandle::new(9999, 1)), Some(EINVAL));
    assert_eq!(adopt(ArenaHandle::new(2, 1)), Some(EINVAL));
    let other = ArenaHandle::<u32>::from_raw(handle.into_raw());
    assert_eq!(PVec::<u32>::adopt(other, GFP_KERNEL).err(), Some(EINVAL));
    let area = PVec::<u64>::adopt(handle, GFP_KERNEL).unwrap();
    assert_eq!(area.get(0), Some(&42));
    area.discard().unwrap();
    assert_eq!(adopt(handle), Some(ENOENT));
    // Its number is given out again, by the next kernel at the latest.
    let third = second.kexec();
    let again = Area::<u64>::create(GFP_KERNEL).unwrap();
    assert_eq!(again.handle().id(), handle.id());
    assert_eq!(adopt(handle), Some(ESTALE));
    third.assert_sound();
}
