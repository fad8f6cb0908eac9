// SPDX-License-Identifier: GPL-2.0

//! A pool of preserved memory under the kernel's own boxes and vectors; objects that C owns.

use kernel::xarray::{
    AllocKind,
    XArray, //
};
use kpreserve::global::framework;
use kpreserve::prelude::*;

use crate::command::{
    check,
    Words, //
};
use crate::pattern::ItemSer;
use crate::reply::Reply;

kpreserve::preserved_pool! {
    struct SelftestPool = c"selftest/pool"
}

kpreserve::preservable! {
    /// A box that is kept, in a list of the like.
    pub(crate) struct KeptSer {
        item: [u64; 8],
        next: BoxHandle<KeptSer>,
    }
    compatible = "selftest-kept", version = 1

    /// Where the list begins.
    pub(crate) struct ListSer {
        first: BoxLink<KeptSer>,
    }
    compatible = "selftest-list", version = 1
}

fn open() -> Result<Named<ListSer>> {
    SelftestPool::open(GFP_KERNEL)?;
    let new = ListSer {
        first: BoxLink::new(BoxHandle::NULL),
    };
    Named::open(c"selftest/list", new, GFP_KERNEL)
}

fn item(number: u64, seed: u64) -> [u64; 8] {
    let item = ItemSer::new(number, seed);
    core::array::from_fn(|i| match i.checked_sub(1) {
        Some(word) => item.words[word % 7],
        None => number,
    })
}

fn report(reply: &mut Reply) -> Result {
    let counts = SelftestPool::counts()?;
    reply.put("objects", counts.nr_objects as u64);
    reply.put("quarantined", counts.nr_quarantined as u64);
    reply.put("bytes", counts.bytes as u64);
    Ok(())
}

/// How many words the anonymous vector of a number has: of each class some.
fn nr_words(number: usize) -> usize {
    1 + number * 37 % 2047
}

/// `pool.keep N SEED`: N boxes that are kept, and N vectors that are not.
pub(crate) fn keep(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (nr, seed) = (words.number()?, words.number()? as u64);
    let list = open()?;
    for number in 0..nr {
        let kept = KeptSer {
            item: item(number as u64, seed),
            next: list.first.load(),
        };
        let kept: Box<KeptSer, SelftestPool> = Box::new(kept, GFP_KERNEL)?;
        list.first.store(SelftestPool::keep(kept));
        let left = Vec::<u64, SelftestPool>::from_elem(u64::MAX / 3, nr_words(number), GFP_KERNEL)?;
        core::mem::forget(left);
    }
    report(reply)
}

/// `pool.verify N SEED`: takes each box, and keeps it again.
///
/// EBADMSG if a byte of one is not what it was.
pub(crate) fn verify(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (nr, seed) = (words.number()?, words.number()? as u64);
    let list = open()?;
    let mut handle = list.first.load();
    for number in (0..nr as u64).rev() {
        let kept = SelftestPool::take(handle)?;
        check(
            "a box that is taken",
            SelftestPool::take(handle).err(),
            Some(EBUSY),
        )?;
        if kept.item != item(number, seed) {
            return Err(EBADMSG);
        }
        let next = kept.next;
        check("the handle", SelftestPool::keep(kept) == handle, true)?;
        handle = next;
    }
    check("the end of the list", handle.is_null(), true)?;
    report(reply)
}

/// `pool.refill N`: as many vectors as `pool.keep` left: `grown` says whether that took more memory
/// than was handed over, and the sixteenth that an arena grows by. (What was left empty may have
/// gone meanwhile.)
///
/// EBADMSG if one is not zeros.
pub(crate) fn refill(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let nr = words.number()?;
    let _list = open()?;
    let handed_over = framework()?.stats().nr_pages_inherited * 4096;
    let mut vectors = KVVec::new();
    for number in 0..nr {
        let zeros = Vec::<u64, SelftestPool>::zeroed(nr_words(number), GFP_KERNEL)?;
        if zeros.iter().any(|&word| word != 0) {
            return Err(EBADMSG);
        }
        vectors.push(zeros, GFP_KERNEL)?;
    }
    let grown = SelftestPool::counts()?.bytes > handed_over / 16 * 17;
    reply.put("grown", grown.into());
    report(reply)
}

/// `pool.clear`: takes each box and drops it.
pub(crate) fn clear(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let list = open()?;
    while !list.first.load().is_null() {
        let kept = SelftestPool::take(list.first.load())?;
        // A kexec below leaves the box to finish().
        list.first.store(kept.next);
    }
    report(reply)
}

/// `pool.limits`: a vector grows to the largest class, and not beyond; alignment; what has no size.
pub(crate) fn limits(_words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    const NR_MAX: usize = kpreserve::allocator::SIZE_MAX_BYTES / 4;
    #[repr(align(4096))]
    struct Page([u8; 4096]);

    let _list = open()?;
    let mut vec = Vec::<u32, SelftestPool>::new();
    for number in 0..NR_MAX {
        vec.push(number as u32, GFP_KERNEL)?;
    }
    check("one too many", vec.push(0, GFP_KERNEL).is_err(), true)?;
    check("the length", vec.len(), NR_MAX)?;
    let whole = vec.iter().enumerate().all(|(i, &word)| word as usize == i);
    check("the elements", whole, true)?;
    let page: Box<Page, SelftestPool> = Box::new(Page([1; 4096]), GFP_KERNEL)?;
    check(
        "the alignment",
        core::ptr::from_ref(&page.0).addr() % 4096,
        0,
    )?;
    let unit: Box<(), SelftestPool> = Box::new((), GFP_KERNEL)?;
    Box::into_inner(unit);
    Ok(())
}

/// `foreign N SEED`: N objects of a cache in an XArray, which is C's, and back.
///
/// EBADMSG if a byte of one is not what it was.
pub(crate) fn foreign(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (nr, seed) = (words.number()?, words.number()? as u64);
    let cache = Cache::<ItemSer>::open(c"selftest/foreign", GFP_KERNEL)?;
    let array = KBox::pin_init(
        XArray::<Preserved<ItemSer>>::new(AllocKind::Alloc),
        GFP_KERNEL,
    )?;
    // What the kernel before has left, if it has, then as many as are missing.
    let mut nr_found = 0;
    let mut index = 0;
    for item in cache.unclaimed() {
        array.lock().store(index, item, GFP_KERNEL)?;
        (nr_found, index) = (nr_found + 1, index + 1);
    }
    for number in index..nr {
        let item = cache.alloc(ItemSer::new(number as u64, seed), GFP_KERNEL)?;
        array.lock().store(number, item, GFP_KERNEL)?;
    }
    for index in 0..nr {
        let mut array = array.lock();
        let item = array.get(index).ok_or(EPROTO)?;
        if !item.is(item.number, seed) {
            return Err(EBADMSG);
        }
        if index % 2 == 0 {
            array.remove(index).ok_or(EPROTO)?.park();
        } else if index % 4 == 1 {
            drop(array.remove(index));
        }
    }
    // The rest is dropped with the array.
    drop(array);
    reply.put("found", nr_found);
    reply.put("objects", cache.raw().counts().nr_objects as u64);
    Ok(())
}
