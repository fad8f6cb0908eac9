// SPDX-License-Identifier: GPL-2.0

//! Threads that allocate, change, link, unlink and free for ever, and interrupts that do so between
//! them. The machine may stop at any instruction of theirs; the next kernel looks at what is left.

use kernel::str::CString;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};
use kernel::sync::SetOnce;
use kpreserve::global::framework;
use kpreserve::kho::sort::heap_sort;
use kpreserve::prelude::*;

use crate::command::{
    given,
    Words, //
};
use crate::contexts;
use crate::pattern::mix;
use crate::reply::Reply;
use crate::slots::{
    drain_all,
    take_all, //
};
use crate::threads::{
    self,
    OnCpu, //
};

/// Objects that a thread holds, at most.
const NR_HELD_MAX: usize = 256;
/// Objects that it allocates and frees at once, now and then.
const NR_BURST: usize = 600;
/// Objects that are linked from its table.
const NR_LINKS: usize = 32;
/// Tables that a scenario may use: threads of all CPUs.
const NR_TABLES_MAX: u32 = 16;

kpreserve::preservable! {
    /// Written twice over: a change goes to the half that is not in use, and one store says that it
    /// is from now on.
    pub(crate) struct BusySer {
        pub(crate) number: u64,
        pub(crate) version: SharedU64,
        pub(crate) even: [u64; 6],
        pub(crate) odd: [u64; 6],
    }
    compatible = "selftest-busy", version = 1

    /// Handles of objects that are parked; 0 is none.
    pub(crate) struct TableSer {
        pub(crate) links: [SharedU64; 32],
    }
    compatible = "selftest-busy-table", version = 1
}

fn pattern(number: u64, version: u64) -> [u64; 6] {
    let mut word = mix(number, version);
    core::array::from_fn(|_| {
        word = word.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word | 1
    })
}

fn dawdle<T>(value: T) -> T {
    (0..500u64).fold(0, |word, i| core::hint::black_box(mix(word, i)));
    value
}

impl BusySer {
    fn new(number: u64) -> Self {
        Self {
            number,
            version: SharedU64::new(0),
            even: pattern(number, 0),
            odd: [0; 6],
        }
    }

    /// The same, slowly: for most of the time that it takes, the slot holds half of an object. The
    /// next kernel must not take it for a whole one.
    fn new_slowly(number: u64) -> impl Init<Self> {
        let words = pattern(number, 0);
        init!(Self {
            number: number,
            version: SharedU64::new(0),
            even: dawdle(words),
            odd: [0; 6],
        })
    }

    fn is_whole(&self) -> bool {
        let version = self.version.load();
        let half = if version % 2 == 0 {
            &self.even
        } else {
            &self.odd
        };
        *half == pattern(self.number, version)
    }

    fn change(&mut self) {
        let version = self.version.load() + 1;
        let words = pattern(self.number, version);
        if version % 2 == 0 {
            self.even = words;
        } else {
            self.odd = words;
        }
        self.version.store(version);
    }
}

/// The cache, open from its first use on: threads are not stopped before the machine is.
static CACHE: SetOnce<Cache<BusySer>> = SetOnce::new();
static NR_TICKS: Atomic<u64> = Atomic::new(0);
static NR_TICKS_SERVED: Atomic<u64> = Atomic::new(0);

fn cache() -> Result<&'static Cache<BusySer>> {
    if CACHE.as_ref().is_none() {
        let cache = given("cache", Cache::open(c"selftest/busy", GFP_KERNEL))?;
        CACHE.populate(cache);
    }
    CACHE.as_ref().ok_or(EPROTO)
}

fn table(number: u32) -> Result<Named<TableSer>> {
    let name = CString::try_from_fmt(fmt!("selftest/busy-table-{number}"))?;
    let links = core::array::from_fn(|_| SharedU64::new(0));
    Named::open(&name, TableSer { links }, GFP_KERNEL)
}

/// `stress.start N MICROSECONDS`: N threads on each CPU, and an interrupt on each CPU that often (0:
/// never). They go on until `stress.stop`, or until the machine stops.
pub(crate) fn start(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let nr_per_cpu = words.number()? as u32;
    let period_ns = words.number()? as u64 * 1000;
    cache()?;
    threads::start(nr_per_cpu, body)?;
    if period_ns > 0 {
        contexts::start_storm(period_ns, tick)?;
    }
    Ok(())
}

/// `stress.stop`.
pub(crate) fn stop(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    contexts::stop_storm();
    reply.put("ticks", NR_TICKS.load(Relaxed));
    reply.put("ticks_served", NR_TICKS_SERVED.load(Relaxed));
    threads::stop()
}

/// From a hard interrupt, also one of somebody who works on this CPU's free slots.
extern "C" fn tick() {
    let Some(cache) = CACHE.as_ref() else {
        return;
    };
    let number = u64::MAX - NR_TICKS.fetch_add(1, Relaxed);
    let items: [_; 3] =
        core::array::from_fn(|i| cache.alloc(BusySer::new(number ^ (i as u64) << 60), GFP_ATOMIC));
    let mut nr_good = 0;
    for item in items.iter().flatten() {
        nr_good += 1;
        complain_unless_whole(item, "in an interrupt");
    }
    if nr_good == items.len() {
        NR_TICKS_SERVED.fetch_add(1, Relaxed);
    }
}

/// Others own the slot, too, if the bytes are not those that this owner has written.
fn complain_unless_whole(item: &BusySer, place: &str) -> bool {
    let whole = item.is_whole();
    if !whole {
        // The runner takes it for what it says.
        pr_err!("BUG: object {:#x} is not whole {}\n", item.number, place);
    }
    whole
}

extern "C" fn body(number: c_uint) -> c_int {
    match work(number) {
        Ok(()) => 0,
        Err(error) => {
            pr_err!("BUG: thread {} of the stress: {:?}\n", number, error);
            error.to_errno()
        }
    }
}

/// What a thread does.
struct Worker {
    cache: &'static Cache<BusySer>,
    table: Named<TableSer>,
    held: KVec<Preserved<BusySer>>,
    next_number: u64,
    random: u64,
}

fn work(number: u32) -> Result {
    let generation = framework()?.stats().generation;
    let mut worker = Worker {
        cache: cache()?,
        table: table(number)?,
        held: KVec::with_capacity(NR_HELD_MAX.max(NR_BURST), GFP_KERNEL)?,
        next_number: generation << 48 | u64::from(number) << 40,
        random: generation << 8 | u64::from(number),
    };
    while threads::goes_on() {
        worker.round()?;
    }
    Ok(())
}

impl Worker {
    fn random(&mut self) -> u64 {
        self.random += 1;
        mix(self.random, 0x5eed)
    }

    fn round(&mut self) -> Result {
        let dice = self.random();
        let at = (dice >> 32) as usize;
        match dice % 16 {
            0..=5 if self.held.len() < NR_HELD_MAX => self.alloc(dice & 64 != 0),
            6..=8 => self.change(at),
            9..=11 => self.free(at),
            12..=14 => self.link_or_unlink(at % NR_LINKS),
            15 if dice & 0xf00 == 0 => self.burst(),
            _ => Ok(()),
        }
    }

    fn alloc(&mut self, can_sleep: bool) -> Result {
        self.next_number += 1;
        let flags = if can_sleep { GFP_KERNEL } else { GFP_NOWAIT };
        let init = BusySer::new_slowly(self.next_number);
        match self.cache.alloc(init, flags) {
            Ok(item) => self.held.push(item, GFP_KERNEL)?,
            // No reserve just now; frozen, and no slot.
            Err(error) if error == ENOMEM || error == EBUSY => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn change(&mut self, at: usize) -> Result {
        let nr_held = self.held.len().max(1);
        if let Some(item) = self.held.get_mut(at % nr_held) {
            if !complain_unless_whole(item, "before a change") {
                return Err(EBADMSG);
            }
            item.change();
        }
        Ok(())
    }

    fn free(&mut self, at: usize) -> Result {
        if self.held.is_empty() {
            return Ok(());
        }
        let last = self.held.len() - 1;
        self.held.swap(at % (last + 1), last);
        match self.held.pop() {
            Some(item) if !complain_unless_whole(&item, "before it is freed") => Err(EBADMSG),
            _ => Ok(()),
        }
    }

    /// Publish last, retract first: what a link names is there.
    fn link_or_unlink(&mut self, at: usize) -> Result {
        let link = self.table.links.get(at).ok_or(EPROTO)?;
        let handle = Handle::<BusySer>::from_raw(link.load());
        if handle.is_null() {
            if let Some(item) = self.held.pop() {
                link.store(item.park().into_raw());
            }
            return Ok(());
        }
        link.store(0);
        let item = self.cache.claim(handle)?;
        if !complain_unless_whole(&item, "after it was claimed") {
            return Err(EBADMSG);
        }
        Ok(())
    }

    /// So that runs come and go.
    fn burst(&mut self) -> Result {
        let before = self.held.len();
        for _ in 0..NR_BURST - before.min(NR_BURST) {
            self.alloc(true)?;
        }
        while self.held.len() > before {
            self.free(usize::MAX)?;
        }
        Ok(())
    }
}

/// `stress.verify`: looks at what the previous kernel left, wherever it was stopped. Frees what no
/// table names.
///
/// EBADMSG if an object is not whole, if a link leads nowhere, if two objects are the same one, if
/// numbers do not add up, or if a free slot is not zeros.
pub(crate) fn verify(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let framework = given("framework", framework())?;
    let cache = cache()?;
    // In case that this kernel has used the cache, too.
    given("CPUs", drain_all())?;
    let _here = given("CPU", OnCpu::new(0))?;
    let mut tables = KVec::new();
    for number in 0..NR_TABLES_MAX {
        tables.push(given("table", table(number))?, GFP_KERNEL)?;
    }
    // No run comes or goes while slots are counted.
    framework.freeze();
    let verified = look(cache, &tables, reply);
    framework.thaw();
    verified
}

fn look(cache: &Cache<BusySer>, tables: &[Named<TableSer>], reply: &mut Reply) -> Result {
    let counts = cache.raw().counts();
    let mut numbers = KVVec::with_capacity(counts.nr_objects, GFP_KERNEL)?;
    let mut note = |item: &BusySer, place: &str| -> Result {
        if !item.is_whole() {
            pr_err!("object {:#x} is not whole: {}\n", item.number, place);
            return Err(EBADMSG);
        }
        numbers.push(item.number, GFP_KERNEL)?;
        Ok(())
    };
    let links = tables.iter().flat_map(|table| table.links.iter());
    let mut nr_linked = 0;
    for link in links {
        let handle = Handle::<BusySer>::from_raw(link.load());
        if handle.is_null() {
            continue;
        }
        let item = cache.claim(handle).map_err(|error| {
            pr_err!("the link {:#x}: {:?}\n", handle.into_raw(), error);
            EBADMSG
        })?;
        note(&item, "linked")?;
        item.park();
        nr_linked += 1;
    }
    let mut nr_loose = 0;
    for item in cache.unclaimed() {
        note(&item, "loose")?;
        nr_loose += 1;
    }
    heap_sort(&mut numbers, |a, b| a < b);
    if numbers.windows(2).any(|pair| pair.first() == pair.get(1)) {
        pr_err!("an object is there twice\n");
        return Err(EBADMSG);
    }
    if counts.nr_objects != nr_linked + nr_loose || counts.nr_quarantined != 0 {
        pr_err!(
            "{} linked and {} loose objects: {:?}\n",
            nr_linked,
            nr_loose,
            counts
        );
        return Err(EBADMSG);
    }
    let free = take_all(cache, GFP_ATOMIC)?;
    if free.nr_missing != 0 {
        pr_err!("{} free slots cannot be had\n", free.nr_missing);
        return Err(EBADMSG);
    }
    reply.put("linked", nr_linked as u64);
    reply.put("loose", nr_loose as u64);
    reply.put("free", free.nr_taken as u64);
    reply.put("runs", counts.nr_runs as u64);
    Ok(())
}
