// SPDX-License-Identifier: GPL-2.0

//! The words that a step can start with.

use crate::{
    bench, charge, crash, dev, device, figures, file, klog, kv, luo, memfd, memory, module, power,
    probe, program, xattr, Machine,
};
use anyhow::{bail, Result};

/// Runs a step; an error is the reason on its `not ok` line.
pub(crate) type Verb = fn(&mut Machine, &[String]) -> Result<()>;

/// The table; what arguments look like is in grammar.rs. A step `fails=ERRNO` passes only if it
/// fails just so, where noted.
const VERBS: &[(&str, Verb)] = &[
    // insmod NAME [parameter=value ...] [fails=ERRNO]
    ("insmod", module::insmod),
    // rmmod NAME [fails=ERRNO]
    ("rmmod", module::rmmod),
    // cmd [DEVICE] "TEXT" [fails=ERRNO]: writes TEXT to /dev/DEVICE, then reads the reply
    ("cmd", device::cmd),
    // expect KEY OP VALUE: on the last reply's key=value pairs
    ("expect", device::expect),
    // dmesg-contains "TEXT", dmesg-lacks "TEXT": in the kernel's log since boot
    ("dmesg-contains", klog::contains),
    ("dmesg-lacks", klog::lacks),
    // dmesg-count N "TEXT": exactly so many messages
    ("dmesg-count", klog::count),
    // read-file PATH: shows it, and takes key=value pairs as a reply
    ("read-file", file::read),
    // write-file PATH TEXT [fails=ERRNO]
    ("write-file", file::write),
    // sleep MILLISECONDS
    ("sleep", power::sleep),
    // kexec-load: hands the next kernel over now; kexec [fails=ERRNO]: jumps (and loads before, if need be)
    ("kexec-load", power::kexec_load),
    ("kexec", power::kexec),
    // kexec-tools: loads it by /programs/kexec -c -l, which is kexec_load(2)
    ("kexec-tools", power::kexec_tools),
    // crash-load: hands the next kernel over for a crash; crash: panics; vmcore: there is a dump
    // (segments=..., bytes=...)
    ("crash-load", crash::load),
    ("crash", crash::crash),
    ("vmcore", crash::vmcore),
    // poweroff: the end of the scenario
    ("poweroff", power::poweroff),
    // vanish: powers off without a word; a step of scenarios that must fail
    ("vanish", power::vanish),
    // The key-value sample: kv-load FILE, kv-verify DIGESTS [extra=N], kv-churn KTH COUNT, kv-errors
    ("kv-load", kv::load),
    ("kv-verify", kv::verify),
    ("kv-churn", kv::churn),
    ("kv-errors", kv::errors),
    // Its cursors: kv-cursor FILE PREFIX, kv-next FILE COUNT, kv-same FILE OTHER PREFIX
    ("kv-cursor", kv::cursor::open),
    ("kv-next", kv::cursor::next),
    ("kv-same", kv::cursor::same),
    // The device sample: dev-attach FILE DEVICE, dev-write FILE SEED, dev-check FILE SEED
    ("dev-attach", dev::attach),
    ("dev-write", dev::write),
    ("dev-check", dev::check),
    // dev-busy FILE 0|1: cannot be stopped
    ("dev-busy", dev::busy),
    // probe FILE VALUE: a file of the selftest module's (luo.file); probe-check FILE VALUE
    ("probe", probe::make),
    ("probe-check", probe::check),
    // memfd-make FILE SIZE SEED [...], memfd-check with the same words, close FILE
    ("memfd-make", memfd::make),
    ("memfd-check", memfd::check),
    ("memfd-appends", memfd::appends),
    ("memfd-descriptor", memfd::descriptor),
    ("memfd-fill", memfd::refill),
    ("memfd-write-on", memfd::write_on),
    ("memfd-written", memfd::written),
    ("reopen", memfd::reopen),
    ("close", memfd::close),
    // What the kernel counts: replies huge, in KiB; moved, in pages; total and grown, in KiB
    ("huge-pages", memory::huge_pages),
    ("pages-moved", memory::moved),
    ("memory-total", memory::total),
    // memory-online online_kernel|online_movable: what was added and is offline (blocks=...)
    ("memory-online", memory::online),
    ("pins-balanced", memory::pins_balanced),
    // xattr-set FILE NAME VALUE [fails=ERRNO], xattr-get with the same words
    ("xattr-set", xattr::set),
    ("xattr-get", xattr::get),
    // swap-on, page-out FILE; cgroup NAME, charged NAME
    ("swap-on", charge::swap_on),
    ("page-out", charge::page_out),
    ("cgroup", charge::enter_group),
    ("charged", charge::charged),
    // luo-preserve SESSION TOKEN FILE, luo-retrieve SESSION TOKEN FILE, luo-finish SESSION [fails=ERRNO each]
    ("luo-preserve", luo::preserve),
    ("luo-retrieve", luo::retrieve),
    ("luo-finish", luo::finish),
    // The same two, by another process that got the descriptors over a socket, and passes back what
    // it retrieves
    ("luo-preserve-elsewhere", luo::preserve_elsewhere),
    ("luo-retrieve-elsewhere", luo::retrieve_elsewhere),
    // In processes of their own: luo-retrieve-in GROUP ..., luo-preserve-killed SESSION TOKEN FILE
    // MILLISECONDS
    ("luo-retrieve-in", luo::retrieve_in),
    ("luo-preserve-killed", luo::preserve_killed),
    // The same, each allocation failing once: luo-preserve-faults SESSION TOKEN FILE, luo-retrieve-faults ... COUNT
    ("luo-preserve-faults", luo::preserve_faults),
    ("luo-retrieve-faults", luo::retrieve_faults),
    // luo-preserve-apart SESSION FILE COUNT: a session a file; luo-finish-faults SESSION COUNT finishes them, each lacking an allocation
    ("luo-preserve-apart", luo::preserve_apart),
    ("luo-finish-faults", luo::finish_faults),
    // Preserves, and closes the session, once for each allocation of that: luo-close-faults SESSION TOKEN FILE
    ("luo-close-faults", luo::close_faults),
    // luo-close SESSION: gives up what is preserved in it
    ("luo-close", luo::close),
    // run PROGRAM [ARGUMENT ...] [exit=N]: one of the kernel's own selftests
    ("run", program::run),
    // keep NAME: the last reply's ns, for bench-row ROW N OURS PEER PEER_NAME, which reports two that were kept
    ("keep", bench::keep),
    ("bench-row", bench::row),
    // figures ROW KEY[=NAME] ...: figures of the last reply go into the demo's table
    ("figures", figures::figures),
    // adopt ROW: insmod kpreserve, timed
    ("adopt", figures::adopt),
];

/// Finds a verb.
pub(crate) fn find(name: &str) -> Result<Verb> {
    match VERBS.iter().find(|(verb, _)| *verb == name) {
        Some((_, verb)) => Ok(*verb),
        None => bail!("{name:?} is a word of grammar.rs, but not of verbs.rs"),
    }
}

#[cfg(test)]
mod tests {
    use super::VERBS;
    use crate::grammar::SHAPES;
    use std::collections::BTreeSet;

    #[test]
    fn each_word_has_a_shape() {
        let verbs: BTreeSet<_> = VERBS.iter().map(|(verb, _)| *verb).collect();
        let shapes: BTreeSet<_> = SHAPES.iter().map(|(verb, _)| *verb).collect();
        let without: Vec<_> = verbs.difference(&shapes).collect();
        assert!(without.is_empty(), "add to grammar.rs: {without:?}");
        let unknown: Vec<_> = shapes.difference(&verbs).collect();
        assert!(
            unknown.is_empty(),
            "grammar.rs has words that verbs.rs has not: {unknown:?}"
        );
    }
}
