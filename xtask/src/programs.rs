// SPDX-License-Identifier: GPL-2.0

//! The kernel's own selftests, `tools/testing/selftests/liveupdate` and `kho` of the source that is tested: built as they are, static,
//! and run inside the machine.

use crate::{cache, run, source, ui::Stage, workshop::Workshop};
use anyhow::{bail, Context, Result};
use std::path::PathBuf;

/// The init of selftests/kho; the others are of selftests/liveupdate.
const KHO: &str = "kho";

/// Programs of the build root that need libraries, by name.
const INSTALLED: &[(&str, &str)] = &[("kexec", "/usr/sbin/kexec")];

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

/// The file of a program of the build root, and its libraries: where each is inside, and outside.
/// None if it is not one of these.
pub(crate) fn installed(shop: &Workshop, name: &str) -> Result<Option<Installed>> {
    let Some((_, inside)) = INSTALLED.iter().find(|(known, _)| *known == name) else {
        return Ok(None);
    };
    let root = shop.root()?;
    let text = run::capture(&mut root.jail().command("ldd", [inside]))
        .with_context(|| format!("the libraries of {inside}"))?;
    Ok(Some(Installed {
        file: root.path(inside),
        libraries: libraries(&text)?
            .into_iter()
            .map(|library| (library.to_owned(), root.path(library)))
            .collect(),
    }))
}

/// A program that needs libraries.
pub(crate) struct Installed {
    pub(crate) file: PathBuf,
    pub(crate) libraries: Vec<(String, PathBuf)>,
}

/// The paths in what ldd prints: `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)`; the vDSO has none.
fn libraries(text: &str) -> Result<Vec<&str>> {
    let mut paths = Vec::new();
    for line in text.lines() {
        if line.contains("not found") {
            bail!("ldd: {}", line.trim());
        }
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        paths.extend(path);
    }
    Ok(paths)
}

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

/// Fails unless there is a program of that name, of the kernel's selftests or of the build root.
pub(crate) fn exists(name: &str) -> Result<()> {
    let is_installed = INSTALLED.iter().any(|(known, _)| *known == name);
    if !is_installed && !PROGRAMS.contains(&name) {
        let installed: Vec<_> = INSTALLED.iter().map(|(known, _)| *known).collect();
        bail!(
            "no program of the kernel's selftests is called {name:?}; there are: {}; and of the build \
             root: {}",
            PROGRAMS.join(", "),
            installed.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::libraries;

    #[test]
    fn paths() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(
            libraries(text).unwrap(),
            ["/lib/x/libc.so.6", "/lib64/ld.so.2"]
        );
        assert!(libraries("\tlibx.so => not found\n").is_err());
    }
}
