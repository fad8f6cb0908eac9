// SPDX-License-Identifier: GPL-2.0

//! A vector does what `Vec` does.

use std::vec::Vec;

use kernel::prelude::*;
use kpreserve_kho::{
    Ledger,
    Preservable,
    SharedU64, //
};
use kpreserve_sim::Random;

use crate::common::{
    contents,
    Boot, //
};

fn agrees_with_vec<T>(make: impl Fn(u64) -> T, nr_steps: usize, seed: u64)
where
    T: Preservable + Copy + PartialEq + core::fmt::Debug,
{
    let boot = Boot::first();
    let before = boot.held();
    let mut vec = boot.vec::<T>(1);
    let mut model = Vec::<T>::new();
    let mut random = Random::new(seed);
    let mut random = |below: usize| random.below(below as u64) as usize;
    for step in 0..nr_steps as u64 {
        match random(12) {
            0..=4 => {
                vec.push(make(step)).unwrap();
                model.push(make(step));
            }
            5 => assert_eq!(vec.pop().unwrap(), model.pop()),
            6 => {
                let more: Vec<T> = (0..random(90)).map(|i| make(i as u64)).collect();
                vec.extend_from_slice(&more).unwrap();
                model.extend_from_slice(&more);
            }
            7 => {
                let len = model.len() - random(model.len() / 4 + 1);
                vec.truncate(len).unwrap();
                model.truncate(len);
            }
            8 => {
                let nr = random(40);
                vec.extend_zeroed(nr).unwrap();
                model.resize(model.len() + nr, T::new_zeroed());
            }
            9 => vec.shrink_to_fit().unwrap(),
            10 => vec.reserve(random(300)).unwrap(),
            _ => {
                let index = random(model.len() + 2);
                let set = vec.set(index, make(!step));
                match model.get_mut(index) {
                    Some(element) => {
                        *element = make(!step);
                        assert_eq!(set, Ok(()));
                    }
                    None => assert_eq!(set, Err(EINVAL)),
                }
            }
        }
        assert_eq!(vec.len(), model.len());
        assert!(vec.capacity() >= vec.len());
        let index = random(model.len() + 2);
        assert_eq!(vec.get(index), model.get(index));
    }
    assert_eq!(contents(&vec), model);
    assert_eq!(boot.ledger.nr_records(), vec.nr_runs());
    let id = vec.raw().id();
    vec.discard().unwrap();
    assert_eq!(boot.ledger.retired(), [id]);
    assert_eq!(boot.held(), before);
    // It was not closed as well: that would be twice now.
    // SAFETY: nobody uses the arena any more.
    unsafe { boot.ledger.close(id, KVVec::new()) };
}

#[test]
fn a_vector_agrees_with_vec() {
    agrees_with_vec(|n| n, 3000, 1);
    agrees_with_vec(|n| n as u8, 3000, 2);
    agrees_with_vec(|n| [n as u32; 7], 3000, 3);
    // Five pages hold no whole number of these.
    agrees_with_vec(|n| [n as u8; 2049], 400, 4);
}

#[test]
fn what_was_cut_off_comes_back_as_zeroes() {
    let boot = Boot::first();
    let mut vec = boot.vec::<[u8; 24]>(1);
    vec.extend_from_slice(&[[0xff; 24]; 1000]).unwrap();
    vec.truncate(10).unwrap();
    vec.pop().unwrap();
    let rest = vec.capacity() - vec.len();
    vec.extend_zeroed(rest).unwrap();
    assert!(vec.iter().skip(9).all(|element| *element == [0; 24]));
    assert!(vec.iter().take(9).all(|element| *element == [0xff; 24]));
}

#[test]
fn elements_do_not_move() {
    let boot = Boot::first();
    let mut vec = boot.vec::<u64>(1);
    vec.push(7).unwrap();
    let before = core::ptr::from_ref(vec.get(0).unwrap());
    for n in 0..100_000 {
        vec.push(n).unwrap();
    }
    assert_eq!(before, core::ptr::from_ref(vec.get(0).unwrap()));
}

#[test]
fn counters_are_shared_by_reference() {
    let boot = Boot::first();
    let area = boot.area::<SharedU64>(1, 600);
    area.get(599).unwrap().fetch_add(3);
    assert_eq!(area.iter().map(SharedU64::load).sum::<u64>(), 3);
}
