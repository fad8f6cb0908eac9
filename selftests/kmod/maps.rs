// SPDX-License-Identifier: GPL-2.0

//! Maps from numbers to strings.

use kernel::str::CString;
use kpreserve::prelude::*;

use crate::command::{
    check,
    Words, //
};
use crate::pattern::mix;
use crate::reply::Reply;

type Map = PMap<u64, StrSer>;

/// The string of a number: 1 to 32 bytes.
struct Text {
    bytes: [u8; 32],
    len: usize,
}

impl Text {
    fn of(number: u64, seed: u64) -> Self {
        let word = mix(number, seed);
        let bytes = core::array::from_fn(|i| word.rotate_left(i as u32 * 7) as u8);
        Self {
            bytes,
            len: 1 + (word % 32) as usize,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

fn open(words: &mut Words<'_>) -> Result<(Map, PStrings, u64, u64)> {
    let name = words.name()?;
    let strings = CString::try_from_fmt(fmt!("{}-strings", name.to_str().map_err(|_| EPROTO)?))?;
    let nr = words.number()? as u64;
    let seed = words.number()? as u64;
    let map = Map::open(&name, GFP_KERNEL)?;
    let strings = PStrings::open(&strings, GFP_KERNEL)?;
    Ok((map, strings, nr, seed))
}

fn report(map: &Map, strings: &PStrings, reply: &mut Reply) {
    reply.put("entries", map.len() as u64);
    reply.put("pages", map.nr_pages() as u64);
    reply.put("string_bytes", strings.as_vec().len() as u64);
}

/// `map.fill NAME N SEED`: the numbers below N.
pub(crate) fn fill(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (mut map, mut strings, nr, seed) = open(words)?;
    for number in 0..nr {
        let ser = strings.push(Text::of(number, seed).bytes())?;
        check("there before", map.insert(number, ser)?, false)?;
    }
    report(&map, &strings, reply);
    Ok(())
}

/// `map.churn NAME N SEED`: takes every third number away, and inserts it again with the string of
/// another; replaces that of every fifth by its own.
pub(crate) fn churn(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (mut map, mut strings, nr, seed) = open(words)?;
    for number in (0..nr).step_by(3) {
        check("there", map.remove(&number)?.is_some(), true)?;
    }
    for number in (0..nr).step_by(3) {
        let ser = strings.push(Text::of(number, seed).bytes())?;
        check("there before", map.insert(number, ser)?, false)?;
    }
    for number in (0..nr).step_by(5) {
        let ser = strings.push(Text::of(number, seed).bytes())?;
        check("there before", map.insert(number, ser)?, true)?;
    }
    report(&map, &strings, reply);
    Ok(())
}

/// `map.verify NAME N SEED`: the numbers below N and their strings, and no others.
pub(crate) fn verify(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let (map, strings, nr, seed) = open(words)?;
    for number in 0..nr {
        let ser = map.get(&number).copied();
        let found = ser.map(|ser| strings.get(ser)).transpose()?;
        if found != Some(Text::of(number, seed).bytes()) {
            pr_err!("{} is not what was inserted\n", number);
            return Err(EBADMSG);
        }
    }
    let nr_found = map.iter().filter(|(number, _)| **number < nr).count();
    check("numbers", (nr_found, map.len()), (nr as usize, nr as usize))?;
    check("other number", map.get(&nr), None)?;
    report(&map, &strings, reply);
    Ok(())
}

/// `map.discard NAME N SEED`.
pub(crate) fn discard(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let (map, strings, ..) = open(words)?;
    map.discard()?;
    strings.discard()
}
