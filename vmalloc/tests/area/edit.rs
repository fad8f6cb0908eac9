// SPDX-License-Identifier: GPL-2.0

//! Changes in the middle do what they do to a `Vec`.

use std::vec::Vec;

use kernel::prelude::*;
use kpreserve_kho::{
    Ledger,
    Preservable, //
};
use kpreserve_sim::Random;
use kpreserve_vmalloc::PVec;

use crate::common::{
    contents,
    Boot,
    Fault, //
};

fn element<const N: usize>(n: usize) -> [u8; N] {
    let mut bytes = [n as u8; N];
    for (byte, n) in bytes.iter_mut().zip(n.to_le_bytes()) {
        *byte = n;
    }
    bytes
}

/// Makes all spare elements visible, which must be zero, and takes them away again.
fn expect_zeros<T: Preservable + Copy + PartialEq>(vec: &mut PVec<T>) {
    let len = vec.len();
    vec.extend_zeroed(vec.capacity() - len).unwrap();
    let zero = T::new_zeroed();
    assert!(vec.iter().skip(len).all(|&element| element == zero));
    vec.truncate(len).unwrap();
}

/// Adds runs of a page each.
fn add_pages<T: Preservable>(vec: &mut PVec<T>, nr: usize) {
    for _ in 0..nr {
        vec.reserve(vec.capacity() - vec.len() + 1).unwrap();
    }
}

/// Works on a vector of elements of `N` bytes, of at most about `len_max`, and on a `Vec`.
fn agrees_with_vec<const N: usize>(len_max: usize, nr_steps: usize, seed: u64)
where
    [u8; N]: Preservable,
{
    let mut boot = Boot::with(4096, 2);
    let mut vec = boot.vec::<[u8; N]>(1);
    let mut model = Vec::<[u8; N]>::new();
    let mut random = Random::new(seed);
    let mut random = |below: usize| random.below(below as u64) as usize;
    let mut nr_runs_max = 0;
    add_pages(&mut vec, 6);
    for step in 0..nr_steps {
        let len = model.len();
        let index = random(len + 2);
        let start = random(len + 1);
        let end = start + random(len - start + 1);
        let nr_new = if len > len_max {
            0
        } else {
            random(len_max / 4)
        };
        let new: Vec<[u8; N]> = (0..nr_new).map(|n| element(step ^ n)).collect();
        match random(14) {
            0 | 1 => {
                let inserted = vec.insert(index, element(step));
                assert_eq!(inserted.is_ok(), index <= len);
                if index <= len {
                    model.insert(index, element(step));
                }
            }
            2 => match vec.remove(index) {
                Ok(gone) => assert_eq!(gone, model.remove(index)),
                Err(error) => assert!(error == EINVAL && index >= len),
            },
            3 => match vec.swap_remove(index) {
                Ok(gone) => assert_eq!(gone, model.swap_remove(index)),
                Err(error) => assert!(error == EINVAL && index >= len),
            },
            4 | 5 => {
                let mut gone = Vec::new();
                let end = start + (end - start) / 2;
                vec.drain(start..end, |part| {
                    gone.extend_from_slice(part);
                    Ok(())
                })
                .unwrap();
                assert_eq!(gone, model.drain(start..end).collect::<Vec<_>>());
            }
            6 | 7 => {
                let end = start + (end - start) / 2;
                vec.splice(start..end, &new).unwrap();
                model.splice(start..end, new);
            }
            8 => {
                let new: Vec<[u8; N]> = (start..end).map(|n| element(step ^ n)).collect();
                vec.splice(start..end, &new).unwrap();
                model.splice(start..end, new);
            }
            9 => {
                vec.insert_from_slice(start, &new).unwrap();
                model.splice(start..start, new);
            }
            10 => {
                let odd = |element: &[u8; N]| (element[0] as usize + step) % 5 != 0;
                vec.retain(odd).unwrap();
                model.retain(odd);
            }
            11 => {
                vec.dedup_by_key(|element| element[0] / 4).unwrap();
                model.dedup_by_key(|element| element[0] / 4);
            }
            12 if step % 3 == 0 => {
                // Many are equal by this.
                vec.sort_by(|a, b| (a[0] / 32).cmp(&(b[0] / 32))).unwrap();
                model.sort_by_key(|element| element[0] / 32);
            }
            12 => {
                vec.sort_by_key(|element| *element).unwrap();
                model.sort();
            }
            _ => {
                vec.push(element(step)).unwrap();
                model.push(element(step));
                if step % 3 == 0 {
                    vec.shrink_to_fit().unwrap();
                    add_pages(&mut vec, 6);
                }
            }
        }
        assert_eq!(contents(&vec), model, "step {step}");
        assert_eq!(vec.raw().ser().pending.load(), 0);
        nr_runs_max = nr_runs_max.max(vec.nr_runs());
        if step % 8 == 0 {
            expect_zeros(&mut vec);
        }
        if step % 100 == 50 {
            drop(vec);
            boot = boot.reboot();
            vec = boot.reopen(1);
        }
    }
    assert!(nr_runs_max > 4, "{nr_runs_max} runs");
    let nr_runs = vec.nr_runs();
    assert_eq!(boot.ledger.nr_records(), nr_runs);
    vec.discard().unwrap();
    assert_eq!(boot.ledger.nr_records(), 0);
}

#[test]
fn a_vector_that_is_changed_in_the_middle_agrees_with_vec() {
    agrees_with_vec::<1>(40_000, 300, 1);
    agrees_with_vec::<3>(10_000, 400, 2);
    agrees_with_vec::<8>(3_000, 600, 3);
    agrees_with_vec::<40>(900, 600, 4);
    agrees_with_vec::<4096>(24, 600, 5);
}

#[test]
fn what_is_out_of_range_is_einval() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    vec.extend_from_slice(&[1, 2, 3]).unwrap();
    let capacity = vec.capacity();
    assert_eq!(vec.insert(4, 0), Err(EINVAL));
    assert_eq!(vec.insert(usize::MAX, 0), Err(EINVAL));
    assert_eq!(vec.insert_from_slice(4, &[]), Err(EINVAL));
    assert_eq!(vec.remove(3), Err(EINVAL));
    assert_eq!(vec.remove(usize::MAX), Err(EINVAL));
    assert_eq!(vec.swap_remove(3), Err(EINVAL));
    let never = |_: &[u64]| -> Result { panic!("nothing to see") };
    assert_eq!(vec.drain(2..4, never), Err(EINVAL));
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = 2..1;
    assert_eq!(vec.drain(backwards, never), Err(EINVAL));
    assert_eq!(vec.drain(..=usize::MAX, never), Err(EINVAL));
    assert_eq!(vec.drain(3..3, never), Ok(()));
    assert_eq!(vec.splice(4.., &[1]), Err(EINVAL));
    assert_eq!(contents(&vec), [1, 2, 3]);
    assert_eq!(vec.capacity(), capacity);
}

#[test]
fn who_drains_may_refuse() {
    let boot = Boot::with(256, 2);
    let mut vec = boot.vec::<u64>(1);
    let old: Vec<u64> = (0..2000).collect();
    add_pages(&mut vec, 4);
    vec.extend_from_slice(&old).unwrap();
    for (range, nr_seen) in [(100..1500, 2), (0..2000, 2), (0..600, 2), (7..8, 1)] {
        let before = (boot.held(), vec.capacity());
        let mut nr = 0;
        let refused = vec.drain(range, |_| {
            nr += 1;
            if nr == nr_seen {
                return Err(ENOSPC);
            }
            Ok(())
        });
        assert_eq!(refused, Err(ENOSPC));
        assert_eq!(contents(&vec), old);
        assert_eq!((boot.held(), vec.capacity()), before);
    }
    expect_zeros(&mut vec);
}

#[test]
fn room_that_a_change_needed_is_given_back() {
    let boot = Boot::with(1024, 2);
    let mut vec = boot.vec::<u64>(1);
    vec.extend_from_slice(&[7; 512 * 64]).unwrap();
    let before = vec.nr_runs();
    vec.insert(0, 1).unwrap();
    assert!(vec.nr_runs() <= before + 64 / 16 + 1, "{}", vec.nr_runs());
    vec.reserve(512 * 70).unwrap();
    let before = vec.nr_runs();
    vec.insert(0, 1).unwrap();
    vec.remove(0).unwrap();
    assert_eq!(vec.nr_runs(), before);
}

type Change = (&'static str, fn(&mut PVec<u64>) -> Result);

const CHANGES: &[Change] = &[
    ("insert", |vec| vec.insert(3, 1)),
    ("insert_from_slice", |vec| {
        vec.insert_from_slice(5, &[9; 5000])
    }),
    ("remove", |vec| vec.remove(0).map(|_| ())),
    ("swap_remove", |vec| vec.swap_remove(0).map(|_| ())),
    ("drain", |vec| vec.drain(7..9, |_| Ok(()))),
    ("drain to the end", |vec| vec.drain(7.., |_| Ok(()))),
    ("splice", |vec| vec.splice(1..9000, &[1; 9000])),
    ("retain", |vec| vec.retain(|n| n % 3 == 0)),
    ("dedup_by_key", |vec| vec.dedup_by_key(|n| n / 2)),
    ("sort_by", |vec| vec.sort_by(|a, b| b.cmp(a))),
    ("sort_by_key", |vec| vec.sort_by_key(|n| n ^ 0xff)),
];

#[test]
fn a_failure_at_any_step_of_a_change_leaves_the_vector_as_it_was() {
    for (name, change) in CHANGES {
        let mut nr_failures = 0;
        for kind in Fault::ALL {
            for n in 1.. {
                let boot = Boot::with(512, 2);
                let mut vec = boot.vec::<u64>(1);
                let old: Vec<u64> = (0..10_000).collect();
                vec.extend_from_slice(&old).unwrap();
                // Not even the record fits.
                vec.extend_zeroed(vec.capacity() - vec.len()).unwrap();
                let old = contents(&vec);
                let before = (boot.held(), vec.capacity(), vec.nr_runs());

                boot.fail(kind, n);
                let result = change(&mut vec);
                boot.stop_failing();
                if let Err(error) = result {
                    nr_failures += 1;
                    assert_eq!(error, ENOMEM, "{name}: {kind:?} {n}");
                    let after = (boot.held(), vec.capacity(), vec.nr_runs());
                    assert_eq!(before, after, "{name}: {kind:?} {n}");
                    assert_eq!(contents(&vec), old, "{name}: {kind:?} {n}");
                    // It works afterwards.
                    change(&mut vec).unwrap();
                }
                expect_zeros(&mut vec);
                vec.discard().unwrap();
                assert_eq!(boot.ledger.nr_records(), 0);
                if result.is_ok() && n > 40 {
                    break;
                }
            }
        }
        let needs_none = *name == "drain to the end";
        assert_eq!(nr_failures == 0, needs_none, "{name}: {nr_failures}");
    }
}

#[test]
fn after_the_freeze_changes_are_busy() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    let old: Vec<u64> = (0..10_000).collect();
    vec.extend_from_slice(&old).unwrap();
    let pass = vec.raw().enter().unwrap();
    let ledger = boot.ledger;
    let freezer = std::thread::spawn(move || ledger.gate().freeze());
    while vec.push(0).is_ok() {
        std::thread::yield_now();
    }
    vec.truncate_with(&pass, 10_000);
    for (name, change) in CHANGES {
        assert_eq!(change(&mut vec), Err(EBUSY), "{name}");
    }
    assert_eq!(contents(&vec), old);
    // Who holds a pass goes on.
    vec.insert_with(&pass, 0, 5).unwrap();
    assert_eq!(vec.remove_with(&pass, 1), Ok(0));
    vec.insert_from_slice_with(&pass, 2, &[8, 8]).unwrap();
    assert_eq!(vec.swap_remove_with(&pass, 1), Ok(1));
    vec.drain_with(&pass, 10.., |_| Ok(())).unwrap();
    vec.splice_with(&pass, ..1, &[6, 5]).unwrap();
    vec.retain_with(&pass, |n| *n < 9).unwrap();
    vec.dedup_by_key_with(&pass, |n| n / 3).unwrap();
    vec.sort_by_with(&pass, |a, b| b.cmp(a)).unwrap();
    let sorted = contents(&vec);
    assert!(sorted.is_sorted_by(|a, b| a >= b) && sorted.len() > 3);
    vec.sort_by_key_with(&pass, |n| *n).unwrap();
    assert!(!freezer.is_finished());
    drop(pass);
    freezer.join().unwrap();
    assert!(vec.iter().is_sorted());
}

#[test]
fn a_comparison_without_sense_ends_and_loses_nothing() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    vec.extend_from_slice(&(0..5_000).collect::<Vec<_>>())
        .unwrap();
    let seed = core::cell::Cell::new(1u64);
    vec.sort_by(|_, _| {
        seed.set(seed.get().wrapping_mul(6364136223846793005).wrapping_add(1));
        (seed.get() >> 33).cmp(&(1 << 30))
    })
    .unwrap();
    vec.sort_by_key(|n| *n).unwrap();
    assert!(vec.iter().copied().eq(0..5_000));
}
