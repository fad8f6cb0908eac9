// SPDX-License-Identifier: GPL-2.0

//! The emulator's command line, and what accelerates it.

use crate::{
    chain::{Chain, Parts},
    scenario::{Mode, Scenario},
    ui, vm,
    workshop::Workshop,
};
use anyhow::{bail, Context, Result};
use std::{env, fs, path::Path};

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    /// QEMU's translator: slow, exact when asked to be, works everywhere.
    Tcg,
    /// The host's own virtualization.
    Kvm,
}

/// A boot and a kexec: what KVM must manage before it is trusted.
const TRIAL: &str = "
summary = 'does KVM work here?'
timeout = 25
silence = 15
[[generation]]
steps = ['kexec']
[[generation]]
steps = ['poweroff']
";

impl Accel {
    /// What `KPRESERVE_ACCEL` says; `auto` (the default) takes KVM if a trial boot succeeds. Remembered until the host boots.
    pub(crate) fn choose(shop: &Workshop, parts: &Parts<'_>, mode: Mode) -> Result<Self> {
        let wish = env::var("KPRESERVE_ACCEL").unwrap_or_default();
        match (mode, wish.as_str()) {
            // KVM counts no instructions.
            (Mode::Exact, _) | (_, "tcg") => return Ok(Self::Tcg),
            (_, "kvm") => return Ok(Self::Kvm),
            (_, "auto" | "") => {}
            (_, other) => bail!("KPRESERVE_ACCEL is {other:?}; expected tcg, kvm or auto"),
        }
        if !Path::new("/dev/kvm").exists() {
            return Ok(Self::Tcg);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .context("/proc/sys/kernel/random/boot_id")?;
        let answer = shop.cache().path("kvm");
        let known = fs::read_to_string(&answer).unwrap_or_default();
        if let Some(works) = known.strip_prefix(boot.trim()) {
            return Ok(if works.trim() == "works" {
                Self::Kvm
            } else {
                Self::Tcg
            });
        }
        let trial = Scenario::parse("kvm-trial", TRIAL)?;
        let works = vm::trial(shop, parts, &trial)?.is_good();
        let word = if works { "works" } else { "fails" };
        ui::say(format!("trial boot under KVM: {word}"));
        fs::write(&answer, format!("{} {word}\n", boot.trim()))?;
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcg => "TCG",
            Self::Kvm => "KVM",
        }
    }
}

/// QEMU's arguments. Standard output becomes the kernel's console, standard error the agent's line.
pub(crate) fn arguments(scenario: &Scenario, chain: &Chain, accel: Accel) -> Vec<String> {
    let file = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.into_owned()
    };
    let machine = match (scenario.mode, accel) {
        (Mode::Normal, Accel::Kvm) => "-cpu host -accel kvm -smp 2",
        (Mode::Normal, Accel::Tcg) => "-cpu max -accel tcg,thread=multi -smp 2",
        // Without these CPU features, clear_page and its like are loops that count as what they are.
        (Mode::Exact, _) => {
            "-cpu max,-erms,-fsrm,-fsrs,-fzrm -accel tcg,thread=single -icount shift=0,sleep=off -smp 1 \
             -seed 1 -rtc base=2026-01-01,clock=vm"
        }
    };
    let mut arguments: Vec<String> = "-M q35 -no-reboot -nodefaults -display none -serial stdio"
        .split(' ')
        .chain(machine.split_whitespace())
        .map(str::to_owned)
        .collect();
    arguments.extend(memory(scenario));
    arguments.extend(
        [
            "-serial",
            "file:/dev/stderr",
            "-kernel",
            "/vm-kernel/bzImage",
            "-initrd",
            &format!("/vm/{}", file(&chain.initramfs)),
            "-append",
            &chain.cmdline,
        ]
        .map(str::to_owned),
    );
    arguments
}

/// The machine's memory: what the firmware tells of, and what is plugged in beside it.
fn memory(scenario: &Scenario) -> Vec<String> {
    let size = &scenario.memory;
    let arguments = match &scenario.dimm {
        None => vec!["-m".to_owned(), size.clone()],
        // Half a gigabyte below 4 GiB, the rest above, where the module is, too: the zones are
        // those of a large machine.
        Some(dimm) => vec![
            "-machine".to_owned(),
            "max-ram-below-4g=512M".to_owned(),
            "-m".to_owned(),
            format!("{size},slots=1,maxmem=64G"),
            "-object".to_owned(),
            format!("memory-backend-ram,id=module,size={dimm}"),
            "-device".to_owned(),
            "pc-dimm,id=dimm,memdev=module".to_owned(),
        ],
    };
    arguments
}
