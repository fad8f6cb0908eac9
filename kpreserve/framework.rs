// SPDX-License-Identifier: GPL-2.0

//! The framework: one a boot, from which everything is opened.

use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};
use kernel::sync::Mutex;
use kernel::time::{
    delay::fsleep,
    Delta, //
};
use kpreserve_kho::{
    ledger::FREEZE_WAIT_MS,
    phys::PAGE_SIZE_BYTES,
    run::Pledged,
    Arena,
    Gate,
    GatePass,
    Ledger,
    LedgerSlot,
    Machine,
    PageRun,
    Phys,
    Run, //
};

use crate::adopt::{
    adopt,
    Adopted, //
};
use crate::begin::{
    go_on,
    replace, //
};
use crate::names::Names;
use crate::pool::Pool;
use crate::roll::Roll;
use crate::root::Root;
use crate::rwlock::RwLock;
use crate::survey::{
    survey,
    Subtree, //
};
use crate::table::RunTable;
use crate::tally::Tally;

/// KiB of a page.
const PAGE_KIB: usize = PAGE_SIZE_BYTES / 1024;

/// So many pages of inherited slabs are looked over each time the worker is woken: 8 MiB, about a
/// millisecond.
const NR_PAGES_LOOKED_OVER: usize = 2048;

/// The framework of this boot.
///
/// Lock order: a [`GatePass`] before any lock; then `names`, then `pool`, then `table`. A cache's
/// growth lock comes between the pass and `table`. KHO's own mutex is taken under all of them,
/// which is why none of them may be taken by reclaim (reclaim.rs).
#[pin_data]
pub struct Framework {
    machine: &'static dyn Machine,
    root: Root,
    /// Runs and pages that the previous kernel left to us.
    inherited: (usize, usize),
    roll: Roll,
    reclaim_counts: ReclaimCounts,
    tally: Tally,
    #[pin]
    gate: Gate,
    #[pin]
    names: RwLock<Option<Names>>,
    #[pin]
    pool: Mutex<Pool>,
    #[pin]
    table: Mutex<RunTable>,
}

/// What reclaim and CPU hotplug have done in this boot.
pub(crate) struct ReclaimCounts {
    pub(crate) nr_calls: Atomic<u64>,
    pub(crate) nr_pages: Atomic<u64>,
    pub(crate) nr_cpus_drained: Atomic<u64>,
}

/// What [`Framework::boot`] does about an image that is refused, or whose names are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IfRefused {
    /// Use none of it, and hand it on to the next kernel as it is.
    Fail,
    /// Begin a new image. The refused one is lost: if it is the root page or the run table that is
    /// refused, its memory is out of reach until the next boot; if it is the names, it is freed.
    BeginAnew,
}

/// Numbers about an image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// How many kernels have owned it, this one included.
    pub generation: u64,
    /// Runs in the run table, the table's own and the root page included: as many as KHO keys,
    /// unless entries were refused.
    pub nr_keys: usize,
    /// Runs that this kernel inherited, the table's own and the root page not included.
    pub nr_runs_inherited: usize,
    /// Their pages.
    pub nr_pages_inherited: usize,
    /// Runs that nobody has open.
    pub nr_runs_waiting: usize,
    /// Their pages.
    pub nr_pages_waiting: usize,
    /// Names in the dictionary.
    pub nr_names: u64,
    /// How often reclaim has asked for memory.
    pub nr_reclaims: u64,
    /// Pages of empty runs that it has condemned; the worker gives them back unless they are used
    /// again before.
    pub nr_pages_condemned: u64,
    /// How often what a CPU held was given back because the CPU was gone.
    pub nr_cpus_drained: u64,
}

impl Framework {
    /// Adopts the image of the previous kernel, or begins one if there is none. Once a boot.
    ///
    /// An image that is refused is handed on to the next kernel as it is: as far as its run table
    /// can be read, nothing of it is lost. It may be tried again in this boot, also with
    /// [`IfRefused::BeginAnew`].
    ///
    /// May sleep. Cost: a few dozen instructions a run, a few a page; nothing an object.
    ///
    /// # Errors
    ///
    /// - EOPNOTSUPP if this kernel does not hand memory over (`kho=on` is missing on the command
    ///   line): what there is of an image is lost. Or if the image has a newer version: it is
    ///   handed on.
    /// - EINVAL if the root page or the frame of the run table is refused: handed on.
    /// - EBUSY if this boot owns an image already.
    /// - ENOMEM: the image is as it was. If nobody tries again in this boot, it is lost.
    pub fn boot(machine: &'static dyn Machine, if_refused: IfRefused) -> Result<&'static Self> {
        if !machine.is_enabled() {
            say_what_is_locked_away(machine);
            return Err(EOPNOTSUPP);
        }
        // Room for the framework first: after the adoption nothing may fail.
        let place = KBox::<Self>::new_uninit(GFP_KERNEL)?;
        let adopted = adopt(machine).or_else(|unfit| go_on(machine, unfit, if_refused))?;
        let nr_withheld = adopted.nr_withheld;
        let (framework, carried) = Self::put(place, machine, adopted)?;
        // The image is ours and handed on, whatever its names are like: a failure here shows again
        // at the first open.
        match framework.with_names(|_| Ok(())) {
            Err(error) if error == EINVAL || error == EOPNOTSUPP => {
                if if_refused == IfRefused::BeginAnew && nr_withheld == 0 {
                    return Ok(framework.give_up(carried).unwrap_or(framework));
                }
                pr_err!(
                    "the names of the image are refused: nothing can be opened in this boot. {} \
                     runs ({} KiB) are carried on. {}\n",
                    framework.inherited.0,
                    framework.inherited.1 * PAGE_KIB,
                    if nr_withheld > 0 {
                        "It was KHO that withheld a run, and the next kernel may get it: fresh=1 \
                         does not apply"
                    } else {
                        "To give them up and begin a new image, let the next kernel load kpreserve \
                         with fresh=1 (kpreserve.fresh=1 on its command line)"
                    }
                );
            }
            _ => framework.say_what_was_adopted(),
        }
        Ok(framework)
    }

    /// Makes the framework of an image that is ours.
    fn put(
        place: KBox<core::mem::MaybeUninit<Self>>,
        machine: &'static dyn Machine,
        adopted: Adopted,
    ) -> Result<(&'static Self, KVVec<PageRun<Pledged>>)> {
        let Adopted {
            root,
            table,
            pool,
            carried,
            nr_withheld: _,
        } = adopted;
        let inherited = pool.waiting();
        let tally = Tally::new(&table, &pool, root.head().nr_names.load());
        let init = try_pin_init!(Self {
            machine,
            root,
            inherited,
            roll: Roll::new(),
            reclaim_counts: ReclaimCounts {
                nr_calls: Atomic::new(0),
                nr_pages: Atomic::new(0),
                nr_cpus_drained: Atomic::new(0),
            },
            tally,
            gate <- Gate::new(),
            names <- RwLock::new(None),
            pool <- new_mutex!(pool, "kpreserve_pool"),
            table <- new_mutex!(table, "kpreserve_table"),
        }? Error);
        let framework = place.write_pin_init(init)?;
        // SAFETY: leaked, so it is never moved again.
        let framework: &'static Self = KBox::leak(unsafe { Pin::into_inner_unchecked(framework) });
        framework.root.head().generation.fetch_add(1);
        framework.root.head().boot.store(machine.random_u64());
        Ok((framework, carried))
    }

    /// Begins a new image in the place of this one, whose names are refused; all that this one has
    /// is freed. `None` if that cannot be done: all is as it was then.
    ///
    /// Nothing is open: there are no names to open it by. The new root page is announced before
    /// anything of the old image goes.
    fn give_up(&'static self, carried: KVVec<PageRun<Pledged>>) -> Option<&'static Self> {
        let old = Subtree {
            phys: self.root.phys(),
            size_bytes: PAGE_SIZE_BYTES,
        };
        let begin = || {
            let place = KBox::<Self>::new_uninit(GFP_KERNEL)?;
            let pool = Pool::with_capacity(0, KVVec::new())?;
            let (root, page) = Root::create(self.machine)?;
            if let Err(error) = replace(self.machine, old, root) {
                drop(page.unpreserve());
                return Err(error);
            }
            let adopted = Adopted {
                root,
                table: RunTable::new(root),
                pool,
                carried: KVVec::new(),
                nr_withheld: 0,
            };
            Self::put(place, self.machine, adopted)
        };
        let (framework, _) = begin()
            .inspect_err(|error| {
                pr_err!(
                    "cannot begin a new image: {:?}; the old one, whose names are refused, is \
                     carried on\n",
                    error
                );
            })
            .ok()?;
        self.pool
            .lock()
            .take_all(|run| drop(run.pages.unpreserve()));
        self.table.lock().free_blocks();
        for run in carried {
            // Not ours to free: it was never restored.
            let _ = run.unpreserve();
        }
        // SAFETY: the root page was preserved as a run of this order by `adopt`, and is announced
        // no more. It is not freed: KHO's debugfs shows it as long as the kernel runs.
        unsafe { self.machine.unpreserve(old.phys, 0) };
        pr_warn!(
            "began a new image, as asked; the one whose names are refused is given up: {} runs ({} \
             KiB) are freed\n",
            self.inherited.0,
            self.inherited.1 * PAGE_KIB
        );
        Some(framework)
    }

    /// Says in one line what came from the previous kernel.
    fn say_what_was_adopted(&self) {
        let head = self.root.head();
        let generation = head.generation.load();
        if generation > 1 {
            pr_info!(
                "generation {}: {} runs ({} KiB) adopted, {} names\n",
                generation,
                self.inherited.0,
                self.inherited.1 * PAGE_KIB,
                head.nr_names.load()
            );
        }
    }

    /// Says in one line what the next kernel gets, and what of it nobody has opened in this boot:
    /// for the reboot notifier, behind [`freeze`](Self::freeze). Takes no lock.
    pub fn say_what_is_handed_on(&self) {
        let head = self.root.head();
        self.tally
            .say_what_is_handed_on(head.generation.load(), head.nr_names.load());
    }

    /// Shuts structural writers out, and waits for those that are inside, up to 10 s. Idempotent.
    ///
    /// Cost: a lock, whatever the number of objects; no allocation, no KHO call.
    pub fn freeze(&self) {
        let nr_inside = self.gate.freeze();
        if nr_inside > 0 {
            pr_err!(
                "{} writers are still inside after {} s; going on, the image is whole at any time\n",
                nr_inside,
                FREEZE_WAIT_MS / 1000
            );
        }
    }

    /// Lets structural writers in again: the reboot did not happen.
    pub fn thaw(&self) {
        self.gate.thaw();
    }

    /// Returns numbers about the image.
    pub fn stats(&self) -> Stats {
        let (nr_runs_waiting, nr_pages_waiting) = self.pool.lock().waiting();
        Stats {
            generation: self.root.head().generation.load(),
            // The root page is in no table.
            nr_keys: self.table.lock().nr_runs() + 1,
            nr_runs_inherited: self.inherited.0,
            nr_pages_inherited: self.inherited.1,
            nr_runs_waiting,
            nr_pages_waiting,
            nr_names: self.root.head().nr_names.load(),
            nr_reclaims: self.reclaim_counts.nr_calls.load(Relaxed),
            nr_pages_condemned: self.reclaim_counts.nr_pages.load(Relaxed),
            nr_cpus_drained: self.reclaim_counts.nr_cpus_drained.load(Relaxed),
        }
    }

    /// Returns where the root page stands, for tests and inspectors.
    pub fn root_phys(&self) -> Phys {
        self.root.phys()
    }

    /// Returns the root.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Returns the caches that are up.
    pub(crate) fn roll(&self) -> &Roll {
        &self.roll
    }

    /// Returns where reclaim counts what it does.
    pub(crate) fn reclaim_counts(&self) -> &ReclaimCounts {
        &self.reclaim_counts
    }

    /// Does what could not be done where it came up: called by the worker. Holds up nobody who
    /// opens something. Returns whether there are caches in use, which are to be
    /// [settled](Self::begin_settling) a while later.
    pub fn work(&'static self) -> bool {
        // A part of what was inherited, so that whoever asked for something does not wait for all
        // of it.
        let mut nr_pages = NR_PAGES_LOOKED_OVER;
        for cache in self.roll.iter() {
            nr_pages = nr_pages.saturating_sub(cache.look_over(nr_pages));
        }
        if nr_pages == 0 {
            self.machine.kick_worker();
        }
        // What one has too much of may be what another one lacks. Who grows a cache may be waiting for
        // what the next one gives back, so nobody is waited for here.
        let mut is_all = true;
        for cache in self.roll.iter() {
            is_all &= cache.release_empty() != Err(EAGAIN);
        }
        if !is_all {
            fsleep(Delta::from_millis(1));
            self.machine.kick_worker();
        }
        for cache in self.roll.iter() {
            // What failed is asked for again by the next one who misses it.
            let _ = cache.fill_reserve();
        }
        self.roll.iter().any(kpreserve_slab::RawCache::is_in_use)
    }

    /// Runs `f` on the names as they are, beside others who do; they are opened first if that has
    /// not succeeded yet. `f` takes no names itself.
    pub(crate) fn with_names_shared<R>(
        &'static self,
        f: impl FnOnce(&Names) -> Result<R>,
    ) -> Result<R> {
        let names = self.names.read();
        if let Some(names) = &*names {
            return f(names);
        }
        drop(names);
        self.with_names(|names| f(names))
    }

    /// Runs `f` on the names, alone; they are opened first if that has not succeeded yet. `f` takes no
    /// names itself.
    pub(crate) fn with_names<R>(
        &'static self,
        f: impl FnOnce(&mut Names) -> Result<R>,
    ) -> Result<R> {
        let mut names = self.names.write();
        if names.is_none() {
            *names = Some(Names::open(self)?);
        }
        match &mut *names {
            Some(names) => f(names),
            None => Err(EINVAL),
        }
    }

    /// Returns whether an arena has runs that were inherited, and that nobody has opened yet.
    pub(crate) fn has_inherited(&self, id: u32) -> bool {
        self.pool.lock().has_inherited(id)
    }

    /// The same, or runs that were refused.
    pub(crate) fn is_claimed(&self, id: u32) -> bool {
        let pool = self.pool.lock();
        pool.has_inherited(id) || pool.is_refused(id)
    }

    /// Returns where it is counted what there is.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Opens an arena: its runs leave the pool.
    ///
    /// # Errors
    ///
    /// EBUSY if it is open, EINVAL if a run of it was refused, ENOMEM.
    pub(crate) fn open_arena(&'static self, id: u32) -> Result<Arena> {
        let runs = {
            let mut pool = self.pool.lock();
            let runs = pool.take(id);
            self.tally.note_pool(&pool);
            runs?
        };
        // SAFETY: the pool gave the runs out, which it does once until they are returned.
        Ok(unsafe { Arena::new(self.machine, self, id, runs) })
    }
}

impl Ledger for Framework {
    fn root_id(&self) -> u64 {
        self.root.id()
    }

    unsafe fn record(
        &self,
        _pass: &GatePass<'_>,
        phys: Phys,
        order: u8,
        owner: u32,
        index: u32,
    ) -> Result<LedgerSlot> {
        let mut table = self.table.lock();
        let slot = table.insert(self.machine, phys, order, owner, index);
        self.tally.note_table(&table);
        slot
    }

    unsafe fn erase(&self, _pass: &GatePass<'_>, slot: LedgerSlot) {
        let mut table = self.table.lock();
        table.remove(slot);
        self.tally.note_table(&table);
    }

    unsafe fn close(&self, id: u32, runs: KVVec<Run>) {
        self.pool.lock().close(id, runs);
    }

    unsafe fn retire(&self, _pass: &GatePass<'_>, id: u32) {
        // One step for whoever opens: not between the record's end and the pool's.
        let mut names = self.names.write();
        // The framework's own arenas keep their records.
        if id >= crate::abi::ARENA_FIRST {
            if let Some(names) = &mut *names {
                names.retire_arena(id);
            }
        }
        self.pool.lock().forget(id);
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }
}

/// Handover is off: says how to turn it on, and what a previous kernel left for nothing.
fn say_what_is_locked_away(machine: &'static dyn Machine) {
    pr_err!("Kexec Handover is off: boot with kho=on, on a kernel with CONFIG_KEXEC_HANDOVER=y\n");
    // KHO clears its switch when its scratch area does not fit, and looks as if it had never been
    // on.
    pr_err!(
        "if the command line has kho=on: in a crash kernel KHO is always off; else it gave up during \
         boot, and this log has \"KHO: Failed to reserve scratch area\": give it less with \
         kho_scratch=LOWMEM,GLOBAL,PERNODE (such as 64M,256M,64M), or the machine more memory\n"
    );
    if let Ok(survey) = survey(machine) {
        let size_bytes: usize = survey.runs.iter().map(|(run, _)| run.size_bytes()).sum();
        pr_err!(
            "{} KiB that the previous kernel handed over stay locked away until the next boot, and \
             are lost\n",
            size_bytes / 1024
        );
    }
}
