// SPDX-License-Identifier: GPL-2.0

//! The kernel's own selftests, `tools/testing/selftests/liveupdate` and `kho` of the source that is tested: built as they are, static,
//! and run inside the machine.

use crate::{cache, run, source, ui::Stage, workshop::Workshop};
use anyhow::{bail, Result};
use std::path::PathBuf;

/// The init of selftests/kho; the others are of selftests/liveupdate.
const KHO: &str = "kho";

/// Those that there are, by name.
const PROGRAMS: &[&str] = &[
    KHO,
    "liveupdate",
    "luo_kexec_simple",
    "luo_multi_session",
    "luo_stress_files",
    "luo_stress_sessions",
];

/// Where they are made, inside the build root.
const OUT: &str = "/src/programs";

/// Makes all of them and returns the file of one.
pub(crate) fn make(shop: &Workshop, name: &str) -> Result<PathBuf> {
    exists(name)?;
    let (root, from) = (shop.root()?, shop.source()?);
    // Of the kernel's headers those for user space, as they would be installed.
    let line = format!(
        "make -s -C {source} O={OUT}/headers headers
        cd {source}/tools/testing/selftests/liveupdate
        for program in {programs}; do
            gcc -static -O2 -Wall -Wno-unused-function -D_GNU_SOURCE -I.. -Ilib/include \
                -isystem {OUT}/headers/usr/include -o {OUT}/$program $program.c lib/*.c
        done
        cd ../kho
        gcc -s -static -Os -nostdinc -nostdlib -fno-asynchronous-unwind-tables -fno-ident \
            -I {OUT}/headers/usr/include -I ../../../include/nolibc -o {OUT}/{KHO} init.c
        rm -r {OUT}/headers",
        source = source::INSIDE,
        programs = PROGRAMS
            .iter()
            .copied()
            .filter(|name| *name != KHO)
            .collect::<Vec<_>>()
            .join(" "),
    );
    let recipe = cache::hash([root.id(), &line]);
    let id = format!("selftests-{}-{recipe}", from.id);
    let made = shop.cache().folder(&id, |part| {
        let mut stage = Stage::start("programs: the kernel's own selftests");
        let jail = root
            .jail()
            .show(&from.folder, source::INSIDE)
            .lend(part, OUT);
        run::logged(
            &mut stage,
            &shop.cache().log("programs"),
            &mut jail.shell(&line),
        )?;
        stage.done("");
        Ok(())
    })?;
    Ok(made.join(name))
}

/// Fails unless there is a program of that name.
pub(crate) fn exists(name: &str) -> Result<()> {
    if !PROGRAMS.contains(&name) {
        bail!(
            "no program of the kernel's selftests is called {name:?}; there are: {}",
            PROGRAMS.join(", ")
        );
    }
    Ok(())
}
