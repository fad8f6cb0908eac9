// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with a scenario and is found before anything is built or booted: words, names,
//! files.
//!
//! Steps are split and checked by the agent's own code. The commands of test modules, and the names
//! of errnos, are read from the sources that have them.

use crate::{data, grammar, programs, scenario::Scenario, words};
use anyhow::{bail, ensure, Context, Result};
use std::path::Path;

/// The devices whose commands are known, with the sources that list these.
const DEVICES: &[(&str, &str)] = &[
    (
        "kpreserve-selftest",
        include_str!("../../selftests/kmod/command.rs"),
    ),
    (
        "kpreserve-bench",
        include_str!("../../selftests/bench/kpreserve_bench.rs"),
    ),
];

const ERRNOS: &str = include_str!("../../selftests/agent/src/errno.rs");

/// Checks a scenario. `checkout` is where the files of `files` lie.
///
/// # Errors
///
/// Lists all that is wrong, each with the number of its generation.
pub(crate) fn check(checkout: &Path, scenario: &Scenario) -> Result<()> {
    let mut wrong = Vec::new();
    for folder in &scenario.consumers {
        let folder = scenario.folder.join(folder);
        if !folder.join("Kbuild").is_file() {
            wrong.push(format!(
                "{} has no Kbuild: a consumer's says `include $(KPRESERVE)/kpreserve.mk` and `obj-m := NAME.o`",
                folder.display()
            ));
        }
    }
    for (index, generation) in scenario.generations.iter().enumerate() {
        let mut check = |what: &str, result: Result<()>| {
            if let Err(error) = result {
                wrong.push(format!("generation {}: {what}: {error:#}", index + 1));
            }
        };
        for name in &generation.data {
            check("data", data::exists(name));
        }
        for name in &generation.programs {
            let result = match name.contains('/') {
                true => is_file(&scenario.folder.join(name), "build it before"),
                false => programs::exists(name),
            };
            check("programs", result);
        }
        for from in generation.files.values() {
            check(
                "files",
                is_file(&checkout.join(from), "a path in the checkout"),
            );
        }
        for text in &generation.steps {
            check(&format!("{text:?}"), step(scenario, index, text));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n    "));
}

fn is_file(path: &Path, hint: &str) -> Result<()> {
    ensure!(path.is_file(), "{} is not there ({hint})", path.display());
    Ok(())
}

/// Checks one step.
fn step(scenario: &Scenario, index: usize, text: &str) -> Result<()> {
    let words = words::split(text)?;
    grammar::check(&words)?;
    let generation = &scenario.generations[index];
    let (fails, rest) = words::option(&words, "fails");
    if let Some(errno) = fails {
        known(
            errno,
            &first_words(ERRNOS, "NAMES"),
            "errno.rs of the agent",
        )?;
    }
    match rest[..] {
        ["insmod", name, ..] => listed(name, &generation.modules, "modules"),
        ["adopt", _] => listed("kpreserve", &generation.modules, "modules"),
        ["kv-load" | "kv-verify", path, ..] => {
            let name = path.strip_prefix("/data/").unwrap_or(path);
            listed(name, &generation.data, "data")
        }
        ["run", name, ..] => {
            let base = |path: &String| path.rsplit('/').next().map(str::to_owned);
            let programs: Vec<_> = generation.programs.iter().filter_map(base).collect();
            listed(name, &programs, "programs")
        }
        ["cmd", text] => command(DEVICES[0].0, text),
        ["cmd", device, text] => command(device, text),
        _ => Ok(()),
    }
}

/// Whether a name is in a list of its generation.
fn listed(name: &str, list: &[String], key: &str) -> Result<()> {
    ensure!(
        list.iter().any(|one| one == name),
        "{name} is not in the `{key}` of this generation, so it is not in its initramfs"
    );
    Ok(())
}

/// Whether a device knows a command. Of somebody else's device nothing is known.
fn command(device: &str, text: &str) -> Result<()> {
    let Some((_, source)) = DEVICES.iter().find(|(known, _)| *known == device) else {
        return Ok(());
    };
    let word = text.split_ascii_whitespace().next();
    let word = word.with_context(|| format!("/dev/{device}: an empty command"))?;
    known(
        word,
        &first_words(source, "COMMANDS"),
        &format!("/dev/{device}"),
    )
}

fn known(word: &str, all: &[&str], whose: &str) -> Result<()> {
    if all.contains(&word) {
        return Ok(());
    }
    match grammar::nearest(word, all) {
        Some(near) => bail!("{whose} knows no {word:?}; is {near:?} meant?"),
        None => bail!("{whose} knows no {word:?}; known: {}", all.join(", ")),
    }
}

/// The first strings of the lines of a table `const NAME: &[..] = &[ ("first", ...), ... ];` in a
/// source.
fn first_words<'a>(source: &'a str, table: &str) -> Vec<&'a str> {
    source
        .lines()
        .skip_while(|line| !line.starts_with(&format!("const {table}: ")))
        .take_while(|line| *line != "];")
        .filter_map(|line| line.trim_start().strip_prefix("(\"")?.split('"').next())
        .collect()
}

/// Checks the steps against what the kernel of their generation has built in: there they would do
/// nothing, and pass.
///
/// # Errors
///
/// If a built-in module is to be removed, or is given parameters, or has to fail.
pub(crate) fn built_in(steps: &[String], builtin: &[&String]) -> Result<()> {
    for text in steps {
        let words = words::split(text)?;
        let (verb, rest) = words.split_first().context("an empty step")?;
        let Some(name) = rest.iter().find(|word| !word.contains('=')) else {
            continue;
        };
        let does_nothing = match verb.as_str() {
            "insmod" => rest.len() > 1,
            "rmmod" => true,
            _ => false,
        };
        ensure!(
            !does_nothing || !builtin.contains(&name),
            "{text:?}: {name} is built into this kernel. There it takes no parameters from insmod, does not fail, and cannot be \
             removed: give parameters on the command line (`cmdline = \"{name}.PARAMETER=VALUE\"`), or take the kernel out of `kernels`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{built_in, check, first_words, DEVICES, ERRNOS};
    use crate::scenario::Scenario;
    use std::path::Path;

    fn wrong(generation: &str) -> String {
        let text = format!("summary='x'\n[[generation]]\n{generation}");
        let mut scenario = Scenario::parse("x", &text).unwrap();
        scenario.folder = "/nowhere".into();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        check(&checkout, &scenario).map_or_else(|error| format!("{error:#}"), |()| String::new())
    }

    #[test]
    fn tables_are_read() {
        for (device, source) in DEVICES {
            let commands = first_words(source, "COMMANDS");
            assert!(commands.len() > 20, "{device}: {commands:?}");
        }
        assert!(first_words(DEVICES[0].1, "COMMANDS").contains(&"luo.register"));
        assert!(first_words(ERRNOS, "NAMES").contains(&"EPROBE_DEFER"));
    }

    #[test]
    fn what_is_misspelt_is_named() {
        for (lines, part) in [
            (
                "steps=['slep 1', 'poweroff']",
                "generation 1: \"slep 1\": no step starts with \"slep\"; is \"sleep\" meant?",
            ),
            (
                "steps=['read-file \"/x', 'poweroff']",
                "a quote is not closed",
            ),
            (
                "steps=['insmod kpreserve', 'poweroff']",
                "kpreserve is not in the `modules`",
            ),
            (
                "modules=['kpreserv']\nsteps=['insmod kpreserve', 'poweroff']",
                "kpreserve is not in the `modules`",
            ),
            (
                "modules=['a']\nsteps=['insmod a fails=EBUSSY', 'poweroff']",
                "is \"EBUSY\" meant?",
            ),
            (
                "steps=['cmd \"object.fill 1 2\"', 'poweroff']",
                "is \"objects.fill\" meant?",
            ),
            (
                "steps=['cmd kpreserve-bench slab.par', 'poweroff']",
                "is \"slab.pair\" meant?",
            ),
            (
                "steps=['cmd kpreserve-bench \" \"', 'poweroff']",
                "an empty command",
            ),
            (
                "steps=['run liveupdate', 'poweroff']",
                "liveupdate is not in the `programs`",
            ),
            ("programs=['liveupdat']\nsteps=['poweroff']", "liveupdat"),
            (
                "programs=['./mine']\nsteps=['run mine', 'poweroff']",
                "/nowhere/./mine is not there",
            ),
            (
                "files={x='no/such.file'}\nsteps=['poweroff']",
                "no/such.file is not there",
            ),
            ("data=['package']\nsteps=['poweroff']", "package"),
            (
                "steps=['kv-load packages', 'poweroff']",
                "packages is not in the `data`",
            ),
        ] {
            let found = wrong(lines);
            assert!(found.contains(part), "{lines}: {found}");
        }
        assert_eq!(wrong("steps=['cmd my-device whatever', 'poweroff']"), "");
        let both = wrong("steps=['slep 1', 'sleep', 'poweroff']");
        assert_eq!(both.lines().count(), 2, "{both}");
    }

    #[test]
    fn a_built_in_module_does_not_fail() {
        let (here, steps) = ("x".to_owned(), |step: &str| vec![step.to_owned()]);
        for step in [
            "insmod x fails=EBUSY",
            "insmod x a=1",
            "rmmod x",
            "rmmod x fails=EBUSY",
        ] {
            let error = built_in(&steps(step), &[&here]).unwrap_err().to_string();
            assert!(error.contains("x is built into this kernel"), "{error}");
        }
        for step in [
            "insmod x",
            "insmod y fails=EBUSY",
            "rmmod y",
            "sleep 1",
            "kexec",
        ] {
            built_in(&steps(step), &[&here]).unwrap();
        }
    }
}
