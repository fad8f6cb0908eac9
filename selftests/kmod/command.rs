// SPDX-License-Identifier: GPL-2.0

//! Commands: a word, then arguments.

use kernel::prelude::*;
use kernel::str::CString;
use kernel::time::{
    Instant,
    Monotonic, //
};

#[cfg(CONFIG_KPRESERVE_LUO)]
use crate::luo;
use crate::reply::Reply;
use crate::{
    areas,
    atomic,
    caches,
    claims,
    contexts,
    corrupt,
    gate,
    interchange,
    maps,
    named,
    objects,
    opening,
    pools,
    reclaim,
    slots,
    stats,
    stress, //
};

/// What follows the first word.
pub(crate) struct Words<'a> {
    words: core::str::SplitAsciiWhitespace<'a>,
}

impl<'a> Words<'a> {
    /// Returns the next word.
    ///
    /// # Errors
    ///
    /// EPROTO if there is none: the scenario is wrong, not kpreserve.
    pub(crate) fn word(&mut self) -> Result<&'a str> {
        self.words.next().ok_or(EPROTO)
    }

    /// Returns the next word as a name.
    pub(crate) fn name(&mut self) -> Result<CString> {
        CString::try_from_fmt(fmt!("{}", self.word()?))
    }

    /// Returns the next word as a number; `K`, `M` and `G` multiply.
    pub(crate) fn number(&mut self) -> Result<usize> {
        let word = self.word()?;
        let (digits, shift) = match word.as_bytes().last() {
            Some(b'K') => (word.trim_end_matches('K'), 10),
            Some(b'M') => (word.trim_end_matches('M'), 20),
            Some(b'G') => (word.trim_end_matches('G'), 30),
            _ => (word, 0),
        };
        let number = match digits.strip_prefix("0x") {
            Some(digits) => usize::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        number.map(|number| number << shift).map_err(|_| EPROTO)
    }
}

type Command = fn(&mut Words<'_>, &mut Reply) -> Result;

const COMMANDS: &[(&str, Command)] = &[
    // objects.fill N SEED, objects.verify N SEED: bytes follow from number and seed
    ("objects.fill", objects::fill),
    ("objects.verify", objects::verify),
    // objects.thin KTH SEED frees every KTH, objects.refill SEED allocates them anew: the cache must not grow
    ("objects.thin", objects::thin),
    ("objects.refill", objects::refill),
    // objects.leave-empty N SEED: empty runs for the next kernel, behind a closed gate
    ("objects.leave-empty", objects::leave_empty),
    // objects.first: opens the cache, allocates and claims one object, and says how long each took
    ("objects.first", objects::first),
    // objects.finish: frees what nobody claimed; objects.clear: all
    ("objects.finish", objects::finish),
    ("objects.clear", objects::clear),
    // cache.fill NAME N SEED, cache.verify NAME SEED (verified=..., objects=...)
    ("cache.fill", caches::fill),
    ("cache.verify", caches::verify),
    // area.fill NAME BYTES SEED, area.verify NAME BYTES SEED, area.resize NAME BYTES, area.discard NAME
    ("area.fill", areas::fill),
    ("area.verify", areas::verify),
    ("area.resize", areas::resize),
    ("area.discard", areas::discard),
    // map.fill NAME N SEED, map.churn NAME N SEED, map.verify NAME N SEED: numbers to strings
    ("map.fill", maps::fill),
    ("map.churn", maps::churn),
    ("map.verify", maps::verify),
    ("map.discard", maps::discard),
    // interchange.give NAME BYTES SEED at-once|grown, interchange.take NAME BYTES SEED: as struct kho_vmalloc;
    // interchange.c-give NAME BYTES SEED small|huge, interchange.c-take NAME BYTES SEED: the same, in C
    ("interchange.give", interchange::give),
    ("interchange.take", interchange::take),
    ("interchange.c-give", interchange::c_give),
    ("interchange.c-take", interchange::c_take),
    // area.extend NAME FROM-BYTES SEED: what a resize has added was zero, and gets the pattern, too
    ("area.extend", areas::extend),
    // area.too-large NAME BYTES: ENOMEM, and nothing has changed
    ("area.too-large", areas::too_large),
    // luo.register, luo.drop: a file handler; luo.file VALUE (fd=...)
    #[cfg(CONFIG_KPRESERVE_LUO)]
    ("luo.register", luo::register),
    #[cfg(CONFIG_KPRESERVE_LUO)]
    ("luo.drop", luo::unregister),
    #[cfg(CONFIG_KPRESERVE_LUO)]
    ("luo.file", luo::file),
    // named.set NAME VALUE, named.get NAME (value=...), named.discard NAME, named.other NAME
    ("named.set", named::set),
    ("named.get", named::get),
    ("named.discard", named::discard),
    ("named.other", named::open_other),
    // open WAY: fails as it should
    ("open", opening::run),
    // claim WAY: fails as it should
    ("claim", claims::run),
    // pool.keep N SEED, pool.verify N SEED, pool.refill N (grown=...), pool.clear, pool.limits: boxes and vectors
    ("pool.keep", pools::keep),
    ("pool.verify", pools::verify),
    ("pool.refill", pools::refill),
    ("pool.clear", pools::clear),
    ("pool.limits", pools::limits),
    // foreign N SEED: objects that an XArray owns
    ("foreign", pools::foreign),
    ("freeze", gate::freeze),
    ("thaw", gate::thaw),
    ("handed-on", gate::handed_on),
    // frozen: freezes, checks who may go on and who may not, thaws
    ("frozen", gate::frozen),
    // alloc-atomic N: up to N large objects, without sleeping
    ("alloc-atomic", atomic::run),
    // alloc-in CONTEXT N: the same in preempt-off, spinlock, irqs-off, softirq, hardirq, nofs, noio, noreclaim
    ("alloc-in", atomic::run_in),
    // slots.hold CPU N, slots.take CPU: free slots that CPUs have (taken=..., missing=...)
    ("slots.hold", slots::hold),
    ("slots.take", slots::take),
    // reclaim.prepare BYTES, reclaim.squeeze ROUNDS, reclaim.report
    ("reclaim.prepare", reclaim::prepare),
    ("reclaim.squeeze", reclaim::squeeze),
    ("reclaim.report", reclaim::report),
    // memory.fragment ORDER: half of it taken, no free block larger than that; memory.give: all back
    ("memory.fragment", reclaim::fragment),
    ("memory.give", reclaim::give),
    // stress.start THREADS-PER-CPU MICROSECONDS: for ever, and interrupts between (0: none); stress.stop; stress.verify
    ("stress.start", stress::start),
    ("stress.stop", stress::stop),
    ("stress.verify", stress::verify),
    // lockdep: 1 if it watches; provoke deadlock|sleep|alloc|claim: what a debug kernel must report
    ("lockdep", contexts::lockdep),
    ("provoke", contexts::provoke),
    ("stats", stats::run),
    ("counts", stats::counts),
    // corrupt WHAT [NAME]
    ("corrupt", corrupt::run),
];

/// Runs a command.
///
/// # Errors
///
/// Those of the command. EPROTO if there is no such command, if its arguments make no sense, or if
/// something else than what it is about went wrong.
pub(crate) fn run(text: &[u8], reply: &mut Reply) -> Result {
    let text = core::str::from_utf8(text).map_err(|_| EPROTO)?;
    let mut words = Words {
        words: text.split_ascii_whitespace(),
    };
    let name = words.word()?;
    let Some((_, command)) = COMMANDS.iter().find(|(word, _)| *word == name) else {
        pr_err!("there is no command {}\n", name);
        return Err(EPROTO);
    };
    let start = Instant::<Monotonic>::now();
    command(&mut words, reply)?;
    reply.put("ns", start.elapsed().as_nanos() as u64);
    Ok(())
}

/// Turns the failure of a preparation into EPROTO, so that it is not taken for the failure that a
/// scenario waits for.
pub(crate) fn given<T>(what: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        pr_err!("{}: {:?}\n", what, error);
        EPROTO
    })
}

/// Fails with EPROTO, and says so, unless `found` is what was expected.
pub(crate) fn check<T: PartialEq + core::fmt::Debug>(what: &str, found: T, expected: T) -> Result {
    if found == expected {
        return Ok(());
    }
    pr_err!("{}: found {:?}, expected {:?}\n", what, found, expected);
    Err(EPROTO)
}
