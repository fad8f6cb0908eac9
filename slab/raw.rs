// SPDX-License-Identifier: GPL-2.0

//! A cache without its type: what it consists of, how it is made, opened and closed.
//!
//! Locks, outermost first:
//!
//! 1. the gate of the ledger (a pass, held while runs are added or released);
//! 2. `RawCache::ground`, a mutex: the arena and the memory behind the directory;
//! 3. a slab's lock bit (touch.rs), held pinned;
//! 4. `RawCache::index`, a spin lock of tasks; never taken from an interrupt.

use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Full,
    Relaxed, //
};
use kernel::sync::{
    Mutex,
    SpinLock, //
};
use kernel::{
    new_mutex,
    new_spinlock, //
};

use kpreserve_kho::ordered::Loads as _;
use kpreserve_kho::{
    note,
    Arena,
    ArenaSer,
    Ledger,
    Machine,
    Node,
    Run,
    Window, //
};

use crate::directory::{
    Directory,
    Index,
    Places, //
};
use crate::dry::Dry;
use crate::geometry::Geometry;
use crate::grow::inherit;
use crate::sheaf::Cpus;
use crate::tag::Tag;

/// A slab cache of objects of one size, all of whose memory survives a kexec.
///
/// It is made once, by the framework, for an arena; from then on it lives as long as the kernel,
/// whether it is open or not. Consumers use it through [`Cache`](crate::Cache).
#[pin_data]
pub struct RawCache {
    pub(crate) fixed: Fixed,
    #[pin]
    pub(crate) index: SpinLock<Index>,
    #[pin]
    pub(crate) ground: Mutex<Ground>,
}

/// What needs no lock: what never changes, and what is atomic.
pub(crate) struct Fixed {
    geometry: Geometry,
    window: Window,
    machine: &'static dyn Machine,
    ledger: &'static dyn Ledger,
    owner: u32,
    root_id: u64,
    cpus: Cpus,
    pub(crate) directory: Directory,
    /// Where to look for free slots first; all runs below are full, as far as known.
    pub(crate) cursor: Atomic<u32>,
    /// Whether a search needs to look at that run only.
    pub(crate) dry: Dry,
    /// How many runs are condemned, or about to be.
    pub(crate) nr_condemned: Atomic<u32>,
    /// How many runs have become usable, ever; tells who waited to grow that somebody did.
    pub(crate) nr_runs_added: Atomic<u32>,
    /// Whether a CPU may hold slots, and whether slots have come back since the worker looked; see
    /// rest.rs.
    pub(crate) in_use: Atomic<u32>,
    pub(crate) has_news: Atomic<u32>,
    /// How many places have been inherited, and where looking over them goes on: the place, in the
    /// upper half, and the slab.
    pub(crate) nr_inherited: u32,
    pub(crate) looked_over: Atomic<u64>,
    /// How many reserved runs there are, and how many there should be.
    pub(crate) nr_reserved: Atomic<u32>,
    pub(crate) nr_reserved_wanted: Atomic<u32>,
    nr_quarantined: Atomic<u32>,
    /// How often the cache has been opened, from 1 on.
    epoch: Atomic<u32>,
    nr_users: Atomic<u32>,
    /// The first tag of the next slab that is formatted.
    first_tag: Atomic<u32>,
}

/// What it takes to add a run, or to give one back.
pub(crate) struct Ground {
    pub(crate) arena: Arena,
    pub(crate) places: Places,
}

/// How much a cache holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Live objects.
    pub nr_objects: usize,
    /// Slabs, formatted or not.
    pub nr_slabs: usize,
    /// Slabs that were refused or misused, and are left alone in this boot.
    pub nr_quarantined: usize,
    /// Runs, which is also the number of keys that the handover knows.
    pub nr_runs: usize,
    /// Bytes of preserved memory.
    pub bytes: usize,
}

impl RawCache {
    /// Makes a cache over the runs of `arena`, which may be none; what they hold is found out when
    /// they are first used. `ser` is the arena's descriptor. May sleep.
    ///
    /// Used as `place.write_pin_init(RawCache::new(arena, ser)?)?` on a `KBox` that was made
    /// before (an initialiser that is dropped keeps the runs of the arena), and then leaked: the
    /// cache goes on for ever.
    ///
    /// Cost: goes with the number of runs (and a few instructions a page); no slab is read.
    ///
    /// # Errors
    ///
    /// EINVAL if the descriptor makes no layout (the refusal is logged), or a run is smaller than
    /// a slab; ENOMEM. The runs have then gone back to the ledger ([`Ledger::close`]).
    pub fn new(arena: Arena, ser: &ArenaSer) -> Result<impl PinInit<Self>> {
        let ledger = arena.ledger();
        let id = arena.id();
        match Parts::new(&arena, ser) {
            Ok(parts) => Ok(parts.into_init(arena)),
            Err(error) => {
                // SAFETY: the arena was the caller's, and goes away here with all of its runs.
                unsafe { ledger.close(id, arena.into_runs()) };
                Err(error)
            }
        }
    }

    /// Opens the cache for one consumer. What is unclaimed now is what
    /// [`finish`](Self::finish) will free.
    ///
    /// # Errors
    ///
    /// EBUSY while it is open.
    pub fn try_open(&'static self) -> Result<Opened> {
        self.fixed.nr_users.cmpxchg(0, 1, Full).map_err(|_| EBUSY)?;
        if self.fixed.epoch.fetch_add(1, Full) == 1 {
            // Runs that are added later are noted when they come.
            for run in self.ground.lock().arena.runs() {
                self.note(run);
            }
            if self.has_unknown() {
                self.machine().kick_worker();
            }
        }
        Ok(Opened { cache: self })
    }

    /// Notes on a run of this cache whose it is.
    pub(crate) fn note(&self, run: &Run) {
        run.pages
            .set_note(core::ptr::from_ref(self).expose_provenance());
    }

    /// Returns the cache that a slot is of, when its address is all that is left.
    ///
    /// # Safety
    ///
    /// The slot has an owner, and its cache has been opened.
    // Consumers compile what calls this, and cannot link against the C behind it.
    #[inline(never)]
    pub(crate) unsafe fn of(slot: NonNull<u8>) -> &'static RawCache {
        // SAFETY: a run that a slot of which has an owner stays.
        let note = unsafe { note::of(slot) };
        let cache: *const RawCache = core::ptr::with_exposed_provenance(note);
        // SAFETY: opening has noted the cache on each run that was there, and growing on each other
        // one, before it gave out a slot; nobody else notes anything on a run of a cache. Caches that
        // are opened live for ever.
        unsafe { &*cache }
    }

    /// Returns whether the cache is open.
    pub fn is_open(&self) -> bool {
        self.fixed.nr_users.load_acquire() != 0
    }

    /// Returns the layout of the slabs.
    #[inline]
    pub fn geometry(&self) -> &Geometry {
        &self.fixed.geometry
    }

    /// Returns the id of the arena.
    pub fn owner(&self) -> u32 {
        self.fixed.owner
    }

    /// Returns the machine that the cache is on.
    #[inline]
    pub fn machine(&self) -> &'static dyn Machine {
        self.fixed.machine
    }

    /// Prefers a NUMA node for runs to come, in this boot. May sleep.
    pub fn set_node(&self, node: Node) {
        self.ground.lock().arena.set_node(node);
    }

    pub(crate) fn ledger(&self) -> &'static dyn Ledger {
        self.fixed.ledger
    }

    pub(crate) fn root_id(&self) -> u64 {
        self.fixed.root_id
    }

    #[inline]
    pub(crate) fn window(&self) -> &Window {
        &self.fixed.window
    }

    #[inline]
    pub(crate) fn cpus(&self) -> &Cpus {
        &self.fixed.cpus
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.fixed.epoch.load_acquire()
    }

    /// Returns the tag that the slots of the next slab begin with. It differs from slab to slab, so
    /// that a handle from before a run was given back is stale where the run has grown again.
    pub(crate) fn next_first_tag(&self) -> Tag {
        Tag(self.fixed.first_tag.fetch_add(2, Relaxed) as u8 & !1)
    }

    /// Counts a slab that is quarantined; returns how many there were before.
    pub(crate) fn note_quarantined(&self) -> u32 {
        self.fixed.nr_quarantined.fetch_add(1, Relaxed)
    }

    /// Counts what the cache holds. For tasks.
    ///
    /// Cost: a byte is read for each slot, so that nothing has to be counted when it is allocated
    /// or freed. Slabs that nobody has touched yet are touched.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            nr_quarantined: self.fixed.nr_quarantined.load_relaxed() as usize,
            ..Counts::default()
        };
        self.for_each_run(|run| {
            counts.nr_runs += 1;
            counts.bytes += run.nr_pages() * kpreserve_kho::phys::PAGE_SIZE_BYTES;
            let nr_slabs = run.nr_slabs(&self.fixed.geometry);
            counts.nr_slabs += nr_slabs as usize;
            for index in 0..nr_slabs {
                if let Some(slab) = run.slab(index, &self.fixed.geometry) {
                    if let Ok(crate::touch::Touched::Known) = self.touch(&slab) {
                        let live =
                            (0..self.fixed.geometry.nr_slots()).filter(|&s| slab.tag(s).is_live());
                        counts.nr_objects += live.count();
                    }
                }
            }
        });
        counts
    }
}

/// What can fail about making a cache.
struct Parts {
    fixed: Fixed,
    places: Places,
    index: Index,
}

impl Parts {
    fn new(arena: &Arena, ser: &ArenaSer) -> Result<Self> {
        let geometry = Geometry::from_ser(ser).map_err(|refusal| refusal.report())?;
        let (machine, ledger) = (arena.machine(), arena.ledger());
        let mut parts = Parts {
            fixed: Fixed {
                geometry,
                window: machine.window(),
                machine,
                ledger,
                owner: arena.id(),
                root_id: ledger.root_id(),
                cpus: Cpus::new(machine, geometry.stride_bytes())?,
                directory: Directory::new(),
                cursor: Atomic::new(0),
                dry: Dry::new(),
                nr_condemned: Atomic::new(0),
                nr_runs_added: Atomic::new(0),
                in_use: Atomic::new(0),
                has_news: Atomic::new(0),
                nr_inherited: 0,
                looked_over: Atomic::new(0),
                nr_reserved: Atomic::new(0),
                nr_reserved_wanted: Atomic::new(0),
                nr_quarantined: Atomic::new(0),
                epoch: Atomic::new(1),
                nr_users: Atomic::new(0),
                first_tag: Atomic::new(machine.random_u64() as u32),
            },
            places: Places::new(),
            index: Index::with_capacity(arena.runs().len())?,
        };
        for run in arena.runs() {
            let directory = &parts.fixed.directory;
            inherit(
                &geometry,
                directory,
                &mut parts.places,
                &mut parts.index,
                run,
            )?;
        }
        parts.index.sort();
        // The run that was added last is the one most likely to have free slots; the others follow
        // before the cache grows.
        let nr_places = parts.fixed.directory.nr_places();
        parts.fixed.nr_inherited = nr_places;
        parts
            .fixed
            .cursor
            .store(nr_places.saturating_sub(1), Relaxed);
        Ok(parts)
    }

    fn into_init(self, arena: Arena) -> impl PinInit<RawCache> {
        let Parts {
            fixed,
            places,
            index,
        } = self;
        let ground = Ground { arena, places };
        pin_init!(RawCache {
            fixed,
            index <- new_spinlock!(index, "kpreserve_index"),
            ground <- new_mutex!(ground, "kpreserve_cache"),
        })
    }
}

/// The right to use a cache; shared by cloning. When the last one is dropped, the cache is closed,
/// which frees nothing.
pub struct Opened {
    cache: &'static RawCache,
}

impl Opened {
    /// Returns the cache.
    #[inline]
    pub fn raw(&self) -> &'static RawCache {
        self.cache
    }
}

impl Clone for Opened {
    fn clone(&self) -> Self {
        self.cache.fixed.nr_users.fetch_add(1, Relaxed);
        Opened { cache: self.cache }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.cache.fixed.nr_users.fetch_sub(1, Full);
    }
}
