// SPDX-License-Identifier: GPL-2.0

//! Areas with a pattern.

use kernel::str::CString;
use kpreserve::prelude::*;

use crate::command::{
    check,
    Words, //
};
use crate::pattern::mix;
use crate::reply::Reply;
use crate::views;

/// Words of a page.
const PAGE_WORDS: usize = 512;

fn open(name: &CString) -> Result<PVec<u64>> {
    PVec::<u64>::open(name, GFP_KERNEL)
}

/// Each page has a word of its own, from which its words differ by steps: cheap enough for 256 MiB,
/// and no two pages are alike.
fn page_word(page: usize, seed: u64) -> u64 {
    mix(page as u64, seed)
}

/// `area.fill NAME BYTES SEED`: makes the area as large as that, and fills it, run by run.
pub(crate) fn fill(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let name = words.name()?;
    let len = words.number()? / 8;
    let seed = words.number()? as u64;
    let mut area = open(&name)?;
    area.truncate(0)?;
    reply.timed("make_ns", || area.extend_zeroed(len))?;
    let mut index = 0;
    reply.timed("fill_ns", || {
        for chunk in area.chunks_mut() {
            // Chunks are runs: whole pages, but for the end of the last.
            for page in chunk.chunks_mut(PAGE_WORDS) {
                let mut word = page_word(index, seed);
                for place in page {
                    *place = word;
                    word = word.wrapping_add(0x9e37_79b9);
                }
                index += 1;
            }
        }
        Ok(())
    })?;
    report(&area, reply);
    Ok(())
}

/// `area.verify NAME BYTES SEED`: every word, run by run; then two words a page, mapped, and what
/// lies behind the mapping.
pub(crate) fn verify(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let name = words.name()?;
    let len = words.number()? / 8;
    let seed = words.number()? as u64;
    let area = reply.timed("open_ns", || open(&name))?;
    if area.len() != len {
        pr_err!("the area has {} words, expected {}\n", area.len(), len);
        return Err(EBADMSG);
    }
    let mut index = 0;
    reply.timed("verify_ns", || {
        for chunk in area.chunks() {
            for page in chunk.chunks(PAGE_WORDS) {
                let mut word = page_word(index, seed);
                let mut wrong = 0;
                for place in page {
                    wrong |= *place ^ word;
                    word = word.wrapping_add(0x9e37_79b9);
                }
                if wrong != 0 {
                    pr_err!("page {} is not what was written\n", index);
                    return Err(EBADMSG);
                }
                index += 1;
            }
        }
        Ok(())
    })?;
    let view = reply.timed("map_ns", || area.map())?;
    for (index, page) in view.chunks(PAGE_WORDS).enumerate() {
        let first = page_word(index, seed);
        let last = first.wrapping_add(0x9e37_79b9u64.wrapping_mul(page.len() as u64 - 1));
        if page.first() != Some(&first) || page.last() != Some(&last) {
            pr_err!("page {} is not where it should be in the mapping\n", index);
            return Err(EBADMSG);
        }
    }
    if area.nr_runs() > 1 {
        let first_bytes = area.chunks().next().map_or(0, size_of_val);
        views::check_mapping(&view, first_bytes)?;
    }
    drop(view);
    reply.put("verified_bytes", area.len() as u64 * 8);
    report(&area, reply);
    Ok(())
}

/// `area.resize NAME BYTES`.
pub(crate) fn resize(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let name = words.name()?;
    let len = words.number()? / 8;
    let mut area = open(&name)?;
    reply.timed("resize_ns", || {
        if len > area.len() {
            return area.extend_zeroed(len - area.len());
        }
        area.truncate(len)?;
        area.shrink_to_fit()
    })?;
    report(&area, reply);
    Ok(())
}

/// `area.extend NAME BYTES SEED`: what `area.resize` has added, from the length that it had before on, gets
/// the pattern of a fill of that size.
pub(crate) fn extend(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let name = words.name()?;
    let old_len = words.number()? / 8;
    let seed = words.number()? as u64;
    let mut area = open(&name)?;
    let mut index = 0;
    let mut nonzero = 0;
    for chunk in area.chunks_mut() {
        for page in chunk.chunks_mut(PAGE_WORDS) {
            if index * PAGE_WORDS >= old_len {
                let mut word = page_word(index, seed);
                for place in page {
                    nonzero |= *place;
                    *place = word;
                    word = word.wrapping_add(0x9e37_79b9);
                }
            }
            index += 1;
        }
    }
    if nonzero != 0 {
        pr_err!("new elements are not zero\n");
        return Err(EBADMSG);
    }
    report(&area, reply);
    Ok(())
}

/// `area.too-large NAME BYTES`: more than there is: ENOMEM, and the area as it was.
pub(crate) fn too_large(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let name = words.name()?;
    let len = words.number()? / 8;
    let mut area = open(&name)?;
    let before = (area.len(), area.nr_runs(), area.nr_pages());
    let result = reply.timed("fail_ns", || match area.reserve(len) {
        Err(error) if error == ENOMEM => Ok(()),
        other => other.and(Err(EBADMSG)),
    });
    report(&area, reply);
    result?;
    check(
        "area",
        (area.len(), area.nr_runs(), area.nr_pages()),
        before,
    )
}

/// `area.discard NAME`.
pub(crate) fn discard(words: &mut Words<'_>, _reply: &mut Reply) -> Result {
    let name = words.name()?;
    open(&name)?.discard()
}

fn report(area: &PVec<u64>, reply: &mut Reply) {
    reply.put("len_bytes", area.len() as u64 * 8);
    let bytes = area.nr_pages() as u64 * 4096;
    reply.put("bytes", bytes);
    reply.put("runs", area.nr_runs() as u64);
    reply.put("mean_run_bytes", bytes / (area.nr_runs() as u64).max(1));
}
