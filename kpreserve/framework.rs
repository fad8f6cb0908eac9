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
    Arena,
    Gate,
    GatePass,
    Ledger,
    LedgerSlot,
    Machine,
    Phys,
    Run, //
};

use crate::adopt::{
    adopt,
    announce,
    Adopted, //
};
use crate::names::Names;
use crate::pool::Pool;
use crate::roll::Roll;
use crate::root::Root;
use crate::rwlock::RwLock;
use crate::survey::survey;
use crate::table::RunTable;

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

/// What [`Framework::boot`] does about an image that is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IfRefused {
    /// Fail; the image stays as it is.
    Fail,
    /// Begin a new image; the refused one is not carried on, its memory is out of reach until the
    /// next boot.
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
    /// May sleep. Cost: a few dozen instructions a run, a few a page; nothing an object.
    ///
    /// # Errors
    ///
    /// - EOPNOTSUPP if this kernel does not hand memory over (`kho=on` is missing on the command
    ///   line), or if the image has a newer version.
    /// - EBUSY if this boot owns the image already.
    /// - EINVAL if the root page or the frame of the run table is refused.
    /// - ENOMEM.
    ///
    /// The image is as it was in each case, and a later kernel may still adopt it if this one was
    /// not the first owner after it.
    pub fn boot(machine: &'static dyn Machine, if_refused: IfRefused) -> Result<&'static Self> {
        if !machine.is_enabled() {
            say_what_is_locked_away(machine);
            return Err(EOPNOTSUPP);
        }
        // Room for the framework first: after the adoption nothing may fail.
        let place = KBox::<Self>::new_uninit(GFP_KERNEL)?;
        let adopted = match adopt(machine) {
            Err(error) if error == ENOENT => begin(machine)?,
            Err(error)
                if if_refused == IfRefused::BeginAnew
                    && (error == EINVAL || error == EOPNOTSUPP) =>
            {
                pr_warn!("beginning a new image, as asked; the refused one is given up\n");
                begin(machine)?
            }
            other => other?,
        };
        let Adopted { root, table, pool } = adopted;
        let inherited = pool.waiting();
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
        // The image is ours and handed on, whatever its names are like: a failure here shows again
        // at the first open.
        let _ = framework.with_names(|_| Ok(()));
        Ok(framework)
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
    /// opens something.
    pub fn work(&'static self) {
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

    /// Opens an arena: its runs leave the pool.
    ///
    /// # Errors
    ///
    /// EBUSY if it is open, EINVAL if a run of it was refused, ENOMEM.
    pub(crate) fn open_arena(&'static self, id: u32) -> Result<Arena> {
        let runs = self.pool.lock().take(id)?;
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
        self.table
            .lock()
            .insert(self.machine, phys, order, owner, index)
    }

    unsafe fn erase(&self, _pass: &GatePass<'_>, slot: LedgerSlot) {
        self.table.lock().remove(slot);
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
    if let Ok(survey) = survey(machine) {
        let size_bytes: usize = survey.runs.iter().map(|(run, _)| run.size_bytes()).sum();
        pr_err!(
            "{} KiB that the previous kernel handed over stay locked away until the next boot, and \
             are lost\n",
            size_bytes / 1024
        );
    }
}

/// Begins an image: a root page without runs, announced to the next kernel.
fn begin(machine: &'static dyn Machine) -> Result<Adopted> {
    let pool = Pool::with_capacity(0, KVVec::new())?;
    let (root, page) = Root::create(machine)?;
    if let Err(error) = announce(machine, root) {
        drop(page.unpreserve());
        return Err(error);
    }
    Ok(Adopted {
        root,
        table: RunTable::new(root),
        pool,
    })
}
