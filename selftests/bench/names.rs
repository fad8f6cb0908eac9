// SPDX-License-Identifier: GPL-2.0

//! Names, against a flattened device tree as far as that goes, and against themselves when they are few.

use kernel::str::CString;
use kpreserve::prelude::*;

use crate::fdt::Fdt;
use crate::peers::timed;
use crate::reply::{
    Figure,
    Reply, //
};
use crate::Words;

/// How many names there are when it is measured.
const NRS: [usize; 4] = [100, 1_000, 10_000, 100_000];

/// What is measured: so many insertions that end with the last name, and so many look-ups.
const NR_CALLS: usize = 100;

/// Beyond, a tree takes minutes.
const NR_FDT_MAX: usize = 1_000;

fn name(number: usize) -> Result<CString> {
    // By hundreds, as devices are by buses.
    CString::try_from_fmt(fmt!("bench/{}/name{}", number / 100, number))
}

fn names(range: core::ops::Range<usize>, step: usize) -> Result<KVVec<(usize, CString)>> {
    let mut names = KVVec::new();
    for number in range.step_by(step) {
        names.push((number, name(number)?), GFP_KERNEL)?;
    }
    Ok(names)
}

/// A named object, whose value is its number: its cache is shared by all of them.
fn open(name: &CString, number: usize) -> Result<Named<u64>> {
    Named::<u64>::open(name, number as u64, GFP_KERNEL)
}

/// `dict.rows N`: `dict.insert` and `dict.lookup` with ever more names, up to N. Ours makes an
/// object as well, and claims it.
pub(crate) fn rows(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let nr_max = words.number()?;
    let mut first = None;
    let mut nr = 0;
    for nr_end in NRS.into_iter().filter(|nr| *nr <= nr_max) {
        for (number, name) in names(nr..nr_end - NR_CALLS, 1)? {
            drop(open(&name, number)?);
        }
        let last = names(nr_end - NR_CALLS..nr_end, 1)?;
        let (insert_ns, ()) = timed(|| {
            last.iter()
                .try_for_each(|(number, name)| Ok(drop(open(name, *number)?)))
        })?;
        let some = names(0..nr_end, nr_end / NR_CALLS)?;
        let (lookup_ns, ()) = timed(|| {
            some.iter()
                .try_for_each(|(number, name)| match open(name, 0) {
                    Ok(found) if *found == *number as u64 => Ok(()),
                    Ok(_) => Err(EBADMSG),
                    Err(error) => Err(error),
                })
        })?;
        nr = nr_end;
        let ours = [
            Figure::per(insert_ns, NR_CALLS),
            Figure::per(lookup_ns, NR_CALLS),
        ];
        let itself = *first.get_or_insert(ours);
        let mut row = |peer_name, peer: [Figure; 2]| {
            for ((name, ours), peer) in ["dict.insert", "dict.lookup"]
                .into_iter()
                .zip(ours)
                .zip(peer)
            {
                reply.row(name, nr_end, ours, peer_name, peer);
            }
        };
        row("with 100 names", itself);
        if nr_end <= NR_FDT_MAX {
            row("libfdt", fdt(nr_end, &last, &some)?);
        }
    }
    Ok(())
}

/// The same in a tree.
fn fdt(nr: usize, last: &[(usize, CString)], some: &[(usize, CString)]) -> Result<[Figure; 2]> {
    let mut tree = Fdt::new(nr)?;
    for (number, name) in names(0..nr - NR_CALLS, 1)? {
        tree.insert(&name, number as u64)?;
    }
    let (insert_ns, ()) = timed(|| {
        last.iter()
            .try_for_each(|(number, name)| tree.insert(name, *number as u64))
    })?;
    let (lookup_ns, ()) = timed(|| {
        some.iter().try_for_each(|(number, name)| {
            if tree.get(name) == Some(*number as u64) {
                Ok(())
            } else {
                Err(EBADMSG)
            }
        })
    })?;
    Ok([
        Figure::per(insert_ns, NR_CALLS),
        Figure::per(lookup_ns, NR_CALLS),
    ])
}
