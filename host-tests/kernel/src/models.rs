// SPDX-License-Identifier: GPL-2.0

//! Host only, with `--cfg models`: the stand-in under loom and under shuttle.
//!
//! Both run all tasks of a model on one thread of the host, and decide at each atomic operation who
//! goes on. In between everything here works as it does otherwise: a model makes its machine and
//! its cache first, then says that it [begins](begin); from there to the end of [`Phase`] each
//! [`Atomic`](crate::sync::atomic::Atomic), wherever it stands, also one that is laid over memory,
//!
//! - under loom is backed by an atomic of loom's, which may return any value that the kernel's
//!   memory model allows. They are found by address, out of a pool that is made before tasks are
//!   started, as loom wants its objects to be made before who uses them. Memory is written
//!   as well, so that it holds the last value when the phase ends;
//! - under shuttle is a point where another task may go on, or an [interrupt](set_interrupt) come.
//!
//! loom takes accesses of operations marked as SeqCst for AcqRel; there are none here: `Full` is
//! two fences around the operation, which loom knows.
//!
//! What is not atomic is not seen by loom unless somebody says so: [`exclusive`], [`shared`].
//!
//! [`plant`] breaks the stand-in on purpose, so that each model can be seen to notice.

use core::cell::{
    Cell,
    RefCell, //
};
use core::sync::atomic::Ordering;
use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

use loom::sync::atomic::AtomicI64;

/// Who decides on what happens next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Engine {
    Nobody,
    Loom,
    Shuttle,
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bug {
    /// Loads with Acquire are Relaxed.
    Load,
    /// Stores with Release are Relaxed.
    Store,
    /// `xchg` orders nothing.
    Xchg,
    /// `cmpxchg` orders nothing.
    Cmpxchg,
    /// `fetch_add`, `fetch_sub` order nothing.
    Fetch,
    /// `xchg` and `cmpxchg` are a load and a store.
    Torn,
}

type Interrupt = Rc<dyn Fn()>;

std::thread_local! {
    static ENGINE: Cell<Engine> = const { Cell::new(Engine::Nobody) };
    static EXECUTION: Cell<u64> = const { Cell::new(0) };
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
    static NR_STEPS: Cell<u64> = const { Cell::new(0) };
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
    static INTERRUPT: RefCell<Option<Interrupt>> = const { RefCell::new(None) };
}

/// Objects of loom that were made before the tasks, and what those of them that are in use are for.
struct Pool {
    atomics: Vec<Rc<AtomicI64>>,
    cells: Vec<Rc<loom::cell::UnsafeCell<()>>>,
    /// By address and size: what the memory held, and what has been added to it since.
    values: BTreeMap<(usize, usize), (i64, Rc<AtomicI64>)>,
    plain: BTreeMap<usize, Rc<loom::cell::UnsafeCell<()>>>,
}

impl Pool {
    const fn new() -> Self {
        Self {
            atomics: Vec::new(),
            cells: Vec::new(),
            values: BTreeMap::new(),
            plain: BTreeMap::new(),
        }
    }
}

/// How many objects of loom a model needs.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Atomics that are used while tasks run.
    pub nr_atomics: usize,
    /// Places for [`exclusive`] and [`shared`].
    pub nr_cells: usize,
}

/// Tasks run; made by [`begin`]. When it is dropped they have been joined.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Phase(());

/// Begins the part of an execution of loom in which there are several tasks.
pub fn begin(size: Size) -> Phase {
    let mut pool = Pool::new();
    pool.atomics
        .resize_with(size.nr_atomics, || Rc::new(AtomicI64::new(0)));
    pool.cells
        .resize_with(size.nr_cells, || Rc::new(loom::cell::UnsafeCell::new(())));
    POOL.set(pool);
    ENGINE.set(Engine::Loom);
    Phase(())
}

/// The same in an execution of shuttle.
pub fn begin_shuttle() -> Phase {
    ENGINE.set(Engine::Shuttle);
    Phase(())
}

impl Drop for Phase {
    fn drop(&mut self) {
        ENGINE.set(Engine::Nobody);
        // A model that failed leaves them to the next one: loom has stopped, and would complain.
        if !std::thread::panicking() {
            POOL.set(Pool::new());
        }
        INTERRUPT.set(None);
    }
}

/// Starts an execution: nobody is pinned, nothing is known. To be called first in each.
pub fn start_execution() {
    ENGINE.set(Engine::Nobody);
    core::mem::forget(POOL.replace(Pool::new()));
    INTERRUPT.set(None);
    NR_STEPS.set(0);
    EXECUTION.set(EXECUTION.get() + 1);
}

/// Breaks the stand-in in this thread, or mends it.
pub fn plant(bug: Option<Bug>) {
    BUG.set(bug);
}

/// Returns whether this bug was planted.
pub fn has(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}

/// Runs `f` with a stand-in that is not broken.
pub(crate) fn mended<R>(f: impl FnOnce() -> R) -> R {
    let bug = BUG.replace(None);
    let result = f();
    BUG.set(bug);
    result
}

/// Lets `interrupt` come at steps of shuttle; it says itself when to do something. It is not
/// interrupted.
pub fn set_interrupt(interrupt: impl Fn() + 'static) {
    INTERRUPT.set(Some(Rc::new(interrupt)));
}

/// Returns which execution this is, and which of its tasks.
pub(crate) fn task() -> (u64, u64) {
    let task = match ENGINE.get() {
        Engine::Nobody => 0,
        Engine::Loom => {
            use std::hash::{
                DefaultHasher,
                Hash,
                Hasher, //
            };
            let mut hasher = DefaultHasher::new();
            loom::thread::current().id().hash(&mut hasher);
            hasher.finish()
        }
        Engine::Shuttle => usize::from(shuttle::current::me()) as u64 + 1,
    };
    (EXECUTION.get(), task)
}

/// Waits for what another task does.
pub fn relax() {
    match ENGINE.get() {
        Engine::Nobody => std::thread::yield_now(),
        Engine::Loom => loom::thread::yield_now(),
        Engine::Shuttle => shuttle::thread::yield_now(),
    }
}

/// A point where another task may go on.
pub fn step() {
    if ENGINE.get() == Engine::Shuttle && !std::thread::panicking() {
        NR_STEPS.set(NR_STEPS.get() + 1);
        // Any operation on an atomic of shuttle's is one.
        shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
        let interrupt = INTERRUPT.take();
        if let Some(interrupt) = interrupt {
            interrupt();
            INTERRUPT.set(Some(interrupt));
        }
    }
}

/// Returns how many steps this execution has had.
pub fn nr_steps() -> u64 {
    NR_STEPS.get()
}

/// Returns the ordering of an operation, which may be broken.
pub(crate) fn ordering(operation: Bug, ordering: Ordering) -> Ordering {
    if has(operation) {
        Ordering::Relaxed
    } else {
        ordering
    }
}

/// A fence.
pub(crate) fn fence(ordering: Ordering) {
    match ENGINE.get() {
        Engine::Loom => loom::sync::atomic::fence(ordering),
        _ => core::sync::atomic::fence(ordering),
    }
}

/// Says that the caller has what stands at `address` to itself, just now.
pub fn exclusive(address: usize) {
    if let Some(cell) = plain(address) {
        cell.with_mut(|_| ());
    }
}

/// Says that the caller reads what stands at `address`, just now.
pub fn shared(address: usize) {
    if let Some(cell) = plain(address) {
        cell.with(|_| ());
    }
}

fn plain(address: usize) -> Option<Rc<loom::cell::UnsafeCell<()>>> {
    if ENGINE.get() != Engine::Loom {
        return None;
    }
    POOL.with_borrow_mut(|pool| {
        if !pool.plain.contains_key(&address) {
            let cell = pool
                .cells
                .pop()
                .expect("more cells are in use than were made");
            pool.plain.insert(address, cell);
        }
        pool.plain.get(&address).cloned()
    })
}

/// An atomic of loom's that stands for one in memory.
///
/// It holds what has been added to the value that the memory had when it was first used.
pub(crate) struct Shadow {
    base: i64,
    added: Rc<AtomicI64>,
}

/// Returns what stands for the atomic at `address`, whose memory holds `value`; `None` unless loom
/// runs tasks.
pub(crate) fn shadow(
    address: usize,
    size_bytes: usize,
    value: impl FnOnce() -> i64,
) -> Option<Shadow> {
    if ENGINE.get() != Engine::Loom || std::thread::panicking() {
        return None;
    }
    POOL.with_borrow_mut(|pool| {
        let key = (address, size_bytes);
        if !pool.values.contains_key(&key) {
            let added = pool
                .atomics
                .pop()
                .expect("more atomics are in use than were made");
            pool.values.insert(key, (value(), added));
        }
        let (base, added) = pool.values.get(&key)?;
        Some(Shadow {
            base: *base,
            added: added.clone(),
        })
    })
}

impl Shadow {
    pub(crate) fn load(&self, ordering: Ordering) -> i64 {
        self.base.wrapping_add(self.added.load(ordering))
    }

    pub(crate) fn store(&self, value: i64, ordering: Ordering) {
        self.added.store(value.wrapping_sub(self.base), ordering);
    }

    pub(crate) fn swap(&self, value: i64, ordering: Ordering) -> i64 {
        let old = self.added.swap(value.wrapping_sub(self.base), ordering);
        self.base.wrapping_add(old)
    }

    pub(crate) fn compare_exchange(
        &self,
        old: i64,
        new: i64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<i64, i64> {
        let (old, new) = (old.wrapping_sub(self.base), new.wrapping_sub(self.base));
        self.added
            .compare_exchange(old, new, success, failure)
            .map(|found| self.base.wrapping_add(found))
            .map_err(|found| self.base.wrapping_add(found))
    }

    pub(crate) fn fetch_add(&self, value: i64, ordering: Ordering) -> i64 {
        self.base
            .wrapping_add(self.added.fetch_add(value, ordering))
    }
}

/// Explores a model with loom: each order of its tasks' operations with at most `nr_preemptions`
/// switches that nobody asked for, and each value that a load may return. Returns how many
/// executions that were.
///
/// # Panics
///
/// If one of them does.
pub fn explore(nr_preemptions: usize, model: impl Fn() + Send + Sync + 'static) -> u64 {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(nr_preemptions);
    builder.max_branches = 20_000;
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = count.clone();
    builder.check(move || {
        start_execution();
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    count.load(Ordering::Relaxed)
}

/// Starts a task of loom's.
pub fn spawn<T: 'static>(task: impl FnOnce() -> T + 'static) -> loom::thread::JoinHandle<T> {
    loom::thread::spawn(task)
}

/// Runs a model with shuttle, in `nr_schedules` random orders.
///
/// # Panics
///
/// If one of them does.
pub fn shake(nr_schedules: usize, seed: u64, model: impl Fn() + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 0x4_0000;
    config.failure_persistence = shuttle::FailurePersistence::None;
    let scheduler = shuttle::scheduler::RandomScheduler::new_from_seed(seed, nr_schedules);
    shuttle::Runner::new(scheduler, config).run(move || {
        start_execution();
        model();
    });
}

/// Returns a random number, which follows from the seed that shuttle was given.
pub fn random() -> u64 {
    use shuttle::rand::RngCore;
    shuttle::rand::thread_rng().next_u64()
}

/// Starts a task of shuttle's.
pub fn spawn_shuttle<T: Send + 'static>(
    task: impl FnOnce() -> T + Send + 'static,
) -> shuttle::thread::JoinHandle<T> {
    shuttle::thread::spawn(task)
}

/// Runs a model that is expected to fail; returns what its panic says, `None` if there was none.
pub fn catches(model: impl FnOnce() + std::panic::UnwindSafe) -> Option<String> {
    let bug = BUG.get();
    let result = std::panic::catch_unwind(model);
    ENGINE.set(Engine::Nobody);
    core::mem::forget(POOL.replace(Pool::new()));
    INTERRUPT.set(None);
    BUG.set(bug);
    let said = result.err()?;
    let text = said.downcast_ref::<String>().cloned();
    Some(text.unwrap_or_else(|| match said.downcast_ref::<&str>() {
        Some(text) => (*text).to_owned(),
        None => String::new(),
    }))
}
