// SPDX-License-Identifier: GPL-2.0

//! Cuts: images of a machine at each observed step of a workload.
//!
//! A step is a seam call or an atomic store of the recording thread. Between two steps there are
//! plain stores, which the compiler may have moved about and a stop may interrupt anywhere; so for
//! each pair of steps there are, besides the images, some in which only a part of the words that
//! changed has arrived ([`Recorder::torn`]). A CPU that is stopped finishes what it has retired, in
//! program order: only a compiler moves stores.

use core::cell::RefCell;
use std::sync::Arc;

use kernel::observe;

use crate::image::Image;
use crate::machine::SimMachine;
use crate::memory::Bytes;
use crate::random::Random;

std::thread_local! {
    static RECORDER: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// What the next kernel finds if this one is stopped at a certain step.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The number that [`Recorder::phase`] set last, 0 before.
    pub phase: usize,
    /// What the thread was about to do, or had just done.
    pub step: String,
    /// The image.
    pub image: Image,
}

struct Recording {
    machine: &'static SimMachine,
    cuts: Vec<Cut>,
    phase: usize,
    nr_torn: usize,
    by_page: bool,
    overtakes: bool,
    random: Random,
    /// The atomic store of the last step, if plain stores after it cannot overtake it.
    fence: Option<observe::Store>,
}

/// Records the cuts of what this thread does from [`start`](Self::start) to
/// [`finish`](Self::finish).
#[derive(Debug)]
pub struct Recorder(());

impl Recorder {
    /// Starts recording.
    ///
    /// # Panics
    ///
    /// If this thread is recording already.
    pub fn start(machine: &'static SimMachine) -> Recorder {
        let first = Cut {
            phase: 0,
            step: "start".to_owned(),
            image: machine.image(),
        };
        RECORDER.with_borrow_mut(|recorder| {
            assert!(recorder.is_none(), "this thread is recording already");
            *recorder = Some(Recording {
                machine,
                cuts: vec![first],
                phase: 0,
                nr_torn: 0,
                by_page: false,
                overtakes: false,
                random: Random::new(machine.config.seed),
                fence: None,
            });
        });
        observe::set_observer(Some(Box::new(|store| {
            with_recording(|recording| {
                recording.take(|| format!("before an atomic store of {} bytes", store.size_bytes));
                let stays = store.acquires || !recording.overtakes;
                recording.fence = stays.then_some(store);
            });
        })));
        Recorder(())
    }

    /// Adds, between each two steps, up to `n` images in which only a part of the words that
    /// changed has arrived.
    pub fn torn(self, n: usize) -> Self {
        with_recording(|recording| recording.nr_torn = n);
        self
    }

    /// Adds, between each two steps, all images in which only the first of the pages that changed
    /// have arrived, and all in which only the last have: a copy, upwards or downwards, that was
    /// stopped between two pages.
    pub fn by_page(self) -> Self {
        with_recording(|recording| recording.by_page = true);
        self
    }

    /// Lets plain stores overtake the atomic store before them, unless that one acquires.
    ///
    /// The language allows a compiler to do so; it does not where each atomic operation of the
    /// kernel is a call (without CONFIG_RUST_INLINE_HELPERS).
    pub fn overtaking(self) -> Self {
        with_recording(|recording| recording.overtakes = true);
        self
    }

    /// Says that what follows belongs to another part of the workload, which each cut names.
    pub fn phase(&self, phase: usize) {
        with_recording(|recording| {
            recording.take(|| "end of phase".to_owned());
            recording.phase = phase;
        });
    }

    /// Stops recording and returns the cuts, without those that the next kernel cannot tell from
    /// the one before; the last is the end.
    pub fn finish(self) -> Vec<Cut> {
        with_recording(|recording| recording.take(|| "end".to_owned()));
        observe::set_observer(None);
        let recording = RECORDER.with_borrow_mut(Option::take);
        recording
            .map(|recording| recording.cuts)
            .unwrap_or_default()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        observe::set_observer(None);
        RECORDER.with_borrow_mut(Option::take);
    }
}

/// A step of a machine: a seam call.
pub(crate) fn step(machine: &SimMachine, what: &str) {
    with_recording(|recording| {
        if core::ptr::eq(recording.machine, machine) {
            recording.take(|| what.to_owned());
            recording.fence = None;
        }
    });
}

fn with_recording(f: impl FnOnce(&mut Recording)) {
    RECORDER.with(|cell| {
        if let Ok(mut recorder) = cell.try_borrow_mut() {
            if let Some(recording) = recorder.as_mut() {
                f(recording);
            }
        }
    });
}

impl Recording {
    fn take(&mut self, step: impl FnOnce() -> String) {
        let before = self.cuts.last().map(|cut| &cut.image);
        let image = Image::take(self.machine, before);
        if before.is_some_and(|before| before.same_as(&image)) {
            return;
        }
        let step = step();
        if let Some(before) = before.cloned() {
            if self.by_page {
                for image in self.pages_missing(&before, &image) {
                    self.push(format!("pages missing, {step}"), image);
                }
            }
            for _ in 0..self.nr_torn {
                if let Some(image) = self.tear(&before, &image) {
                    let step = format!("torn, {step}");
                    self.push(step, image);
                }
            }
        }
        self.push(step, image);
    }

    fn push(&mut self, step: String, image: Image) {
        let phase = self.phase;
        self.cuts.push(Cut { phase, step, image });
    }

    /// Returns the later image with a random half of its changed words as they were; `None` if
    /// fewer than two words changed.
    fn tear(&mut self, before: &Image, after: &Image) -> Option<Image> {
        let mut torn = after.clone();
        let mut nr_changed = 0;
        for (phys, page) in &mut torn.pages {
            let Some(old) = before.pages.get(phys) else {
                continue;
            };
            if Arc::ptr_eq(old, page) {
                continue;
            }
            nr_changed += revert_words(old, Arc::make_mut(page), |offset| {
                self.may_be_late(phys + offset as u64) && self.random.percent(50)
            });
        }
        (nr_changed > 1).then_some(torn)
    }

    /// Returns the later image with the last of its changed pages as they were, and with the first,
    /// for each number of them.
    fn pages_missing(&self, before: &Image, after: &Image) -> Vec<Image> {
        let changed: Vec<u64> = after
            .pages
            .iter()
            .filter(|(phys, page)| {
                let old = before.pages.get(phys);
                old.is_some_and(|old| !Arc::ptr_eq(old, page))
            })
            .map(|(&phys, _)| phys)
            .collect();
        let missing = |late: &[u64]| {
            let mut image = after.clone();
            for phys in late {
                if let (Some(old), Some(new)) = (before.pages.get(phys), image.pages.get_mut(phys))
                {
                    revert_words(old, Arc::make_mut(new), |offset| {
                        self.may_be_late(phys + offset as u64)
                    });
                }
            }
            image
        };
        (1..changed.len())
            .map(|at| changed.split_at(at))
            .flat_map(|(first, last)| [missing(first), missing(last)])
            .collect()
    }

    /// Returns whether a word may arrive after words that were stored later.
    fn may_be_late(&self, phys: u64) -> bool {
        let Some(fence) = self.fence else {
            return true;
        };
        let window = self.machine.memory.window();
        let at = core::ptr::NonNull::new(core::ptr::with_exposed_provenance_mut(fence.address));
        let fence = at.and_then(|at| window.phys(at));
        fence.is_none_or(|fence| fence.get() & !7 != phys)
    }
}

/// Sets each changed word for which `revert` returns true back; returns how many had changed.
fn revert_words(old: &Bytes, new: &mut Bytes, mut revert: impl FnMut(usize) -> bool) -> usize {
    let mut nr_changed = 0;
    for offset in (0..old.len()).step_by(8) {
        let word = offset..offset + 8;
        if old[word.clone()] != new[word.clone()] {
            nr_changed += 1;
            if revert(offset) {
                new[word.clone()].copy_from_slice(&old[word]);
            }
        }
    }
    nr_changed
}
