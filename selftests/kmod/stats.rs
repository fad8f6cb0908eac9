// SPDX-License-Identifier: GPL-2.0

//! Figures about the image.

use kpreserve::global::framework;
use kpreserve::namespace;
use kpreserve::prelude::*;

use crate::command::Words;
use crate::reply::Reply;

/// `stats`.
pub(crate) fn run(_words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let stats = framework()?.stats();
    reply.put("generation", stats.generation);
    reply.put("keys", stats.nr_keys as u64);
    reply.put("runs_waiting", stats.nr_runs_waiting as u64);
    reply.put("bytes_waiting", stats.nr_pages_waiting as u64 * 4096);
    reply.put("names", stats.nr_names);
    reply.put("reclaims", stats.nr_reclaims);
    reply.put("condemned_pages", stats.nr_pages_condemned);
    reply.put("cpus_drained", stats.nr_cpus_drained);
    Ok(())
}

/// `counts CACHE`.
pub(crate) fn counts(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let counts = namespace::counts(&words.name()?)?;
    reply.put("objects", counts.nr_objects as u64);
    reply.put("slabs", counts.nr_slabs as u64);
    reply.put("runs", counts.nr_runs as u64);
    reply.put("quarantined", counts.nr_quarantined as u64);
    Ok(())
}
