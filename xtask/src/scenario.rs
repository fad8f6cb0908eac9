// SPDX-License-Identifier: GPL-2.0

//! What runs in the test machine: `selftests/scenarios/<name>.toml`, or a file of that kind anywhere.

use crate::{kernel::Variant, outcome::Kind, preflight};
use anyhow::{bail, Context, Result};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A chain of kernels, and what each does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// The file's stem.
    #[serde(skip)]
    pub(crate) name: String,
    /// The folder that the file is in.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
    /// One line for people.
    pub(crate) summary: String,
    #[serde(default)]
    pub(crate) mode: Mode,
    /// As QEMU takes it, `2G`.
    #[serde(default = "two_gigabytes")]
    pub(crate) memory: String,
    /// A memory module of this size beside it, which no firmware table of memory lists: each kernel
    /// of the chain finds it by ACPI, as if it were plugged in then.
    #[serde(default)]
    pub(crate) dimm: Option<String>,
    /// Added to the command line of each kernel.
    #[serde(default)]
    pub(crate) cmdline: String,
    /// Seconds for the whole chain; the longest takes one minute on an idle machine.
    #[serde(default = "ten_minutes")]
    pub(crate) timeout: u64,
    /// Seconds without a line from the machine after which it counts as hung.
    #[serde(default = "two_minutes")]
    pub(crate) silence: u64,
    /// The kernels to run it on.
    #[serde(default = "plain")]
    pub(crate) kernels: Vec<Variant>,
    /// KUnit suites that the first kernel must run to the end; without any, KUnit is off.
    #[serde(default)]
    pub(crate) kunit: Vec<String>,
    /// Kernel messages that would count as trouble, but belong to the test: parts of lines.
    #[serde(default)]
    pub(crate) allow: Vec<String>,
    /// Folders outside of this tree, seen from the file, each with the Kbuild of a consumer: their modules can be loaded, too, and
    /// come before ours of the same name.
    #[serde(default)]
    pub(crate) consumers: Vec<PathBuf>,
    /// What the kernels of the chain must have said, at whatever time: parts of lines. For what
    /// comes when the steps are over.
    #[serde(default)]
    pub(crate) says: Vec<String>,
    /// Tests that may be skipped: parts of their names.
    #[serde(default)]
    pub(crate) skips: Vec<String>,
    /// A program of the kernel's own selftests that is init instead of the agent, and finds the kernel as /kernel.
    #[serde(default)]
    pub(crate) init: Option<String>,
    /// What a kernel says when such a program has succeeded. What comes after it, a panic for want of a file system, is
    /// as it should be.
    #[serde(default)]
    pub(crate) until: Option<String>,
    /// What a kernel says when the step `crash` lets it panic: a part of that line, which must come
    /// once. The trace behind it, up to the first line of the next kernel, is as it should be; any
    /// other panic is trouble.
    #[serde(default)]
    pub(crate) crash: Option<String>,
    /// For scenarios that prove that the runner notices: the failure that it must report. Left out of `test`.
    #[serde(default)]
    pub(crate) broken: Option<Kind>,
    /// What the agent does wrong in such a scenario.
    #[serde(default)]
    pub(crate) sabotage: Option<String>,
    /// What a scenario that measures has to give: `ROW PEER` each, of whatever size.
    #[serde(default)]
    pub(crate) rows: Vec<String>,
    /// How such a scenario becomes a small one, which `test` runs: words of its steps, and of
    /// `memory`, with what stands in their place.
    #[serde(default)]
    pub(crate) smallest: Option<BTreeMap<String, String>>,
    /// The kernels of the chain, in order.
    #[serde(rename = "generation")]
    pub(crate) generations: Vec<Generation>,
}

/// One kernel of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Generation {
    /// Modules in its initramfs, by name; `insmod` loads them.
    #[serde(default)]
    pub(crate) modules: Vec<String>,
    /// Prepared data in its initramfs, under /data: `packages`, `digests.bin`.
    #[serde(default)]
    pub(crate) data: Vec<String>,
    /// Programs in its initramfs, under /programs; `run` runs them. A name is one of the kernel's
    /// own selftests, or `kexec` of kexec-tools, a path with a slash,
    /// seen from the file, anybody's: it must need no libraries.
    #[serde(default)]
    pub(crate) programs: Vec<String>,
    /// Files of the checkout in its initramfs: path inside = path in the checkout.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// Added to its command line.
    #[serde(default)]
    pub(crate) cmdline: String,
    /// Another kernel than the rest of the chain.
    #[serde(default)]
    pub(crate) kernel: Option<Variant>,
    /// What the agent does; the words are in selftests/agent/src/verbs.rs.
    pub(crate) steps: Vec<String>,
}

/// How QEMU runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Two CPUs, as fast as it goes.
    #[default]
    Normal,
    /// One CPU; a nanosecond is an instruction, and two runs are equal.
    Exact,
}

fn two_gigabytes() -> String {
    "2G".to_owned()
}

fn ten_minutes() -> u64 {
    600
}

fn two_minutes() -> u64 {
    120
}

fn plain() -> Vec<Variant> {
    vec![Variant::Plain]
}

impl Scenario {
    /// Reads one scenario: by its name, if it is the checkout's, or by its path, which ends in `.toml`.
    pub(crate) fn read(checkout: &Path, name: &str) -> Result<Self> {
        let (path, name) = match name.strip_suffix(".toml") {
            None => (folder(checkout).join(format!("{name}.toml")), name),
            Some(stem) => {
                let name = stem.rsplit('/').next().unwrap_or(stem);
                (PathBuf::from(format!("{stem}.toml")), name)
            }
        };
        if !path.is_file() {
            let names: Vec<_> = Self::all(checkout)?.into_iter().map(|s| s.name).collect();
            bail!(
                "there is no scenario {name:?} ({}); the path of a file that ends in .toml is one, and there are: {}",
                path.display(),
                names.join(", ")
            );
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut scenario = Self::parse(name, &text).with_context(|| path.display().to_string())?;
        scenario.folder = path.parent().map(Path::to_owned).unwrap_or_default();
        preflight::check(checkout, &scenario).with_context(|| path.display().to_string())?;
        Ok(scenario)
    }

    /// Reads a scenario's text.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let mut scenario: Self = toml::from_str(text)?;
        scenario.name = name.to_owned();
        if scenario.generations.is_empty() {
            bail!("a scenario needs at least one [[generation]]");
        }
        if scenario.init.is_some() != scenario.until.is_some() {
            bail!("init and until belong together: the program does not report, a kernel does");
        }
        if scenario.init.is_some() {
            if scenario.generations.len() != 1 || !scenario.generations[0].steps.is_empty() {
                bail!("with an init of its own a scenario has one [[generation]], and steps = []");
            }
            return Ok(scenario);
        }
        let last = scenario.generations.len() - 1;
        let crashes = |generation: &Generation| generation.steps.iter().any(|step| step == "crash");
        let nr_crashes = scenario.generations.iter().filter(|g| crashes(g)).count();
        if nr_crashes != usize::from(scenario.crash.is_some()) {
            bail!("crash = \"...\" and one generation that ends in the step \"crash\" belong together");
        }
        for (index, generation) in scenario.generations.iter().enumerate() {
            let end = match index == last {
                true => "poweroff",
                false if crashes(generation) => "crash",
                false => "kexec",
            };
            let ends_well = generation.steps.last().is_some_and(|step| step == end);
            if !ends_well && scenario.broken.is_none() {
                bail!(
                    "the steps of generation {} must end in {end:?}: the chain has {} generations",
                    index + 1,
                    last + 1
                );
            }
        }
        Ok(scenario)
    }

    /// Reads all scenarios of a checkout, by name.
    pub(crate) fn all(checkout: &Path) -> Result<Vec<Self>> {
        let folder = folder(checkout);
        let mut names: Vec<_> = fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned()))
            .collect();
        names.sort_unstable();
        names
            .iter()
            .map(|name| Self::read(checkout, name))
            .collect()
    }

    /// The kernel that a generation runs on.
    pub(crate) fn kernel(&self, index: usize, variant: Variant) -> Variant {
        self.generations[index].kernel.unwrap_or(variant)
    }

    /// The scenario at its smallest size.
    ///
    /// # Errors
    ///
    /// If it has none, or if a word that it replaces is not there.
    pub(crate) fn reduced(&self) -> Result<Self> {
        let smallest = self.smallest.as_ref();
        let smallest = smallest.with_context(|| format!("{} has no `smallest`", self.name))?;
        let mut reduced = self.clone();
        reduced.name.push_str("-smallest");
        for (from, to) in smallest {
            let mut found = replace(&mut reduced.memory, &self.memory, from, to);
            for (new, old) in reduced.generations.iter_mut().zip(&self.generations) {
                for (new, old) in new.steps.iter_mut().zip(&old.steps) {
                    found |= replace(new, old, from, to);
                }
            }
            if !found {
                bail!(
                    "{}: `smallest` replaces {from:?}, which no step has",
                    self.name
                );
            }
        }
        Ok(reduced)
    }

    /// Whether another one does the same on the same machine.
    pub(crate) fn does_as(&self, other: &Self) -> bool {
        let machine = |one: &Self| (one.mode, one.memory.clone(), one.cmdline.clone());
        machine(self) == machine(other)
            && self.kernels == other.kernels
            && self.generations == other.generations
    }

    /// Whether it measures; such scenarios belong to `bench`, not to `test`.
    pub(crate) fn is_bench(&self) -> bool {
        self.name.starts_with("bench-")
    }
}

/// Replaces each word `from` of `old` in `new`, which is as long in words. Quotes are not part of
/// words.
fn replace(new: &mut String, old: &str, from: &str, to: &str) -> bool {
    let is_gap = |character: char| character.is_whitespace() || "'\"".contains(character);
    let found = old.split(is_gap).any(|word| word == from);
    if found {
        let old: Vec<_> = old.split_inclusive(is_gap).collect();
        let text = new.split_inclusive(is_gap).zip(old);
        *new = text
            .map(|(new, old)| {
                let word = old.trim_end_matches(is_gap);
                match word == from {
                    true => format!("{to}{}", &old[word.len()..]),
                    false => new.to_owned(),
                }
            })
            .collect();
    }
    found
}

fn folder(checkout: &Path) -> PathBuf {
    checkout.join("selftests/scenarios")
}

#[cfg(test)]
mod tests {
    use super::{Mode, Scenario};
    use crate::sync;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn defaults() {
        let text =
            "summary='x'\n[[generation]]\nsteps=['kexec']\n[[generation]]\nsteps=['poweroff']";
        let scenario = Scenario::parse("x", text).unwrap();
        assert_eq!(scenario.mode, Mode::Normal);
        assert_eq!(scenario.generations.len(), 2);
        assert!(scenario.kunit.is_empty());
    }

    #[test]
    fn an_init_of_others_is_judged_by_what_a_kernel_says() {
        let rest = "[[generation]]\nsteps=[]";
        for head in ["init='kho'", "until='x'"] {
            let text = format!("summary='x'\n{head}\n{rest}");
            let error = Scenario::parse("x", &text).unwrap_err().to_string();
            assert!(error.contains("belong together"), "{error}");
        }
        let text = format!("summary='x'\ninit='kho'\nuntil='x'\n{rest}");
        assert!(Scenario::parse("x", &text).is_ok());
    }

    #[test]
    fn a_small_one_has_other_words() {
        let text = "summary='x'\nmemory='8G'\nsmallest={16M='1M', 1M='64K', 8G='2G'}\n\
            [[generation]]\nsteps=['memfd-make ours16M 16M 1', \"cmd x 'area 1M 16M'\", 'poweroff']";
        let scenario = Scenario::parse("bench-x", text).unwrap();
        let small = scenario.reduced().unwrap();
        assert_eq!(small.memory, "2G");
        assert_eq!(
            small.generations[0].steps,
            ["memfd-make ours16M 1M 1", "cmd x 'area 64K 1M'", "poweroff"]
        );
        assert!(!small.does_as(&scenario) && small.does_as(&small.clone()));
        let stale = Scenario::parse("x", &text.replace("16M='1M'", "17M='1M'")).unwrap();
        let error = stale.reduced().unwrap_err().to_string();
        assert!(error.contains("\"17M\", which no step has"), "{error}");
    }

    #[test]
    fn every_scenario_can_be_read() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert!(Scenario::all(&checkout).unwrap().len() > 50);
    }

    #[test]
    fn a_crash_is_announced() {
        let step = |step| format!("[[generation]]\nsteps=['{step}']\n");
        let (crash, off) = (step("crash"), step("poweroff"));
        for text in [
            format!("summary='x'\n{crash}{off}"),
            format!("summary='x'\ncrash='y'\n{off}"),
            format!("summary='x'\ncrash='y'\n{off}{crash}"),
            format!("summary='x'\ncrash='y'\n{crash}{crash}{off}"),
        ] {
            assert!(Scenario::parse("x", &text).is_err(), "{text}");
        }
        let text = format!("summary='x'\ncrash='y'\n{crash}{off}");
        assert!(Scenario::parse("x", &text).is_ok());
    }

    #[test]
    fn a_chain_must_not_break_off() {
        let text =
            "summary='x'\n[[generation]]\nsteps=['poweroff']\n[[generation]]\nsteps=['poweroff']";
        let error = Scenario::parse("x", text).unwrap_err().to_string();
        assert!(
            error.contains("generation 1 must end in \"kexec\""),
            "{error}"
        );
    }

    #[test]
    fn a_path_is_a_scenario_of_its_own() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let path = checkout.join("selftests/scenarios/consumer.toml");
        let scenario = Scenario::read(Path::new("nowhere"), path.to_str().unwrap()).unwrap();
        assert_eq!(scenario.name, "consumer");
        let consumer = scenario.folder.join(&scenario.consumers[0]);
        assert!(consumer.join("Kbuild").is_file());
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(Scenario::parse(
            "x",
            "summary='x'\nmodee='exact'\n[[generation]]\nsteps=['poweroff']"
        )
        .is_err());
    }

    /// A suite that nobody lists would not run in the machine, and nobody would miss it.
    #[test]
    fn the_scenario_kunit_lists_every_suite() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let suites: BTreeSet<_> = sync::sources(&checkout)
            .unwrap()
            .iter()
            .filter(|file| file.extension().is_some_and(|e| e == "rs"))
            .flat_map(|file| {
                let text = fs::read_to_string(checkout.join(file)).unwrap();
                let after = text.split("kunit_tests(").skip(1);
                let names = after.filter_map(|rest| rest.split_once(')'));
                names.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
            })
            .collect();
        let scenario = Scenario::read(&checkout, "kunit").unwrap();
        assert!(!suites.is_empty());
        assert_eq!(BTreeSet::from_iter(scenario.kunit), suites);
    }
}
