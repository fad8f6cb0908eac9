// SPDX-License-Identifier: GPL-2.0

//! The fast paths of allocating and freeing, as the compiler made them: no locked instruction, and which calls.
//!
//! Instruction counts do not show what a locked instruction costs, so these are looked for in the disassembly: in each function of
//! the benches that allocates and frees in a loop, and in all that it calls, but not where it gets slow.

use crate::{
    bench::{self, Row},
    chain::Parts,
    kernel::{self, Variant},
    run,
    tally::Tally,
    ui,
    workshop::Workshop,
};
use anyhow::{bail, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The loops of `selftests/bench/slabs.rs`, one for each size: `hot_pairs::<S64Ser>`.
const ROOT: &str = "9hot_pairs";

/// Where a fast path ends: parts of the names of what is called when a sheaf is empty or full, a slot was misused, or somebody
/// else should run.
const SLOW: &[&str] = &[
    "alloc_slot_slow",
    "push_slow",
    "preempt_schedule_thunk",
    ".cold",
];

/// More functions than a fast path can have.
const NR_FUNCTIONS_MAX: usize = 16;

/// What was found in one function, or in all of a fast path.
#[derive(Debug, Default, PartialEq, Eq)]
struct Function {
    nr_instructions: usize,
    /// Instructions that lock the bus or wait for all stores.
    locked: Vec<String>,
    /// Which functions it calls or jumps to. One that is only known at run time is `*`.
    calls: BTreeSet<String>,
}

/// `xtask hotpath`.
pub(crate) fn command(shop: &Workshop) -> Result<()> {
    let (rows, tally) = look(shop, &Parts::new(shop)?)?;
    println!("{}", bench::table(&rows));
    tally.close()
}

/// The rows.
pub(crate) const ROWS: [&str; 2] = ["slab.locked", "slab.calls"];

/// Looks through the built-in kernel. A row for each size; a test for each that passes if nothing in it is locked.
pub(crate) fn look(shop: &Workshop, parts: &Parts<'_>) -> Result<(Vec<Row>, Tally)> {
    let kernel = parts.kernel(Variant::Builtin)?;
    let jail = shop.root()?.jail().show(&kernel.out, kernel::OUT);
    let image = format!("{}/vmlinux", kernel::OUT);
    let symbols = run::capture(&mut jail.command("nm", [&image]))?;
    let mut known = BTreeMap::new();
    let mut disassemble = |name: &str| -> Result<String> {
        if !known.contains_key(name) {
            let which = format!("--disassemble={name}");
            let arguments = ["-d", "--no-show-raw-insn", &which, &image];
            let text = run::capture(&mut jail.command("objdump", arguments))?;
            known.insert(name.to_owned(), text);
        }
        Ok(known.get(name).cloned().unwrap_or_default())
    };
    let mut found = BTreeMap::new();
    for name in symbols.lines().filter_map(|line| line.split(' ').nth(2)) {
        if let Some(size_bytes) = size_of(name) {
            found.insert(size_bytes, path(name, &mut disassemble)?);
        }
    }
    if found.is_empty() {
        bail!("the built-in kernel has no function {ROOT}: has it been renamed, or inlined?");
    }
    let mut rows = Vec::new();
    let mut tally = Tally::default();
    for (size_bytes, path) in found {
        for line in &path.locked {
            ui::say(format!(
                "the fast path for {size_bytes} bytes is not to have: {line}"
            ));
        }
        tally += Tally::one(path.locked.is_empty());
        for (name, count, unit) in [
            (ROWS[0], path.locked.len(), "instructions"),
            (ROWS[1], path.calls.len(), "functions"),
        ] {
            rows.push(Row {
                name: name.to_owned(),
                n: size_bytes,
                ours: count as f64,
                peer: None,
                peer_name: None,
                unit: unit.to_owned(),
                ratio: None,
            });
        }
    }
    Ok((rows, tally))
}

/// The size in the name of a loop: 64 of `..9hot_pairsNtB2_6S64SerE..`.
fn size_of(name: &str) -> Option<u64> {
    let (_, of) = name.split_once(ROOT)?;
    let (head, _) = of.split_once("Ser")?;
    let (_, digits) = head.rsplit_once('S')?;
    digits.parse().ok()
}

/// Goes through a function and what it calls, up to where it gets slow. What comes back has the calls on the fast path.
fn path(root: &str, disassemble: &mut impl FnMut(&str) -> Result<String>) -> Result<Function> {
    let mut all = Function::default();
    let mut to_do = vec![root.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(name) = to_do.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        if seen.len() > NR_FUNCTIONS_MAX {
            bail!("the fast path {root} goes through too many functions: {seen:?}");
        }
        let function = read(&name, &disassemble(&name)?);
        if function.nr_instructions == 0 {
            bail!("{root} calls {name}, which objdump does not show");
        }
        all.nr_instructions += function.nr_instructions;
        all.locked.extend(function.locked);
        for call in function.calls {
            if SLOW.iter().any(|slow| call.contains(slow)) {
                continue;
            }
            if call == "*" {
                bail!("{name} calls a function that is only known at run time");
            }
            all.calls.insert(call.clone());
            to_do.push(call);
        }
    }
    Ok(all)
}

/// Reads what objdump says of one function.
fn read(name: &str, disassembly: &str) -> Function {
    let mut function = Function::default();
    for line in disassembly.lines() {
        // "ffffffff81234567:<tab>lock xadd %eax,(%rdi)"
        let Some((_, instruction)) = line.split_once(":\t") else {
            continue;
        };
        function.nr_instructions += 1;
        if is_locked(instruction) {
            function.locked.push(format!("{name}: {instruction}"));
        }
        let mut words = instruction.split_ascii_whitespace();
        let what = words.next().unwrap_or_default();
        if !what.starts_with("call") && !what.starts_with('j') {
            continue;
        }
        match target(instruction) {
            Some(target) if target != name => {
                function.calls.insert(target.to_owned());
            }
            // A jump within.
            Some(_) => {}
            None => {
                function.calls.insert("*".to_owned());
            }
        }
    }
    function
}

/// Where a call or a jump goes: `f` of `call   ffffffff81000000 <f>`, and of `jne    ffffffff81000010 <f+0x10>`.
fn target(instruction: &str) -> Option<&str> {
    let (_, after) = instruction.split_once('<')?;
    let (name, _) = after.split_once('>')?;
    Some(name.split('+').next().unwrap_or(name))
}

/// Whether an instruction locks the bus, or waits until all stores are seen.
fn is_locked(instruction: &str) -> bool {
    let mut words = instruction.split_ascii_whitespace();
    let what = words.next().unwrap_or_default();
    // xchg locks whenever one side is memory.
    let is_xchg = what.starts_with("xchg") && words.any(|word| word.contains(['(', ':']));
    let is_prefixed = instruction
        .split_ascii_whitespace()
        .any(|word| word == "lock");
    is_xchg || is_prefixed || what == "mfence"
}

#[cfg(test)]
mod tests {
    use super::{path, read, size_of, Function};
    use anyhow::{Context, Result};
    use std::collections::BTreeSet;

    const PAIRS: &str = "
ffffffff81000000 <pairs>:
ffffffff81000000:\tpush   %rbp
ffffffff81000001:\tincl   %gs:0xffffffff7e(%rip)        # 40 <__preempt_count>
ffffffff81000008:\txchg   %ax,%ax
ffffffff8100000a:\tjne    ffffffff81000020 <pairs+0x20>
ffffffff81000010:\tcall   ffffffff81000100 <zero>
ffffffff81000015:\tcall   ffffffff81000200 <_RNv_push_slow>
ffffffff8100001a:\tret
";

    fn disassemble(zero: &'static str) -> impl FnMut(&str) -> Result<String> {
        move |name| {
            match name {
                "pairs" => Some(PAIRS.to_owned()),
                "zero" => Some(format!("ffffffff81000100:\t{zero}\n")),
                _ => None,
            }
            .context("not there")
        }
    }

    fn locked(zero: &'static str) -> Result<usize> {
        Ok(path("pairs", &mut disassemble(zero))?.locked.len())
    }

    #[test]
    fn what_is_slow_is_left_out() {
        let path = path("pairs", &mut disassemble("ret")).unwrap();
        let expected = Function {
            nr_instructions: 8,
            locked: Vec::new(),
            calls: BTreeSet::from(["zero".to_owned()]),
        };
        assert_eq!(path, expected);
    }

    #[test]
    fn locked_instructions_are_found() {
        for good in [
            "cmpxchg %rdx,%gs:(%rdi)",
            "xchg   %rax,%rbx",
            "mov    %eax,0x10(%rdi)",
            "rep stos %al,%es:(%rdi)",
        ] {
            assert_eq!(locked(good).unwrap(), 0, "{good}");
        }
        for bad in [
            "lock cmpxchg %rdx,(%rdi)",
            "lock incl (%rax)",
            "xchg   %rax,(%rdi)",
            "xchg   %eax,%gs:0x10",
            "mfence",
        ] {
            assert_eq!(locked(bad).unwrap(), 1, "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_an_error() {
        assert!(locked("call   *0x18(%rax)").is_err());
        assert!(locked("jmp    ffffffff81000300 <elsewhere>").is_err());
    }

    #[test]
    fn names_have_sizes() {
        let name = "_RINvNtCs1_15kpreserve_bench5slabs9hot_pairsNtB2_7S512SerEB4_";
        assert_eq!(size_of(name), Some(512));
        assert_eq!(size_of("_RNvNtCs1_15kpreserve_bench5slabs5pairs"), None);
        assert_eq!(read("f", "f:\n").nr_instructions, 0);
    }
}
