// SPDX-License-Identifier: GPL-2.0

//! No two runs of an image may have a page in common.

use kernel::prelude::*;
use kpreserve_kho::{
    refusal::Relation,
    run::Incoming,
    sort::{
        heap_sort,
        merge_sort,
        scratch_len, //
    },
    PageRun,
    Refusal, //
};

use crate::survey::Survey;

/// Takes out every run that overlaps with one before it, in the order of addresses, and the one
/// before it as well; the root page and the blocks of the table stay. What is taken out is carried
/// on.
///
/// # Errors
///
/// ENOMEM.
pub(crate) fn refuse_overlaps(survey: &mut Survey) -> Result {
    let mut order: KVVec<Extent> = KVVec::with_capacity(survey.runs.len(), GFP_KERNEL)?;
    for (i, (run, _)) in survey.runs.iter().enumerate() {
        order.push(Extent::new(run, i), GFP_KERNEL)?;
    }
    let mut scratch = KVVec::from_elem(Extent::NONE, scratch_len(order.len()), GFP_KERNEL)?;
    merge_sort(&mut order, &mut scratch, |a, b| a.start < b.start);

    let mut out: KVVec<(usize, Refusal)> = KVVec::new();
    // Of the runs so far, the one that reaches furthest.
    let mut furthest: Option<Extent> = None;
    for &extent in order.iter() {
        if let Some(other) = furthest.filter(|other| extent.start < other.end) {
            out.push((extent.position, extent.apart_from(&other)), GFP_KERNEL)?;
            out.push((other.position, other.apart_from(&extent)), GFP_KERNEL)?;
        }
        if furthest.is_none_or(|other| extent.end > other.end) {
            furthest = Some(extent);
        }
    }
    if out.is_empty() {
        return keep_carried_apart(survey);
    }
    heap_sort(&mut out, |a, b| a.0 < b.0);
    let mut kept = KVVec::with_capacity(survey.runs.len(), GFP_KERNEL)?;
    let runs = core::mem::replace(&mut survey.runs, KVVec::new());
    for (i, (run, tag)) in runs.into_iter().enumerate() {
        let refusal = out.binary_search_by_key(&i, |(at, _)| *at).ok();
        match refusal.and_then(|at| out.get(at)) {
            Some(&(_, refusal)) if !tag.is_frame() => {
                survey.refuse(Some(tag.owner), refusal)?;
                survey.carried.push(run, GFP_KERNEL)?;
            }
            _ => kept.push((run, tag), GFP_KERNEL)?,
        }
    }
    survey.runs = kept;
    keep_carried_apart(survey)
}

/// Checks that the root page and the blocks of the table are apart from each other: without them
/// nothing can be reached, so that none can be taken out.
pub(crate) fn frame_is_apart(survey: &Survey) -> Result<(), Refusal> {
    let frame = || survey.runs.iter().take_while(|(_, tag)| tag.is_frame());
    for (i, (run, _)) in frame().enumerate() {
        let extent = Extent::new(run, i);
        for (other, _) in frame().take(i) {
            let other = Extent::new(other, i);
            if extent.start < other.end && other.start < extent.end {
                return Err(extent.apart_from(&other));
            }
        }
    }
    Ok(())
}

/// Of the runs that are only carried on, drops those that overlap with another: what a refused
/// entry names may be somebody's run, and then it is handed on as that; and nothing is handed on
/// twice.
fn keep_carried_apart(survey: &mut Survey) -> Result {
    if survey.carried.is_empty() {
        return Ok(());
    }
    let mut kept: KVVec<Extent> = KVVec::with_capacity(survey.runs.len(), GFP_KERNEL)?;
    for (i, (run, _)) in survey.runs.iter().enumerate() {
        kept.push(Extent::new(run, i), GFP_KERNEL)?;
    }
    heap_sort(&mut kept, |a, b| a.start < b.start);
    heap_sort(&mut survey.carried, |a, b| a.phys() < b.phys());
    let mut last_end = 0;
    survey.carried.retain(|run| {
        let extent = Extent::new(run, 0);
        // What is kept is apart, so the nearest is the only one that can overlap.
        let after = kept.partition_point(|other| other.start < extent.end);
        let before = after.checked_sub(1).and_then(|i| kept.get(i));
        let is_apart =
            extent.start >= last_end && before.is_none_or(|other| other.end <= extent.start);
        if is_apart {
            last_end = extent.end;
        }
        is_apart
    });
    Ok(())
}

/// Where a run begins and ends, and which of `Survey::runs` it is.
#[derive(Clone, Copy)]
struct Extent {
    start: u64,
    end: u64,
    position: usize,
}

impl Extent {
    const NONE: Self = Self {
        start: 0,
        end: 0,
        position: 0,
    };

    fn new(run: &PageRun<Incoming>, position: usize) -> Self {
        let start = run.phys().get();
        Self {
            start,
            end: start.saturating_add(run.size_bytes() as u64),
            position,
        }
    }

    fn apart_from(&self, other: &Extent) -> Refusal {
        Refusal {
            structure: "RunSer",
            field: "phys",
            at: self.start,
            found: self.start,
            expected: other.start,
            relation: Relation::ApartFrom,
        }
    }
}
