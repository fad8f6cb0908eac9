// SPDX-License-Identifier: GPL-2.0

//! Readers of names beside each other: who lists, and who opens what is there.
//!
//! Tried against a framework whose readers take the names alone: both tests noticed.

use std::sync::mpsc;
use std::time::Duration;

use kernel::prelude::GFP_KERNEL;
use kpreserve::{
    Cache,
    Framework,
    Named,
    Open as _,
    PVec, //
};
use kpreserve_sim::set_cpu;
use kpreserve_testing::Kernel;

const LONG: Duration = Duration::from_secs(20);

/// Runs `f` on another CPU while this one lists names; returns whether it came to its end.
fn beside_a_list(framework: &'static Framework, f: fn(&'static Framework)) -> bool {
    let (done, is_done) = mpsc::channel();
    let mut other = None;
    let mut has_ended = false;
    framework
        .list_names(c"", |_, _| {
            if other.is_none() {
                let done = done.clone();
                other = Some(std::thread::spawn(move || {
                    set_cpu(1);
                    f(framework);
                    done.send(()).unwrap();
                }));
                has_ended = is_done.recv_timeout(LONG / 10).is_ok();
            }
            Ok(())
        })
        .unwrap();
    other.unwrap().join().unwrap();
    has_ended
}

#[test]
fn who_opens_what_is_there_is_a_reader() {
    let kernel = Kernel::boot();
    let framework = kernel.framework();
    drop(PVec::<u64>::open(c"a/vec", GFP_KERNEL).unwrap());
    drop(Cache::<u64>::open(c"a/cache", GFP_KERNEL).unwrap());
    drop(Named::<u64>::open(c"a/object", 5u64, GFP_KERNEL).unwrap());
    assert!(beside_a_list(framework, |framework| {
        let mut nr = 0;
        let count = |_: &core::ffi::CStr, _| {
            nr += 1;
            Ok(())
        };
        framework.list_names(c"a/", count).unwrap();
        assert_eq!(nr, 3);
    }));
    assert!(beside_a_list(framework, |framework| {
        drop(PVec::<u64>::open_in(framework, c"a/vec", GFP_KERNEL).unwrap());
        drop(Cache::<u64>::open_in(framework, c"a/cache", GFP_KERNEL).unwrap());
        let object = Named::<u64>::open_in(framework, c"a/object", 6u64, GFP_KERNEL).unwrap();
        assert_eq!(*object, 5);
    }));
    kernel.assert_sound();
}

#[test]
fn who_changes_names_waits_for_readers() {
    let kernel = Kernel::boot();
    drop(PVec::<u64>::open(c"a/vec", GFP_KERNEL).unwrap());
    assert!(!beside_a_list(kernel.framework(), |framework| {
        framework.rename(c"a/vec", c"b/vec").unwrap();
    }));
    drop(PVec::<u64>::open(c"b/vec", GFP_KERNEL).unwrap());
    kernel.assert_sound();
}
