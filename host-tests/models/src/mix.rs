// SPDX-License-Identifier: GPL-2.0

//! With shuttle: everything at once, on four CPUs, with interrupts, over a cache that grows and
//! shrinks, and what the next kernel finds.

use core::mem::ManuallyDrop;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{
    Arc,
    Mutex, //
};
use std::vec::Vec;

use kernel::alloc::flags::GFP_NOWAIT;
use kernel::models::{
    self,
    Bug, //
};
use kernel::prelude::*;
use kpreserve_sim::Random;
use kpreserve_slab::{
    RawCache,
    Slot, //
};

use crate::world::{
    BigSer,
    LineSer,
    Object,
    World, //
};

/// What is known of the slots of a cache.
#[derive(Default)]
struct Known {
    /// Who owns what, by address; the number is in the object, too.
    owned: BTreeMap<usize, u64>,
    /// Objects that nobody owns, by handle.
    parked: BTreeMap<u64, u64>,
    next_id: u64,
}

#[derive(Clone)]
struct Shared {
    cache: &'static RawCache,
    known: Arc<Mutex<Known>>,
}

impl Shared {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The last word of an object.
    fn last(&self, start: *mut u8) -> *mut u64 {
        start
            .wrapping_add(self.cache.geometry().stride_bytes() - 8)
            .cast()
    }

    fn alloc(&self, flags: kernel::alloc::Flags) -> Option<Slot> {
        let vacant = match self.cache.alloc_slot(flags) {
            Ok(vacant) => vacant,
            Err(error) => {
                assert_eq!(error, ENOMEM);
                return None;
            }
        };
        let start = vacant.as_ptr();
        let mut known = self.known();
        known.next_id += 1;
        let id = known.next_id;
        let before = known.owned.insert(start.addr(), id);
        drop(known);
        assert_eq!(before, None, "two owners");
        for word in [start.cast::<u64>(), self.last(start)] {
            // SAFETY: inside the slot, which is this owner's.
            let old = unsafe { word.replace(id) };
            assert_eq!(old, 0, "old bytes in a slot");
        }
        Some(vacant.publish())
    }

    fn check(&self, slot: &Slot, id: u64) {
        let start = slot.as_ptr();
        for word in [start.cast::<u64>(), self.last(start)] {
            // SAFETY: inside the slot, which is this owner's.
            assert_eq!(unsafe { word.read() }, id, "an object is damaged");
        }
    }

    fn disown(&self, slot: &Slot) {
        let id = self.known().owned.remove(&slot.as_ptr().addr());
        match id {
            Some(id) => self.check(slot, id),
            None => panic!("an owner that nobody knows"),
        }
    }

    fn free(&self, slot: Slot) {
        self.disown(&slot);
        slot.free();
    }

    fn park(&self, slot: Slot) {
        // Nobody else may come while the books are held: this is one thread of the host.
        let handle = slot.handle();
        let mut known = self.known();
        let id = known.owned.remove(&slot.as_ptr().addr());
        let id = id.expect("an owner that nobody knows");
        let before = known.parked.insert(handle, id);
        drop(known);
        assert_eq!(before, None, "two objects of one handle");
        assert_eq!(slot.park(), handle);
    }

    /// Claims an object that was parked, which somebody else may do as well.
    fn claim(&self, n: u64) -> Option<Slot> {
        let handle = {
            let known = self.known();
            let len = known.parked.len().max(1);
            *known.parked.keys().nth(n as usize % len)?
        };
        match self.cache.claim(handle) {
            Ok(slot) => {
                let mut known = self.known();
                let id = known.parked.remove(&handle).expect("claimed twice");
                let before = known.owned.insert(slot.as_ptr().addr(), id);
                drop(known);
                assert_eq!(before, None, "two owners");
                self.check(&slot, id);
                Some(slot)
            }
            Err(error) => {
                assert!(
                    [EBUSY, ENOENT, ESTALE, EINVAL].contains(&error),
                    "{error:?}"
                );
                None
            }
        }
    }
}

const NR_OPS: usize = 14;
const NR_OWNED_MAX: usize = 4;

/// What a task does on its CPU.
fn work(shared: &Shared, seed: u64) {
    let mut random = Random::new(seed);
    let mut owned: Vec<Slot> = Vec::new();
    for _ in 0..NR_OPS {
        match random.below(16) {
            0..6 if owned.len() < NR_OWNED_MAX => {
                let flags = if random.percent(5) {
                    GFP_KERNEL
                } else {
                    GFP_NOWAIT
                };
                owned.extend(shared.alloc(flags));
            }
            0..8 => {
                if let Some(slot) = owned.pop() {
                    shared.free(slot);
                }
            }
            8..9 => {
                if let Some(slot) = owned.pop() {
                    shared.park(slot);
                }
            }
            9..11 => owned.extend(shared.claim(random.next_u64())),
            11..14 => shared.cache.drain_here(),
            14 => {
                shared.cache.condemn_empty(64);
            }
            _ => {
                // EBUSY and ENOMEM are for the next time.
                let _ = shared.cache.work();
            }
        }
    }
    for slot in owned {
        if random.percent(50) {
            shared.free(slot);
        } else {
            shared.park(slot);
        }
    }
}

/// An interrupt now and then: it allocates and frees, on whatever CPU it finds itself.
fn interrupts(shared: &Shared, seed: u64) -> impl Fn() {
    let shared = shared.clone();
    let state = Rc::new(RefCell::new((
        Random::new(seed),
        Vec::<ManuallyDrop<Slot>>::new(),
    )));
    move || {
        let Ok(mut state) = state.try_borrow_mut() else {
            return;
        };
        let (random, owned) = &mut *state;
        if !random.percent(4) {
            return;
        }
        if random.percent(50) && owned.len() < 2 {
            owned.extend(shared.alloc(GFP_NOWAIT).map(ManuallyDrop::new));
        } else if let Some(slot) = owned.pop() {
            shared.free(ManuallyDrop::into_inner(slot));
        }
    }
}

fn mix<T: Object>(nr_tasks: u64, nr_cpus: usize) {
    let world = World::new::<T>(nr_cpus);
    // Few slots are free, so that all are after the same ones.
    let kept = world.leave_free(3);
    let known = Arc::new(Mutex::new(Known::default()));
    let shared = Shared {
        cache: world.cache,
        known,
    };
    // What the schedule is has to follow from shuttle's seed alone, and so has what tasks do.
    let seed = models::random();
    let phase = models::begin_shuttle();
    models::set_interrupt(interrupts(&shared, seed));
    let tasks: Vec<_> = (0..nr_tasks)
        .map(|task| {
            let shared = shared.clone();
            models::spawn_shuttle(move || {
                kpreserve_sim::set_cpu(task as usize);
                work(&shared, seed.wrapping_add(task + 1));
            })
        })
        .collect();
    for task in tasks {
        task.join().unwrap();
    }
    drop(phase);
    drop(kept);
    settle(world, &shared);
}

/// All tasks are done: what is where?
fn settle(world: World, shared: &Shared) {
    world.drain();
    let counts = world.cache.counts();
    assert_eq!(counts.nr_quarantined, 0);
    let known = core::mem::take(&mut *shared.known());
    // What the interrupts have kept is live, too; its owner was forgotten with them.
    assert_eq!(counts.nr_objects, known.parked.len() + known.owned.len());
    assert_eq!(world.cache.work(), Ok(()));
    world.machine.assert_sound();
    let world = world.reboot();
    let mut ids: Vec<u64> =
        Iterator::chain(known.parked.into_values(), known.owned.into_values()).collect();
    ids.sort_unstable();
    let mut found: Vec<u64> = Vec::new();
    for slot in world.cache.unclaimed() {
        // SAFETY: inside the slot, whose owner this is.
        found.push(unsafe { slot.as_ptr().cast::<u64>().read() });
    }
    found.sort_unstable();
    assert_eq!(found, ids, "the next kernel finds something else");
    world.end();
}

fn shake<T: Object>(nr_tasks: u64, nr_cpus: usize, nr_schedules: usize, seed: u64) {
    models::shake(nr_schedules, seed, move || mix::<T>(nr_tasks, nr_cpus));
}

#[test]
fn big_objects_on_four_cpus() {
    shake::<BigSer>(4, 4, NR_SCHEDULES, 1);
}

#[test]
fn small_objects_on_four_cpus() {
    shake::<LineSer>(4, 4, NR_SCHEDULES, 2);
}

#[test]
fn more_tasks_than_cpus() {
    shake::<BigSer>(4, 2, NR_SCHEDULES, 3);
}

const NR_SCHEDULES: usize = 2000;

#[test]
fn catches_operations_that_are_torn() {
    models::plant(Some(Bug::Torn));
    // About every second seed has a schedule that tears one where it matters.
    let is_noticed =
        (1..=16).any(|seed| models::catches(|| shake::<LineSer>(4, 4, 2000, seed)).is_some());
    models::plant(None);
    assert!(is_noticed, "torn operations were not noticed");
}
