// SPDX-License-Identifier: GPL-2.0

//! What is added to the boot of a kernel by what the one before has left to it.

use kernel::prelude::*;

use crate::peers;
use crate::reply::{
    Figure,
    Reply, //
};
use crate::Words;

/// `boot SIDE`: notes how long this boot took, with what `SIDE` left to it. `base1`, `base2` and so
/// on are boots to which nothing was left.
pub(crate) fn note(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let side = words.word()?;
    let boot = peers::boot();
    peers::note(side, "boot", boot.ns)?;
    peers::note(side, "initrd", boot.initrd_bytes)?;
    peers::note(side, "dma", boot.is_dma.into())?;
    reply.put("boot_ns", boot.ns);
    reply.put("initrd_bytes", boot.initrd_bytes);
    reply.put("is_dma", boot.is_dma.into());
    Ok(())
}

#[derive(Clone, Copy)]
struct Point {
    boot_ns: i64,
    initrd_bytes: i64,
    is_dma: u64,
}

impl Point {
    fn read(side: &str) -> Result<Self> {
        Ok(Self {
            boot_ns: peers::noted(side, "boot")? as i64,
            initrd_bytes: peers::noted(side, "initrd")? as i64,
            is_dma: peers::noted(side, "dma")?,
        })
    }

    fn is_like(&self, other: &Self) -> bool {
        self.is_dma == other.is_dma
    }
}

/// How long a boot takes to which nothing was left.
///
/// Two things beside what was left have a part in it. The initramfs is reserved memory, and each
/// generation of a chain has a smaller one than the one before: some 30 instructions a page. And
/// the handful of pages that KHO and LUO hand over in any case lie in the DMA zone and behind it in
/// turn: 0.2 million instructions. So a boot is compared with a baseline that is like it in the
/// latter, and the initramfs is counted out by what it makes between two such baselines. Boots of
/// a chain to which nothing was left agree with that to 3000 instructions, but for the first of
/// them, which is not used.
pub(crate) struct Baseline {
    points: [Option<Point>; 3],
    /// Of two points that are alike: by how much they differ.
    slope: (i64, i64),
}

impl Baseline {
    /// Finds the baselines among the notes.
    ///
    /// # Errors
    ///
    /// ENOENT if no two are alike.
    pub(crate) fn read() -> Result<Self> {
        let points = ["base1", "base2", "base3"].map(|side| Point::read(side).ok());
        let all = || points.iter().flatten();
        for (index, one) in all().enumerate() {
            for two in all().skip(index + 1) {
                if one.is_like(two) && one.initrd_bytes != two.initrd_bytes {
                    let slope = (
                        one.boot_ns - two.boot_ns,
                        one.initrd_bytes - two.initrd_bytes,
                    );
                    return Ok(Self { points, slope });
                }
            }
        }
        Err(ENOENT)
    }

    /// Returns what was added to the boot that is noted for `side`.
    ///
    /// # Errors
    ///
    /// ENOENT if `side` noted none; EXDEV if no baseline is like it.
    pub(crate) fn added(&self, side: &str) -> Result<i64> {
        let boot = Point::read(side)?;
        let mut points = self.points.iter().flatten();
        let base = points.find(|point| point.is_like(&boot)).ok_or(EXDEV)?;
        let more_bytes = boot.initrd_bytes - base.initrd_bytes;
        let expected = base.boot_ns + more_bytes * self.slope.0 / self.slope.1;
        Ok(boot.boot_ns - expected)
    }
}

/// Adds a row of figures that both sides have noted; none if the peer did not take part.
pub(crate) fn row(
    reply: &mut Reply,
    name: &str,
    n: usize,
    peer_name: &str,
    figure: impl Fn(&str) -> Result<i64>,
    peer: &str,
) -> Result {
    let of_peer = match figure(peer) {
        Err(error) if error == ENOENT => return Ok(()),
        other => other?,
    };
    reply.row(
        name,
        n,
        Figure::of(figure("ours")?),
        peer_name,
        Figure::of(of_peer),
    );
    Ok(())
}

/// `memfd.rows BYTES`: what a memfd added to the boots that `ours` and `theirs` noted.
pub(crate) fn memfd_rows(words: &mut Words<'_>, reply: &mut Reply) -> Result {
    let n = words.number()?;
    let baseline = Baseline::read()?;
    row(
        reply,
        "memfd.boot",
        n,
        "memfd_luo",
        |side| baseline.added(side),
        "theirs",
    )
}
