// SPDX-License-Identifier: GPL-2.0

//! What is lost, and what nobody has asked for, is said: one line at adoption, one at a freeze.
//!
//! Tried against code that was broken on purpose:
//!
//! | broken | noticed by |
//! | --- | --- |
//! | a kernel that was handed something else is taken for the first one | `a_kernel_without_kpreserve` |
//! | a name is counted at each open | `names_that_nobody_opened` |
//! | a rename, or a name that is made, is not noted | `names_that_are_renamed_or_taken_away` |
//! | runs of arenas that are opened stay counted | `names_that_nobody_opened` |
//! | a run that is given back is still counted | `what_is_handed_on_is_counted` |

mod framework_common;

use framework_common::world::World;
use framework_common::{
    log_lines,
    name,
    small,
    up, //
};
use kernel::prelude::GFP_KERNEL;
use kpreserve::{
    Area,
    Framework,
    Open as _,
    PVec, //
};
use kpreserve_sim::SimMachine;

/// The one line that is said at a freeze.
#[track_caller]
fn at_freeze(framework: &'static Framework) -> String {
    log_lines("");
    framework.say_what_is_handed_on();
    let mut lines = log_lines("");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

/// The number in front of a word.
#[track_caller]
fn number(line: &str, words: &str) -> u64 {
    let Some((before, _)) = line.split_once(words) else {
        panic!("{words:?} is not in {line:?}");
    };
    let number = before.trim_end().rsplit([' ', '(']).next().unwrap();
    number.parse().unwrap()
}

/// How many names, runs and KiB nobody has opened; all 0 if the line does not speak of any.
fn unopened(line: &str) -> (u64, u64, u64) {
    match line.split_once("; ") {
        Some((_, rest)) => {
            assert!(rest.contains("nobody has opened in this boot"), "{line}");
            (
                number(rest, "names"),
                number(rest, "runs"),
                number(rest, "KiB"),
            )
        }
        None => (0, 0, 0),
    }
}

#[test]
fn the_first_kernel() {
    log_lines("");
    up(SimMachine::boot(small()));
    let lines = log_lines("");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("no kernel before this one handed one over"));
}

#[test]
fn a_kernel_without_kpreserve() {
    let machine = SimMachine::boot(small());
    World::build(up(machine)).unwrap();
    // Nobody loads kpreserve in the second one.
    let machine = machine.reboot().reboot();
    log_lines("");
    up(machine);
    let lines = log_lines("");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for words in ["kpreserve was not loaded there", "is lost"] {
        assert!(lines[0].contains(words), "{lines:#?}");
    }
}

#[test]
fn what_was_adopted() {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    let world = World::build(framework).unwrap();
    let nr_names = framework.stats().nr_names;
    let machine = machine.reboot();
    log_lines("");
    let framework = up(machine);
    let lines = log_lines("");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("generation 2: "), "{lines:#?}");
    let stats = framework.stats();
    assert_eq!(number(&lines[0], "runs"), stats.nr_runs_inherited as u64);
    assert_eq!(
        number(&lines[0], "KiB"),
        4 * stats.nr_pages_inherited as u64
    );
    assert_eq!(number(&lines[0], "names"), nr_names);
    world.verify(framework);
}

#[test]
fn what_is_handed_on_is_counted() {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    World::build(framework).unwrap();
    let mut machine = machine;
    let mut framework = framework;
    for generation in 1..4 {
        for nr in [3000, 0, 10_000] {
            let mut vec = PVec::<u64>::open_in(framework, c"more", GFP_KERNEL).unwrap();
            vec.truncate(0).unwrap();
            vec.extend_zeroed(nr).unwrap();
            if nr == 0 {
                vec.discard().unwrap();
            }
            let line = at_freeze(framework);
            let image = machine.image();
            let nr_pages: u64 = image.keys().map(|(_, order)| 1 << order).sum();
            assert_eq!(number(&line, "runs"), image.keys().count() as u64, "{line}");
            assert_eq!(number(&line, "KiB"), 4 * nr_pages, "{line}");
            assert_eq!(number(&line, "names"), framework.stats().nr_names);
            assert!(line.contains(&format!("generation {generation} is frozen")));
        }
        machine = machine.reboot();
        framework = up(machine);
    }
}

#[test]
fn names_that_nobody_opened() {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    let world = World::build(framework).unwrap();
    assert_eq!(unopened(&at_freeze(framework)), (0, 0, 0));
    let nr_names = framework.stats().nr_names;
    let machine = machine.reboot();
    let framework = up(machine);
    let line = at_freeze(framework);
    let all = unopened(&line);
    assert_eq!(all.0, nr_names, "{line}");
    // Each part once, and a second time, which changes nothing.
    let mut last = all;
    for part in framework_common::world::PARTS {
        world.try_part(framework, part).unwrap();
        let now = unopened(&at_freeze(framework));
        match part {
            // Found by its handle, so it has no name.
            "log" => assert_eq!(now.0, last.0),
            // Its cache has a name of its own.
            "state" => assert_eq!(now.0, last.0 - 2),
            _ => assert_eq!(now.0, last.0 - 1, "{part}"),
        }
        assert!(now.1 < last.1 && now.2 < last.2, "{part}: {last:?} {now:?}");
        world.try_part(framework, part).unwrap();
        assert_eq!(unopened(&at_freeze(framework)), now, "{part}");
        last = now;
    }
    assert_eq!(last, (0, 0, 0));
    // What is new is opened by whoever makes it.
    drop(PVec::<u8>::open_in(framework, c"new", GFP_KERNEL).unwrap());
    assert_eq!(unopened(&at_freeze(framework)), (0, 0, 0));
    // In the next kernel it is not.
    let machine = machine.reboot();
    let framework = up(machine);
    assert_eq!(unopened(&at_freeze(framework)).0, nr_names + 1);
}

#[test]
fn names_that_are_renamed_or_taken_away() {
    let machine = SimMachine::boot(small());
    let framework = up(machine);
    for i in 0..10 {
        let mut area =
            Area::<u8>::open_in(framework, &name(&format!("a/{i}")), GFP_KERNEL).unwrap();
        area.resize(10).unwrap();
    }
    // Free entries are inherited, too.
    for i in 0..3 {
        let gone = name(&format!("a/gone{i}"));
        let area = Area::<u8>::open_in(framework, &gone, GFP_KERNEL).unwrap();
        area.discard().unwrap();
    }
    for i in 0..3 {
        framework.remove_name(&name(&format!("a/gone{i}"))).unwrap();
    }
    let machine = machine.reboot();
    let framework = up(machine);
    let nr = || unopened(&at_freeze(framework)).0;
    assert_eq!(nr(), 10);
    for _ in 0..2 {
        drop(Area::<u8>::open_in(framework, c"z", GFP_KERNEL).unwrap());
        assert_eq!(nr(), 10);
    }
    framework.rename(c"a/0", c"b/0").unwrap();
    assert_eq!(nr(), 9);
    // The entry of a/0 is free now, and somebody else's next.
    for i in 0..5 {
        drop(Area::<u8>::open_in(framework, &name(&format!("c/{i}")), GFP_KERNEL).unwrap());
        drop(Area::<u8>::open_in(framework, c"b/0", GFP_KERNEL).unwrap());
        assert_eq!(nr(), 9);
    }
    let area = Area::<u8>::open_in(framework, c"a/1", GFP_KERNEL).unwrap();
    assert_eq!(nr(), 8);
    area.discard().unwrap();
    framework.remove_name(c"a/1").unwrap();
    assert_eq!(nr(), 8);
    drop(Area::<u8>::open_in(framework, c"a/1", GFP_KERNEL).unwrap());
    assert_eq!(nr(), 8);
    for i in 2..10 {
        drop(Area::<u8>::open_in(framework, &name(&format!("a/{i}")), GFP_KERNEL).unwrap());
    }
    assert_eq!(nr(), 0);
}
