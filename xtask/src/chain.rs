// SPDX-License-Identifier: GPL-2.0

//! What a scenario boots: one initramfs a generation, each with the next one inside.

use crate::{
    agent,
    builtin::Builtin,
    cache,
    consumers::Consumers,
    data, host,
    initramfs::Image,
    kernel::{Flavour, Kernel, Variant},
    modules::{Modules, Purpose},
    preflight, programs,
    scenario::{Mode, Scenario},
    workshop::Workshop,
};
use anyhow::{anyhow, bail, Context, Result};
use serde_json::json;
use std::{
    cell::OnceCell,
    fs,
    path::{Path, PathBuf},
};

/// On the command line of each kernel. KUnit is on only where a scenario asks for it.
const CMDLINE: &str = "console=ttyS0 panic=-1 kho=on liveupdate=on";

/// On it, too: what a virtual CPU that the host does not let run for a while would trip over. See
/// Linux 7.3:
///
/// - `no_timer_check`: check_timer() (io_apic.c) gives the timer ten ticks' time, counts how many
///   came, and panics when fewer than five did ("IO-APIC + timer doesn't work!"): one boot in some
///   250 on a busy host. Under KVM the kernel sets it itself.
/// - `tsc=nowatchdog`: the watchdog of the clock sources (clocksource.c) waits for the other CPU
///   with interrupts off, by a clock that stands still while it does so early in boot: one boot in
///   some hundred hangs in it.
/// - `rcu_cpu_stall_timeout`: a long step stalls RCU for longer than the usual 21 s; the expedited
///   one is the same, as its own is 0. A machine that really hangs is found by its silence.
/// - `kunit.timeout`: a KUnit case fails after 300 s by the guest's clock.
///
/// What else looks at clocks there does no harm. To calibrate TSC (tsc.c) and APIC timer (apic.c),
/// to find the TSCs of two CPUs apart (tsc_sync.c), or HPET and ACPI's timer not counting (hpet.c,
/// acpi_pm.c) ends in a line of the log and another clock. Of these "APIC timer disabled due to
/// verification failure" does come on a busy host, and leaves timers no finer than a tick: the
/// scenarios that need interrupts from timers pass with `nolapic_timer`, too. A CPU has 10 s to
/// come up (cpu.c), of which it needs milliseconds. To stop the other CPUs at a kexec has no limit
/// (smp.c, `wait`). The detectors of soft and hard lockups, hung tasks, stuck workqueues and CSD
/// locks are not built in.
const PATIENCE: &str = "no_timer_check tsc=nowatchdog rcupdate.rcu_cpu_stall_timeout=200 \
    kunit.timeout=3000";

/// Everything that is built for scenarios, each part once.
pub(crate) struct Parts<'a> {
    shop: &'a Workshop,
    agent: PathBuf,
    // A build that failed is not tried again for the next scenario.
    modules: OnceCell<Result<Modules, String>>,
    stale: OnceCell<Result<Modules, String>>,
    builtin: [OnceCell<Result<Builtin, String>>; Flavour::COUNT],
}

/// The files that QEMU takes.
pub(crate) struct Chain {
    pub(crate) image: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) cmdline: String,
}

impl<'a> Parts<'a> {
    /// Builds the agent; the rest is built when a scenario needs it.
    ///
    /// # Errors
    ///
    /// Before all else if the host lacks something, root included.
    pub(crate) fn new(shop: &'a Workshop) -> Result<Self> {
        host::prepare()?;
        Ok(Self {
            shop,
            agent: agent::make(shop.checkout())?,
            modules: OnceCell::new(),
            stale: OnceCell::new(),
            builtin: Default::default(),
        })
    }

    /// A kernel; built if it has not been yet.
    pub(crate) fn kernel(&self, variant: Variant) -> Result<&Kernel> {
        match variant {
            Variant::Plain => self.shop.kernel(),
            _ => Ok(self.builtin(variant.flavour())?.kernel()),
        }
    }

    /// A kernel with our tree in it.
    pub(crate) fn builtin(&self, flavour: Flavour) -> Result<&Builtin> {
        once(&self.builtin[flavour as usize], || {
            Builtin::make(self.shop, flavour)
        })
    }

    /// Our modules.
    pub(crate) fn modules(&self) -> Result<&Modules> {
        once(&self.modules, || Modules::make(self.shop, Purpose::Use))
    }

    fn stale(&self) -> Result<&Modules> {
        once(&self.stale, || Modules::make(self.shop, Purpose::Stale))
    }

    /// The file of a module for a kernel; none if that kernel has it built in. `stale/NAME` is one that must not load.
    fn module(
        &self,
        consumers: &Consumers,
        name: &str,
        variant: Variant,
    ) -> Result<Option<PathBuf>> {
        if let Some(name) = name.strip_prefix("stale/") {
            let file = self.stale()?.file(name);
            return Ok(Some(file.with_context(|| {
                format!("there is no module {name}.ko of ours")
            })?));
        }
        if let Some(file) = consumers.file(name, variant) {
            return Ok(Some(file));
        }
        if let Some(own) = self.kernel(variant)?.module(name) {
            return Ok(Some(own));
        }
        if variant == Variant::Plain {
            if let Some(file) = self.modules()?.file(name) {
                return Ok(Some(file));
            }
        } else {
            let builtin = self.builtin(variant.flavour())?;
            if let Some(file) = builtin.module(name) {
                return Ok(Some(file));
            }
            // To load what is not there at all must not pass for loading what is built in.
            if builtin.kernel().has_builtin(name)? {
                return Ok(None);
            }
        }
        bail!(
            "there is no module {name}.ko for the {} kernel: it is neither a consumer's that the scenario names, \
             nor ours, nor built in, nor one of the kernel's own that xtask knows",
            variant.name()
        )
    }

    /// The name and the file of a program.
    fn program<'n>(&self, scenario: &Scenario, name: &'n str) -> Result<(&'n str, PathBuf)> {
        let Some((_, base)) = name.rsplit_once('/') else {
            return Ok((name, programs::make(self.shop, name)?));
        };
        let file = scenario.folder.join(name);
        if !file.is_file() {
            bail!(
                "the scenario wants a program {} that is not there: build it before",
                file.display()
            );
        }
        Ok((base, file))
    }

    /// Writes the initramfs images of a scenario into `folder`.
    pub(crate) fn chain(
        &self,
        scenario: &Scenario,
        variant: Variant,
        folder: &Path,
    ) -> Result<Chain> {
        cache::remove_folder(folder)?;
        fs::create_dir_all(folder)?;
        // Everything is built before the lock is taken: building takes it, too.
        let mut consumers = Consumers::default();
        for (index, generation) in scenario.generations.iter().enumerate() {
            let variant = scenario.kernel(index, variant);
            self.kernel(variant)?;
            consumers.make(self.shop, self, scenario, variant)?;
            if let Some(init) = &scenario.init {
                programs::make(self.shop, init)?;
            }
            for name in &generation.modules {
                self.module(&consumers, name, variant)?;
            }
            for name in &generation.programs {
                if programs::installed(self.shop, name)?.is_none() {
                    self.program(scenario, name)?;
                }
            }
        }
        // Nobody rebuilds a module while it is being packed.
        let _lock = self.shop.checkout().lock()?;
        // The last one first: it goes into the one before it.
        let mut next: Option<Chain> = None;
        for index in (0..scenario.generations.len()).rev() {
            let variant = scenario.kernel(index, variant);
            let initramfs = folder.join(format!("initramfs-{}", index + 1));
            let image = self.image(scenario, &consumers, index, variant, next.as_ref())?;
            image.write(&initramfs)?;
            next = Some(Chain {
                image: self.kernel(variant)?.image(),
                initramfs,
                cmdline: cmdline(scenario, index),
            });
        }
        next.context("a scenario without generations")
    }

    fn image(
        &self,
        scenario: &Scenario,
        consumers: &Consumers,
        index: usize,
        variant: Variant,
        next: Option<&Chain>,
    ) -> Result<Image> {
        let generation = &scenario.generations[index];
        let mut image = Image::default();
        if let Some(init) = &scenario.init {
            image.program("init", &programs::make(self.shop, init)?);
            image.file("kernel", &self.kernel(variant)?.image());
            // Where it mounts file systems.
            image.folder("proc");
            image.folder("debugfs");
            return Ok(image);
        }
        image.program("init", &self.agent);
        let mut builtin = Vec::new();
        for name in &generation.modules {
            match self.module(consumers, name, variant)? {
                Some(file) => image.file(&format!("modules/{name}.ko"), &file),
                None => builtin.push(name),
            }
        }
        preflight::built_in(&generation.steps, &builtin).with_context(|| {
            let (scenario, kernel) = (&scenario.name, variant.name());
            format!(
                "{scenario}, generation {}, on the {kernel} kernel",
                index + 1
            )
        })?;
        for name in &generation.data {
            let file = data::make(self.shop, name)?;
            image.file(&format!("data/{name}"), &file);
        }
        for name in &generation.programs {
            if let Some(installed) = programs::installed(self.shop, name)? {
                image.program(&format!("programs/{name}"), &installed.file);
                for (inside, file) in &installed.libraries {
                    image.program(inside, file);
                }
                continue;
            }
            let (name, file) = self.program(scenario, name)?;
            image.program(&format!("programs/{name}"), &file);
        }
        for (inside, from) in &generation.files {
            image.file(inside, &self.shop.checkout().path(from));
        }
        if let Some(next) = next {
            image.file("next/bzImage", &next.image);
            image.file("next/initramfs", &next.initramfs);
        }
        let plan = json!({
            "scenario": scenario.name,
            "generation": index + 1,
            "generations": scenario.generations.len(),
            "steps": generation.steps,
            "next_cmdline": next.map(|next| &next.cmdline),
            "builtin": builtin,
            "sabotage": scenario.sabotage,
        });
        image.bytes("scenario.json", serde_json::to_vec(&plan)?);
        Ok(image)
    }
}

/// Makes a part when it is first asked for.
fn once<T>(cell: &OnceCell<Result<T, String>>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    cell.get_or_init(|| make().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!(error.clone()))
}

/// The command line of one kernel.
fn cmdline(scenario: &Scenario, index: usize) -> String {
    let kunit = if index == 0 && !scenario.kunit.is_empty() {
        // Only ours: the kernel crate has suites of its own.
        format!(
            "kunit.enable=1 kunit.autorun=1 kunit.filter_glob={}*",
            common_start(&scenario.kunit)
        )
    } else {
        "kunit.enable=0".to_owned()
    };
    let words = [
        CMDLINE.to_owned(),
        PATIENCE.to_owned(),
        kunit,
        format!("kpreserve.scenario={}", scenario.name),
        format!("kpreserve.gen={}", index + 1),
        match scenario.mode {
            Mode::Normal => String::new(),
            // Calibrating that timer takes most of the boot there, and fails in the end anyway.
            Mode::Exact => "nolapic_timer".to_owned(),
        },
        scenario.cmdline.clone(),
        scenario.generations[index].cmdline.clone(),
    ];
    let words: Vec<_> = words
        .iter()
        .map(|w| w.trim())
        .filter(|w| !w.is_empty())
        .collect();
    words.join(" ")
}

/// What all names start with.
fn common_start(names: &[String]) -> &str {
    let Some(first) = names.first() else {
        return "";
    };
    let same = |length: &usize| {
        first.is_char_boundary(*length) && names.iter().all(|n| n.starts_with(&first[..*length]))
    };
    let length = (0..=first.len()).rev().find(same).unwrap_or(0);
    &first[..length]
}

#[cfg(test)]
mod tests {
    use super::{cmdline, common_start};
    use crate::scenario::Scenario;

    #[test]
    fn starts() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            common_start(&names(&["kpreserve_kho", "kpreserve_slab"])),
            "kpreserve_"
        );
        assert_eq!(common_start(&names(&["a"])), "a");
        assert_eq!(common_start(&names(&["a", "b"])), "");
    }

    #[test]
    fn every_kernel_is_patient() {
        let text = "summary='x'\nmode='exact'\n[[generation]]\nsteps=['kexec']\n[[generation]]\nsteps=['poweroff']";
        let scenario = Scenario::parse("x", text).unwrap();
        for index in 0..2 {
            let cmdline = cmdline(&scenario, index);
            let words: Vec<_> = cmdline.split(' ').collect();
            for word in ["no_timer_check", "tsc=nowatchdog"] {
                assert!(words.contains(&word), "{cmdline}");
            }
        }
    }
}
