// SPDX-License-Identifier: GPL-2.0

//! A cut at each step of a change in the middle, and at each step of what finishes it in the next
//! kernel.

use std::vec::Vec;

use kpreserve_kho::Preservable;
use kpreserve_sim::{
    Cut,
    Recorder, //
};
use kpreserve_vmalloc::PVec;

use crate::common::{
    contents,
    Boot, //
};

type Change<T> = (&'static str, fn(&mut PVec<T>));

fn element<const N: usize>(n: usize) -> [u8; N] {
    let mut bytes = [(n * 7 + 1) as u8; N];
    for (byte, n) in bytes
        .iter_mut()
        .zip(n.wrapping_mul(0x9e37_79b9).to_le_bytes())
    {
        *byte = n;
    }
    bytes
}

/// All there are, in each of their forms: with and without room behind the elements, with much and
/// with little that moves.
fn changes<const N: usize>() -> Vec<Change<[u8; N]>>
where
    [u8; N]: Preservable,
{
    fn gone<const N: usize>(_: &[[u8; N]]) -> kernel::error::Result {
        Ok(())
    }
    std::vec![
        ("insert at 0", |vec| vec.insert(0, element(1)).unwrap()),
        ("insert before the last", |vec| {
            vec.insert(vec.len() - 1, element(2)).unwrap()
        }),
        ("remove 0", |vec| assert!(vec.remove(0).is_ok())),
        ("remove before the last", |vec| {
            assert!(vec.remove(vec.len() - 2).is_ok())
        }),
        ("remove the last", |vec| {
            assert!(vec.remove(vec.len() - 1).is_ok())
        }),
        ("swap_remove", |vec| assert!(vec.swap_remove(1).is_ok())),
        ("drain little", |vec| vec.drain(1..3, gone).unwrap()),
        ("drain much", |vec| {
            vec.drain(1..vec.len() - 3, gone).unwrap()
        }),
        ("drain to the end", |vec| {
            vec.drain(vec.len() / 2.., gone).unwrap()
        }),
        ("splice, longer", |vec| {
            let half = vec.len() / 2;
            let new: Vec<_> = (0..half).map(element).collect();
            vec.splice(2..5, &new).unwrap();
        }),
        ("splice, as long", |vec| {
            let new: Vec<_> = (1..vec.len() - 1).map(|n| element(n + 9)).collect();
            vec.splice(1..vec.len() - 1, &new).unwrap();
        }),
        ("splice, shorter", |vec| {
            vec.splice(1..vec.len() / 2, &[element(3)]).unwrap();
        }),
        ("splice at the end", |vec| {
            let len = vec.len();
            vec.splice(len - 1.., &[element(3); 4]).unwrap();
        }),
        ("push", |vec| vec.push(element(4)).unwrap()),
        ("extend", |vec| {
            vec.extend_from_slice(&[element(4); 3]).unwrap()
        }),
        ("pop", |vec| assert!(vec.pop().unwrap().is_some())),
        ("retain", |vec| vec.retain(|e| e[0] % 3 != 0).unwrap()),
        ("dedup", |vec| vec.dedup_by_key(|e| e[0] / 128).unwrap()),
        ("sort", |vec| vec.sort_by_key(|e| *e).unwrap()),
    ]
}

/// Opens the vector in the kernel after a cut, and works with it.
fn look<const N: usize>(boot: &Boot, cut: &str) -> Vec<[u8; N]>
where
    [u8; N]: Preservable,
{
    let mut vec = boot.reopen::<[u8; N]>(1);
    let found = contents(&vec);
    assert_eq!(vec.raw().ser().pending.load(), 0, "{cut}");
    // Whatever lies behind, zeroed elements are zero, and the next change is none of the last.
    let len = vec.len();
    vec.extend_zeroed(vec.capacity() - len + 1).unwrap();
    let zero = [0; N];
    assert!(vec.iter().skip(len).all(|e| *e == zero), "{cut}");
    vec.truncate(len).unwrap();
    if len > 1 {
        vec.insert(1, element(77)).unwrap();
        assert_eq!(vec.remove(1), Ok(element(77)));
        assert_eq!(contents(&vec), found, "{cut}");
    }
    vec.discard().unwrap();
    assert_eq!(boot.ledger.nr_records(), 0);
    found
}

/// Makes `change` to a vector of `len` elements; returns what there was, and is, and the cuts.
fn record<const N: usize>(
    len: usize,
    change: fn(&mut PVec<[u8; N]>),
) -> (Vec<[u8; N]>, Vec<[u8; N]>, Vec<Cut>)
where
    [u8; N]: Preservable,
{
    let boot = Boot::with(128, 2);
    let mut vec = boot.vec::<[u8; N]>(1);
    // Page by page: as many runs.
    for n in 0..len {
        vec.push(element(n)).unwrap();
    }
    let old = contents(&vec);
    let recorder = Recorder::start(boot.machine).torn(3).by_page().overtaking();
    change(&mut vec);
    let cuts = recorder.finish();
    (old, contents(&vec), cuts)
}

/// Cuts at each step of all changes to a vector of `len` elements; returns how many cuts found a
/// change to be finished.
fn survive_all<const N: usize>(len: usize) -> usize
where
    [u8; N]: Preservable,
{
    let mut nr_pending = 0;
    for (name, change) in changes::<N>() {
        let (old, new, cuts) = record(len, change);
        assert_ne!(old, new, "{name}");
        let (mut nr_old, mut nr_new) = (0, 0);
        for (i, cut) in cuts.iter().enumerate() {
            let at = std::format!("{N} bytes, {name}, {}", cut.step);
            let next = Boot::after(&cut.image);
            let is_decided = next.ser(1).pending.load() != 0;
            let found = if is_decided && nr_pending % 5 == 0 {
                finish_with_cuts(&next, &new, &at)
            } else if is_decided && i % 2 == 0 {
                // By way of a kernel that does not open the vector.
                let after = next.reboot();
                let found = look(&after, &at);
                after.machine.power_off();
                found
            } else {
                look(&next, &at)
            };
            nr_pending += usize::from(is_decided);
            assert!(found == new || (found == old && !is_decided), "{at}");
            nr_old += usize::from(found == old);
            nr_new += usize::from(found == new);
            next.machine.power_off();
        }
        assert!(
            nr_old > 0 && nr_new > 0,
            "{name}: {nr_old} old, {nr_new} new"
        );
    }
    nr_pending
}

/// Finishes a change, with a cut at each step of that.
fn finish_with_cuts<const N: usize>(boot: &Boot, new: &[[u8; N]], at: &str) -> Vec<[u8; N]>
where
    [u8; N]: Preservable,
{
    let arena = boot.arena(1);
    let recorder = Recorder::start(boot.machine).torn(2).by_page().overtaking();
    let vec = PVec::<[u8; N]>::from_arena(arena, boot.ser(1)).unwrap();
    let cuts = recorder.finish();
    let found = contents(&vec);
    drop(vec);
    for cut in &cuts {
        let next = Boot::after(&cut.image);
        assert!(look(&next, at) == new, "{at}, then {}", cut.step);
        next.machine.power_off();
    }
    assert_eq!(look(boot, at), found);
    found
}

// A cut at each step leaves the old or the new state. Several runs of a page each, the last nearly
// full: a record does not always fit into it.

#[test]
fn bytes_survive_a_cut_at_each_step() {
    assert!(survive_all::<1>(3 * 4096 - 20) > 40);
}

#[test]
fn elements_of_3_bytes_survive_a_cut_at_each_step() {
    assert!(survive_all::<3>(3 * 1365 - 9) > 40);
}

#[test]
fn elements_of_8_bytes_survive_a_cut_at_each_step() {
    assert!(survive_all::<8>(3 * 512) > 40);
}

#[test]
fn elements_of_40_bytes_survive_a_cut_at_each_step() {
    assert!(survive_all::<40>(3 * 102 - 1) > 40);
}

#[test]
fn pages_survive_a_cut_at_each_step() {
    assert!(survive_all::<4096>(7) > 40);
}
