// SPDX-License-Identifier: GPL-2.0

//! Caches on the simulated machine, directly: each errno, each way a handle can be wrong, what is
//! undone, what crosses a reboot. Properties against a model are in host-tests/.

use std::collections::BTreeSet;
use std::pin::Pin;

use kernel::alloc::{
    flags::*,
    KBox, //
};
use kernel::error::{
    code::*,
    Error,
    Result, //
};
use kernel::prelude::InPlaceInit;
use kpreserve_kho::{
    preservable,
    ArenaSer,
    Handle,
    Ledger,
    Phys,
    Preservable,
    SharedU64, //
};
use kpreserve_sim::{
    Call,
    Config,
    Faults,
    SimLedger,
    SimMachine, //
};
use kpreserve_slab::abi::{
    SlabSer,
    HEADER_BYTES, //
};
use kpreserve_slab::{
    Cache,
    Geometry,
    Preserved,
    RawCache, //
};
use zerocopy::{
    FromBytes,
    IntoBytes, //
};

preservable! {
    /// 64 bytes.
    pub struct RecordSer {
        /// Which one.
        pub id: u64,
        /// What follows from `id`.
        pub words: [u64; 7],
    }
    compatible = "record", version = 1
}

const ID: u32 = 3;

fn record(id: u64) -> RecordSer {
    RecordSer {
        id,
        words: [id.wrapping_mul(3); 7],
    }
}

fn is_record(record: &RecordSer, id: u64) -> bool {
    record.id == id && record.words == [id.wrapping_mul(3); 7]
}

/// A descriptor for records, before its id and checksum.
fn descriptor<T: Preservable>() -> ArenaSer {
    let mut ser = ArenaSer {
        kind: 1,
        id: 0,
        fingerprint: T::FINGERPRINT,
        version: T::VERSION,
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
    Geometry::of_type::<T>().unwrap().fill(&mut ser);
    ser
}

fn leak(cache: Pin<KBox<RawCache>>) -> &'static RawCache {
    // SAFETY: leaked, so it is never moved.
    KBox::leak(unsafe { Pin::into_inner_unchecked(cache) })
}

/// Brings the cache up over what the ledger has.
fn bring_up(ledger: &'static SimLedger, id: u32) -> Result<&'static RawCache> {
    let arena = ledger.open(id)?;
    let cache = RawCache::new(arena, ledger.descriptor(id))?;
    Ok(leak(KBox::pin_init(cache, GFP_KERNEL)?))
}

struct World {
    machine: &'static SimMachine,
    ledger: &'static SimLedger,
    raw: &'static RawCache,
    cache: Cache<RecordSer>,
}

fn world_of(nr_pages: usize) -> World {
    let machine = SimMachine::boot(Config::with_pages(nr_pages));
    let ledger = SimLedger::create(machine).unwrap();
    ledger.describe(ID, descriptor::<RecordSer>());
    let raw = bring_up(ledger, ID).unwrap();
    let cache = Cache::from_raw(raw).unwrap();
    World {
        machine,
        ledger,
        raw,
        cache,
    }
}

fn world() -> World {
    world_of(1024)
}

impl World {
    /// Stops the machine and adopts the cache in the next kernel.
    fn reboot(self) -> World {
        let World {
            machine,
            ledger,
            raw: _,
            cache,
        } = self;
        core::mem::forget(cache);
        let _ = ledger;
        Self::adopt(machine.reboot())
    }

    fn adopt(machine: &'static SimMachine) -> World {
        let ledger = SimLedger::adopt(machine).unwrap();
        let raw = bring_up(ledger, ID).unwrap();
        let cache = Cache::from_raw(raw).unwrap();
        World {
            machine,
            ledger,
            raw,
            cache,
        }
    }

    fn park(&self, ids: core::ops::Range<u64>) -> Vec<Handle<RecordSer>> {
        ids.map(|id| self.alloc(id).park()).collect()
    }

    fn alloc(&self, id: u64) -> Preserved<RecordSer> {
        self.cache.alloc(record(id), GFP_KERNEL).unwrap()
    }

    /// The bytes of a slot.
    fn bytes(&self, phys: Phys) -> [u8; 64] {
        let mut bytes = [0; 64];
        self.machine.read_phys(phys, &mut bytes);
        bytes
    }

    fn claim(&self, handle: Handle<RecordSer>) -> Result<Preserved<RecordSer>> {
        self.cache.claim(handle)
    }
}

fn shifted(handle: Handle<RecordSer>, bytes: i64) -> Handle<RecordSer> {
    let phys = handle.phys().get().wrapping_add_signed(bytes);
    Handle::new(Phys::new(phys), handle.tag())
}

fn retagged(handle: Handle<RecordSer>, by: u8) -> Handle<RecordSer> {
    Handle::new(handle.phys(), handle.tag().wrapping_add(by))
}

#[test]
fn objects_are_what_they_were_initialised_to() {
    let w = world();
    let objects: Vec<_> = (0..1000).map(|id| w.alloc(id)).collect();
    let distinct: BTreeSet<_> = objects.iter().map(|o| o.handle().into_raw()).collect();
    assert_eq!(distinct.len(), 1000);
    for (id, object) in objects.iter().enumerate() {
        assert!(is_record(object, id as u64));
    }
    assert_eq!(w.raw.counts().nr_objects, 1000);
    drop(objects);
    assert_eq!(w.raw.counts().nr_objects, 0);
    w.machine.assert_sound();
}

#[test]
fn freed_slots_are_used_again() {
    let w = world();
    let objects: Vec<_> = (0..1000).map(|id| w.alloc(id)).collect();
    let runs = w.raw.counts().nr_runs;
    drop(objects);
    for _ in 0..5 {
        let mut objects: Vec<_> = (0..1000).map(|id| w.alloc(id)).collect();
        // In another order than they came in.
        objects.sort_by_key(|object| object.id.wrapping_mul(0x9e37_79b9) % 1009);
    }
    assert_eq!(w.raw.counts().nr_runs, runs);
}

#[test]
fn an_owned_object_can_be_written() {
    let w = world();
    let mut object = w.alloc(1);
    object.id = 77;
    let handle = object.park();
    assert_eq!(w.cache.peek(handle).unwrap().id, 77);
}

#[test]
fn freeing_zeroes_and_changes_the_tag() {
    let w = world();
    let object = w.alloc(5);
    let handle = object.handle();
    assert_ne!(w.bytes(handle.phys()), [0; 64]);
    drop(object);
    assert_eq!(w.bytes(handle.phys()), [0; 64]);
    assert_eq!(w.claim(handle).err(), Some(ENOENT));
}

#[test]
fn a_failed_initialiser_leaves_nothing() {
    let w = world();
    let write_half = |slot: *mut RecordSer| {
        // SAFETY: the beginning of a slot that is ours.
        unsafe { slot.cast::<u64>().write(9) };
        Err::<(), Error>(EIO)
    };
    // SAFETY: returns an error, always.
    let half = unsafe { pin_init::init_from_closure(write_half) };
    assert_eq!(w.cache.alloc(half, GFP_KERNEL).err(), Some(EIO));
    assert_eq!(w.raw.counts().nr_objects, 0);
    // The next one gets the same slot, and finds zeros.
    let vacant = w.raw.alloc_slot(GFP_KERNEL).unwrap();
    // SAFETY: a slot of 64 bytes, ours.
    let bytes = unsafe { vacant.as_ptr().cast::<[u8; 64]>().read() };
    assert_eq!(bytes, [0; 64]);
}

#[test]
fn a_vacant_slot_is_not_an_object() {
    let w = world();
    let vacant = w.raw.alloc_slot(GFP_KERNEL).unwrap();
    assert_eq!(w.raw.counts().nr_objects, 0);
    let slot = vacant.publish();
    assert_eq!(w.raw.counts().nr_objects, 1);
    slot.free();
    assert_eq!(w.raw.counts().nr_objects, 0);
}

#[test]
fn wrong_handles_are_einval() {
    let w = world();
    let handle = w.alloc(1).park();
    let wrong = [
        Handle::NULL,
        Handle::new(Phys::NULL, 1),
        shifted(handle, 8),
        shifted(handle, -1),
        shifted(handle, -64),
        shifted(handle, 62 * 64),
        shifted(handle, 1 << 40),
        Handle::from_raw(u64::MAX),
        Handle::new(Phys::new(1 << 55), 1),
    ];
    for wrong in wrong {
        assert_eq!(w.claim(wrong).err(), Some(EINVAL), "{wrong:?}");
        assert_eq!(w.cache.discard(wrong).err(), Some(EINVAL));
        assert_eq!(w.cache.peek(wrong).err(), Some(EINVAL));
    }
    assert!(w.claim(handle).is_ok());
}

#[test]
fn handles_of_another_cache_are_einval() {
    let w = world();
    w.ledger.describe(4, descriptor::<RecordSer>());
    let other = Cache::<RecordSer>::from_raw(bring_up(w.ledger, 4).unwrap()).unwrap();
    let handle = other.alloc(record(1), GFP_KERNEL).unwrap().park();
    let _mine = w.alloc(2);
    assert_eq!(w.claim(handle).err(), Some(EINVAL));
    assert!(other.claim(handle).is_ok());
}

#[test]
fn live_stale_and_free_handles_are_told_apart() {
    let w = world();
    let object = w.alloc(1);
    let handle = object.handle();
    assert_eq!(w.claim(handle).err(), Some(EBUSY));
    assert_eq!(w.claim(retagged(handle, 2)).err(), Some(ESTALE));
    assert_eq!(w.claim(retagged(handle, 1)).err(), Some(ESTALE));
    // A free neighbour.
    assert_eq!(w.claim(shifted(handle, 64)).err(), Some(ENOENT));
    drop(object);
    assert_eq!(w.claim(handle).err(), Some(ENOENT));
    let next = w.alloc(2);
    assert_eq!(next.handle().phys(), handle.phys());
    assert_eq!(w.claim(handle).err(), Some(ESTALE));
    let handle = next.park();
    assert_eq!(w.claim(retagged(handle, 2)).err(), Some(ESTALE));
    assert!(is_record(&w.claim(handle).unwrap(), 2));
}

#[test]
fn an_object_is_claimed_once() {
    let w = world();
    let handle = w.alloc(1).park();
    let object = w.claim(handle).unwrap();
    assert_eq!(w.claim(handle).err(), Some(EBUSY));
    assert_eq!(w.cache.peek(handle).err(), Some(EBUSY));
    assert_eq!(w.cache.discard(handle).err(), Some(EBUSY));
    assert_eq!(object.park(), handle);
    assert_eq!(w.cache.discard(handle), Ok(()));
    assert_eq!(w.cache.discard(handle), Err(ENOENT));
}

#[test]
fn tags_tell_handles_apart_until_they_wrap() {
    let w = world();
    let first = w.alloc(0).park();
    w.cache.discard(first).unwrap();
    for id in 1..127 {
        let handle = w.alloc(id).park();
        assert_eq!(handle.phys(), first.phys());
        assert_eq!(w.claim(first).err(), Some(ESTALE));
        w.cache.discard(handle).unwrap();
    }
    assert_eq!(w.alloc(127).park(), first);
}

#[test]
fn what_is_parked_is_not_finished() {
    let w = world();
    w.park(0..10);
    assert_eq!(w.cache.finish(), 0);
    assert_eq!(w.raw.counts().nr_objects, 10);
}

#[test]
fn opening_is_exclusive_and_shared_by_clones() {
    let w = world();
    assert_eq!(w.raw.try_open().err(), Some(EBUSY));
    let clone = w.cache.clone();
    drop(w.cache);
    assert_eq!(w.raw.try_open().err(), Some(EBUSY));
    drop(clone);
    assert!(!w.raw.is_open());
    assert!(w.raw.try_open().is_ok());
}

#[test]
fn opening_again_makes_what_is_parked_incoming() {
    let w = world();
    let kept = w.park(0..100);
    let owned = w.alloc(100);
    drop(w.cache);
    let cache = Cache::<RecordSer>::from_raw(w.raw).unwrap();
    // Parked after the opening, in a slab with incoming objects: not incoming.
    let late = cache.alloc(record(101), GFP_KERNEL).unwrap().park();
    let claimed = cache.claim(kept[0]).unwrap();
    let back = cache.claim(kept[1]).unwrap().park();
    assert_eq!(cache.finish(), 98);
    assert_eq!(cache.finish(), 0);
    assert_eq!(cache.claim(kept[2]).err(), Some(ENOENT));
    assert!(is_record(&claimed, 0));
    assert!(is_record(&cache.claim(back).unwrap(), 1));
    assert!(is_record(&cache.claim(late).unwrap(), 101));
    assert!(is_record(&owned, 100));
}

#[test]
fn another_type_does_not_fit() {
    let w = world();
    drop(w.cache);
    assert_eq!(Cache::<[u64; 9]>::from_raw(w.raw).err(), Some(EINVAL));
    assert!(!w.raw.is_open());
    assert!(Cache::<u32>::from_raw(w.raw).is_ok());
}

#[test]
fn everything_crosses_a_reboot() {
    let w = world();
    let parked = w.park(0..1000);
    // Owned when the machine stops: unclaimed in the next kernel.
    let owned: Vec<_> = (1000..1500).map(|id| w.alloc(id)).collect();
    let handles: Vec<_> = parked
        .into_iter()
        .chain(owned.iter().map(Preserved::handle))
        .collect();
    owned.into_iter().for_each(core::mem::forget);
    let w = w.reboot();
    assert_eq!(w.raw.counts().nr_objects, 1500);
    for (id, handle) in handles.iter().enumerate() {
        let object = w.claim(*handle).unwrap();
        assert!(is_record(&object, id as u64));
        assert_eq!(w.claim(*handle).err(), Some(EBUSY));
        assert_eq!(object.park(), *handle);
    }
    assert_eq!(w.cache.finish(), 0);
    w.machine.assert_sound();
}

#[test]
fn adoption_reads_no_slab() {
    let w = world();
    let handles = w.park(0..5000);
    core::mem::forget(w.cache);
    let next = w.machine.reboot();
    // A machine that touches a slab while the cache comes up would see garbage, and refuse it.
    let ledger = SimLedger::adopt(next).unwrap();
    let first = handles[0].phys().get() & !4095;
    let mut header = [0; HEADER_BYTES];
    next.read_phys(Phys::new(first), &mut header);
    next.write_phys(Phys::new(first), &[0xee; HEADER_BYTES]);
    let raw = bring_up(ledger, ID).unwrap();
    next.write_phys(Phys::new(first), &header);
    let cache = Cache::<RecordSer>::from_raw(raw).unwrap();
    assert!(is_record(&cache.claim(handles[0]).unwrap(), 0));
}

#[test]
fn inherited_partial_slabs_are_used_first() {
    let w = world();
    let handles = w.park(0..1000);
    for handle in handles.iter().step_by(2) {
        w.cache.discard(*handle).unwrap();
    }
    let w = w.reboot();
    let before = w.machine.counters().alloc;
    let runs = w.raw.counts().nr_runs;
    let objects: Vec<_> = (0..500).map(|id| w.alloc(id)).collect();
    assert_eq!(w.machine.counters().alloc, before);
    assert_eq!(w.raw.counts().nr_runs, runs);
    assert_eq!(w.raw.counts().nr_objects, 1000);
    for (id, handle) in handles.iter().enumerate().skip(1).step_by(2) {
        assert!(is_record(&w.claim(*handle).unwrap(), id as u64));
    }
    drop(objects);
}

#[test]
fn finish_frees_what_nobody_claimed() {
    let w = world();
    let handles = w.park(0..300);
    let w = w.reboot();
    let kept = w.claim(handles[7]).unwrap();
    let parked = w.claim(handles[8]).unwrap().park();
    let new = w.alloc(300).park();
    assert_eq!(w.cache.finish(), 298);
    assert_eq!(w.cache.finish(), 0);
    assert_eq!(w.raw.counts().nr_objects, 3);
    assert!(is_record(&kept, 7));
    assert!(is_record(&w.claim(parked).unwrap(), 8));
    assert!(is_record(&w.claim(new).unwrap(), 300));
}

#[test]
fn unclaimed_objects_are_iterated_once() {
    let w = world();
    w.park(0..300);
    let w = w.reboot();
    let mut seen = BTreeSet::new();
    for object in w.cache.unclaimed() {
        assert!(is_record(&object, object.id));
        assert!(seen.insert(object.id));
        if object.id % 3 == 0 {
            object.park();
        }
    }
    assert_eq!(seen.len(), 300);
    assert_eq!(w.cache.unclaimed().count(), 0);
    assert_eq!(w.raw.counts().nr_objects, 100);
}

#[test]
fn peeking_changes_nothing() {
    let w = world();
    let handles = w.park(0..2);
    let w = w.reboot();
    assert!(is_record(&w.cache.peek(handles[0]).unwrap(), 0));
    assert!(is_record(&w.cache.peek(handles[0]).unwrap(), 0));
    // Still incoming.
    assert_eq!(w.cache.finish(), 2);
}

#[test]
fn old_bytes_in_a_free_slot_are_not_seen_again() {
    let w = world();
    let handle = w.alloc(1).park();
    w.cache.discard(handle).unwrap();
    let _other = w.alloc(2).park();
    let free = shifted(handle, 64);
    let _ = free;
    core::mem::forget(w.cache);
    let machine = w.machine.reboot();
    // As if the last kernel had been stopped between retracting the tag and zeroing.
    for slot in 1..62 {
        let phys = Phys::new(handle.phys().get() + 64 * slot);
        machine.write_phys(phys, &[0xaa; 64]);
    }
    let w = World::adopt(machine);
    for _ in 0..200 {
        let vacant = w.raw.alloc_slot(GFP_KERNEL).unwrap();
        // SAFETY: a slot of 64 bytes, ours.
        let bytes = unsafe { vacant.as_ptr().cast::<[u8; 64]>().read() };
        assert_eq!(bytes, [0; 64]);
        core::mem::forget(vacant.publish());
    }
}

#[test]
fn an_unformatted_slab_may_hold_anything() {
    let w = world();
    let handle = w.alloc(1).park();
    core::mem::forget(w.cache);
    let machine = w.machine.reboot();
    let slab = Phys::new(handle.phys().get() & !4095);
    let mut page = [0xff; 4096];
    page[..8].fill(0);
    machine.write_phys(slab, &page);
    let w = World::adopt(machine);
    // Tags that are odd do not make objects of it.
    assert_eq!(w.claim(handle).err(), Some(ENOENT));
    assert_eq!(w.raw.counts().nr_objects, 0);
    assert_eq!(w.cache.finish(), 0);
    for id in 0..62 {
        core::mem::forget(w.alloc(id));
    }
    assert_eq!(w.raw.counts().nr_objects, 62);
    assert_eq!(w.raw.counts().nr_slabs, 1);
}

/// Damages the header of the first slab; the second is left as it is.
fn with_damage(damage: impl FnOnce(&mut SlabSer)) -> (World, Vec<Handle<RecordSer>>) {
    let w = world();
    let handles = w.park(0..124);
    core::mem::forget(w.cache);
    let machine = w.machine.reboot();
    let slab = Phys::new(handles[0].phys().get() & !4095);
    let mut bytes = [0; HEADER_BYTES];
    machine.read_phys(slab, &mut bytes);
    let mut header = SlabSer::read_from_bytes(&bytes).unwrap();
    damage(&mut header);
    machine.write_phys(slab, header.as_mut_bytes());
    (World::adopt(machine), handles)
}

#[test]
fn a_damaged_slab_is_quarantined_and_the_others_go_on() {
    let damages: [fn(&mut SlabSer); 11] = [
        |s| s.magic ^= 1,
        |s| s.phys += 4096,
        |s| s.root_id ^= 1,
        |s| s.check ^= 1,
        |s| s.owner += 1,
        |s| s.stride_bytes = 0,
        |s| s.nr_slots = u32::MAX,
        |s| s.first_slot = 0,
        |s| s.slab_order = 255,
        |s| s.reserved0 = 1,
        |s| s.reserved1 = 1,
    ];
    for damage in damages {
        for renew_check in [false, true] {
            let mut was_check = false;
            let (w, handles) = with_damage(|s| {
                let before = s.check;
                damage(s);
                was_check = s.check != before;
                if renew_check {
                    s.check = s.checksum();
                }
            });
            if renew_check && was_check {
                continue;
            }
            for (id, handle) in handles.iter().enumerate() {
                if id < 62 {
                    assert_eq!(w.claim(*handle).err(), Some(EINVAL));
                } else {
                    assert!(is_record(&w.claim(*handle).unwrap(), id as u64));
                }
            }
            assert_eq!(w.raw.counts().nr_quarantined, 1);
            // Not a byte of it is given out.
            let refused = handles[0].phys().get() & !4095;
            for id in 0..200 {
                let object = w.alloc(id);
                assert_ne!(object.handle().phys().get() & !4095, refused);
                core::mem::forget(object);
            }
            assert_eq!(w.cache.finish(), 0);
        }
    }
}

#[test]
fn the_note_to_itself_may_be_anything() {
    let (w, handles) = with_damage(|s| s.place = u32::MAX);
    for handle in handles {
        w.cache.discard(handle).unwrap();
    }
    let counts = w.raw.counts();
    assert_eq!(counts.nr_quarantined, 0);
    assert_eq!(counts.nr_objects, 0);
    // And every slot found its way back.
    let _objects: Vec<_> = (0..62 * counts.nr_slabs as u64)
        .map(|id| w.alloc(id))
        .collect();
    assert_eq!(w.raw.counts().nr_runs, counts.nr_runs);
}

#[test]
fn a_descriptor_that_makes_no_layout_is_refused() {
    let w = world();
    let handles = w.park(0..200);
    core::mem::forget(w.cache);
    let machine = w.machine.reboot();
    let ledger = SimLedger::adopt(machine).unwrap();
    let mut ser = ledger.descriptor(ID).snapshot();
    let good = ser.snapshot();
    ser.nr_slots = 4000;
    ledger.describe(ID, ser);
    assert_eq!(bring_up(ledger, ID).err(), Some(EINVAL));
    // Slabs that are larger than the runs that are there.
    let mut ser = good.snapshot();
    ser.slab_order = 10;
    ledger.describe(ID, ser);
    assert_eq!(bring_up(ledger, ID).err(), Some(EINVAL));
    // The runs went back to the ledger, and nothing is lost.
    ledger.describe(ID, good);
    let cache = Cache::<RecordSer>::from_raw(bring_up(ledger, ID).unwrap()).unwrap();
    assert!(is_record(&cache.claim(handles[199]).unwrap(), 199));
}

#[test]
fn without_memory_it_is_enomem_and_nothing_is_lost() {
    for call in [Call::Alloc, Call::Preserve] {
        let w = world();
        let held = w.machine.counters().held();
        let records = w.ledger.nr_records();
        w.machine.set_faults(Faults::nth_of(call, 1));
        assert_eq!(w.cache.alloc(record(1), GFP_KERNEL).err(), Some(ENOMEM));
        assert_eq!(w.machine.counters().held(), held);
        assert_eq!(w.ledger.nr_records(), records);
        assert!(w.cache.alloc(record(1), GFP_KERNEL).is_ok());
        w.machine.assert_sound();
    }
}

#[test]
fn without_room_in_the_ledger_it_is_enomem_and_nothing_is_lost() {
    let w = world();
    let held = w.machine.counters().held();
    w.ledger.fail_record_after(Some(0));
    assert_eq!(w.cache.alloc(record(1), GFP_KERNEL).err(), Some(ENOMEM));
    assert_eq!(w.machine.counters().held(), held);
    w.ledger.fail_record_after(None);
    assert!(w.cache.alloc(record(1), GFP_KERNEL).is_ok());
}

#[test]
fn each_failed_allocation_is_undone() {
    let mut nr_failed = 0;
    for n in 1..100 {
        let w = world();
        let held = w.machine.counters().held();
        let records = w.ledger.nr_records();
        kernel::fault::fail_nth_allocation(Some(n));
        let result = w.cache.alloc(record(1), GFP_KERNEL);
        let happened = kernel::fault::nr_allocations() >= n;
        kernel::fault::fail_nth_allocation(None);
        if !happened {
            break;
        }
        nr_failed += 1;
        assert_eq!(result.err(), Some(ENOMEM));
        assert_eq!(w.machine.counters().held(), held);
        assert_eq!(w.ledger.nr_records(), records);
        assert!(w.cache.alloc(record(2), GFP_KERNEL).is_ok());
        w.machine.assert_sound();
    }
    assert!(nr_failed >= 3, "{nr_failed}");
}

#[test]
fn bringing_up_undoes_each_failed_allocation() {
    let w = world();
    let handles = w.park(0..3000);
    core::mem::forget(w.cache);
    let machine = w.machine.reboot();
    let ledger = SimLedger::adopt(machine).unwrap();
    let arena = ledger.open(ID).unwrap();
    let mut arena = Some(arena);
    for n in 1..1000 {
        let taken = match arena.take() {
            Some(arena) => arena,
            None => ledger.open(ID).unwrap(),
        };
        kernel::fault::fail_nth_allocation(Some(n));
        let made = RawCache::new(taken, ledger.descriptor(ID)).map(|_| ());
        let happened = kernel::fault::nr_allocations() >= n;
        kernel::fault::fail_nth_allocation(None);
        if !happened {
            return;
        }
        assert_eq!(made.err(), Some(ENOMEM), "{n}");
    }
    let _ = handles;
    panic!("it never came up");
}

#[test]
fn frozen_caches_do_not_grow_but_go_on() {
    let w = world();
    let first = w.alloc(0);
    w.ledger.gate().freeze();
    let rest: Vec<_> = (1..62).map(|id| w.alloc(id)).collect();
    assert_eq!(w.cache.alloc(record(62), GFP_KERNEL).err(), Some(EBUSY));
    assert_eq!(w.raw.work(), Ok(()));
    assert_eq!(w.cache.set_reserve(1), Err(EBUSY));
    let handle = first.park();
    drop(rest);
    assert!(w.claim(handle).is_ok());
    let _again = w.alloc(63);
    w.ledger.gate().thaw();
    let _many: Vec<_> = (0..100).map(|id| w.alloc(id)).collect();
}

#[test]
fn who_cannot_sleep_lives_on_the_reserve() {
    let w = world();
    let alloc = || w.cache.alloc(record(1), GFP_ATOMIC);
    let kicks = w.machine.counters().kick;
    assert_eq!(alloc().err(), Some(ENOMEM));
    assert!(w.machine.counters().kick > kicks);
    w.raw.work().unwrap();
    let calls = w.machine.counters().alloc;
    kernel::context::enter_atomic();
    let objects: Vec<_> = (0..62).map(|_| alloc().unwrap()).collect();
    let last = alloc();
    kernel::context::leave_atomic();
    assert_eq!(last.err(), Some(ENOMEM));
    assert_eq!(w.machine.counters().alloc, calls);
    w.raw.work().unwrap();
    assert!(alloc().is_ok());
    drop(objects);
    w.machine.assert_sound();
}

#[test]
fn the_reserve_is_a_last_resort_for_those_who_may_sleep() {
    let w = world();
    w.cache.set_reserve(2).unwrap();
    assert_eq!(w.raw.counts().nr_runs, 2);
    let object = w.alloc(1);
    assert_eq!(w.raw.counts().nr_runs, 3);
    w.ledger.gate().freeze();
    let more: Vec<_> = (0..3 * 62 - 1).map(|id| w.alloc(id)).collect();
    assert_eq!(w.cache.alloc(record(1), GFP_KERNEL).err(), Some(EBUSY));
    drop((object, more));
}

#[test]
fn a_reserve_crosses_as_empty_slabs() {
    let w = world();
    w.cache.set_reserve(2).unwrap();
    let w = w.reboot();
    let runs = w.raw.counts().nr_runs;
    assert_eq!(runs, 2);
    let _objects: Vec<_> = (0..124).map(|id| w.alloc(id)).collect();
    assert_eq!(w.raw.counts().nr_runs, runs);
}

#[test]
fn empty_runs_go_back_but_not_all() {
    let w = world_of(4096);
    let objects: Vec<_> = (0..20_000).map(|id| w.alloc(id)).collect();
    let (before, _, _) = w.machine.counters().held();
    drop(objects);
    w.raw.work().unwrap();
    let counts = w.raw.counts();
    let (after, _, _) = w.machine.counters().held();
    assert!(after < before / 4, "{after} {before}");
    assert!(counts.nr_runs >= 1);
    assert_eq!(counts.bytes % 4096, 0);
    // Nothing more to give back.
    w.raw.work().unwrap();
    assert_eq!(w.raw.counts(), counts);
    // And it can grow again, in the same places.
    let objects: Vec<_> = (0..20_000).map(|id| w.alloc(id)).collect();
    for (id, object) in objects.iter().enumerate() {
        assert!(is_record(object, id as u64));
    }
    let handles: Vec<_> = objects.into_iter().map(Preserved::park).collect();
    // Where a run went and another came, it is the other that is found.
    for (id, handle) in handles.iter().enumerate() {
        let object = w.claim(*handle).unwrap();
        assert!(is_record(&object, id as u64));
        assert_eq!(object.park(), *handle);
    }
    let w = w.reboot();
    for (id, handle) in handles.iter().enumerate() {
        assert!(is_record(&w.claim(*handle).unwrap(), id as u64));
    }
    w.machine.assert_sound();
}

#[test]
fn inherited_runs_go_back_when_finished() {
    let w = world_of(4096);
    w.park(0..20_000);
    let w = w.reboot();
    let (before, _, _) = w.machine.counters().held();
    assert_eq!(w.cache.finish(), 20_000);
    w.raw.work().unwrap();
    let (after, _, _) = w.machine.counters().held();
    assert!(after < before / 4, "{after} {before}");
    w.machine.assert_sound();
}

#[test]
fn a_handle_into_a_run_that_went_is_einval() {
    let w = world_of(4096);
    let handles = w.park(0..20_000);
    for handle in &handles {
        w.cache.discard(*handle).unwrap();
    }
    w.raw.work().unwrap();
    let mut nr_gone = 0;
    for handle in &handles {
        match w.claim(*handle).err() {
            Some(error) if error == EINVAL => nr_gone += 1,
            other => assert_eq!(other, Some(ENOENT)),
        }
    }
    assert!(nr_gone > 10_000);
}

#[test]
fn an_object_of_64_bytes_costs_at_most_72() {
    let w = world_of(4096);
    for id in 0..100_000 {
        core::mem::forget(w.alloc(id));
    }
    let counts = w.raw.counts();
    // Volatile words: 4 of 8 bytes a slab, and a bit.
    let bytes = counts.bytes + counts.nr_slabs * 33;
    assert!(bytes <= 72 * 100_000, "{bytes}");
    assert!(counts.nr_runs < 200, "{}", counts.nr_runs);
}

#[test]
fn many_threads_share_a_cache() {
    let w = world_of(8192);
    let cache = &w.cache;
    let left: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    let mut random = kpreserve_sim::Random::new(thread + 1);
                    for i in 0..20_000u64 {
                        if random.percent(60) || mine.is_empty() {
                            let id = (thread << 32) | i;
                            mine.push((id, cache.alloc(record(id), GFP_KERNEL).unwrap()));
                        } else {
                            let at = random.below(mine.len() as u64) as usize;
                            let (id, object) = mine.swap_remove(at);
                            assert!(is_record(&object, id));
                            if random.percent(30) {
                                let handle = object.park();
                                let object = cache.claim(handle).unwrap();
                                assert!(is_record(&object, id));
                            }
                        }
                        if i % 5000 == 0 {
                            cache.raw().work().unwrap();
                        }
                    }
                    for (id, object) in &mine {
                        assert!(is_record(object, *id));
                    }
                    let n = mine.len();
                    mine.into_iter().for_each(|(_, object)| {
                        object.park();
                    });
                    n
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(w.raw.counts().nr_objects, left);
    let w = w.reboot();
    assert_eq!(w.raw.counts().nr_objects, left);
    assert_eq!(w.cache.finish(), left);
    w.machine.assert_sound();
}

#[test]
fn of_many_claims_one_wins() {
    let w = world();
    let handles = w.park(0..200);
    let w = w.reboot();
    let cache = &w.cache;
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let handles = &handles;
                scope.spawn(move || {
                    let mut won = Vec::new();
                    for handle in handles {
                        match cache.claim(*handle) {
                            Ok(object) => won.push(object),
                            Err(error) => assert_eq!(error, EBUSY),
                        }
                    }
                    won.into_iter().map(core::mem::forget).count()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(won, 200);
}

#[test]
fn big_objects_have_big_slabs() {
    let machine = SimMachine::boot(Config::with_pages(4096));
    let ledger = SimLedger::create(machine).unwrap();
    ledger.describe(ID, descriptor::<[u64; 2000]>());
    let raw = bring_up(ledger, ID).unwrap();
    let cache = Cache::<[u64; 2000]>::from_raw(raw).unwrap();
    let handles: Vec<_> = (0..100)
        .map(|i| cache.alloc([i; 2000], GFP_KERNEL).unwrap().park())
        .collect();
    core::mem::forget(cache);
    let ledger = SimLedger::adopt(machine.reboot()).unwrap();
    let cache = Cache::<[u64; 2000]>::from_raw(bring_up(ledger, ID).unwrap()).unwrap();
    for (i, handle) in handles.iter().enumerate() {
        assert_eq!(*cache.claim(*handle).unwrap(), [i as u64; 2000]);
    }
}

#[test]
fn small_objects_have_many_words() {
    let machine = SimMachine::boot(Config::with_pages(4096));
    let ledger = SimLedger::create(machine).unwrap();
    ledger.describe(ID, descriptor::<u64>());
    let raw = bring_up(ledger, ID).unwrap();
    let cache = Cache::<u64>::from_raw(raw).unwrap();
    let handles: Vec<_> = (0..5000u64)
        .map(|i| cache.alloc(i, GFP_KERNEL).unwrap().park())
        .collect();
    for handle in handles.iter().step_by(3) {
        cache.discard(*handle).unwrap();
    }
    core::mem::forget(cache);
    let ledger = SimLedger::adopt(machine.reboot()).unwrap();
    let raw = bring_up(ledger, ID).unwrap();
    let cache = Cache::<u64>::from_raw(raw).unwrap();
    let runs = raw.counts().nr_runs;
    for i in 0..1600 {
        core::mem::forget(cache.alloc(i, GFP_KERNEL).unwrap());
    }
    assert_eq!(raw.counts().nr_runs, runs);
    for (i, handle) in handles.iter().enumerate() {
        if i % 3 != 0 {
            assert_eq!(*cache.claim(*handle).unwrap(), i as u64);
        }
    }
}
