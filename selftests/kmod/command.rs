// SPDX-License-Identifier: GPL-2.0

//! Commands: a word, then arguments.

use kernel::prelude::*;
use kernel::str::CString;
use kernel::time::{
    Instant,
    Monotonic, //
};

use crate::reply::Reply;
use crate::{
    areas,
    atomic,
    caches,
    claims,
    corrupt,
    gate,
    named,
    objects,
    opening,
    stats, //
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
    // named.set NAME VALUE, named.get NAME (value=...), named.discard NAME
    ("named.set", named::set),
    ("named.get", named::get),
    ("named.discard", named::discard),
    // open WAY: fails as it should
    ("open", opening::run),
    // claim WAY: fails as it should
    ("claim", claims::run),
    ("freeze", gate::freeze),
    ("thaw", gate::thaw),
    // frozen: freezes, checks who may go on and who may not, thaws
    ("frozen", gate::frozen),
    // alloc-atomic N: up to N large objects, without sleeping
    ("alloc-atomic", atomic::run),
    ("stats", stats::run),
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
