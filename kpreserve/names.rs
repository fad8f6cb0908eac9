// SPDX-License-Identifier: GPL-2.0

//! What has a name: the arena table, the dictionary, and the caches that are up.

use kernel::prelude::*;
use kpreserve_kho::{
    refusal::{
        Refusal,
        Relation, //
    },
    validate::{
        expect,
        expect_at_most, //
    },
    ArenaHandle,
    ArenaKind,
    ArenaSer,
    GatePass,
    Ledger,
    Preservable,
    SharedU64, //
};
use kpreserve_slab::{
    Geometry,
    Opened,
    RawCache, //
};
use kpreserve_vmalloc::{
    PVec,
    RawArea, //
};

use crate::abi::{
    EntrySer,
    ARENA_BUCKETS,
    ARENA_ENTRIES,
    ARENA_FIRST,
    ARENA_STRINGS,
    ARENA_TABLE, //
};
use crate::contents::Contents;
use crate::dictionary::{
    Dictionary,
    Found, //
};
use crate::framework::Framework;
use crate::opened::OpenedNames;
use crate::roll;

mod record;

use record::{
    expect_nothing_behind,
    is_for_all,
    named_by,
    record, //
};

/// What a new arena is to hold.
pub(crate) struct ArenaPlan {
    kind: ArenaKind,
    fingerprint: u64,
    version: u32,
    stride_bytes: u32,
    geometry: Option<Geometry>,
}

impl ArenaPlan {
    /// The plan of an area of `T`.
    pub(crate) fn area<T: Preservable>() -> Self {
        Self {
            kind: ArenaKind::Area,
            fingerprint: T::FINGERPRINT,
            version: T::VERSION,
            stride_bytes: size_of::<T>() as u32,
            geometry: None,
        }
    }

    /// The plan of a cache with slabs of that layout.
    pub(crate) fn cache(contents: &Contents, geometry: Geometry) -> Self {
        Self {
            kind: ArenaKind::Cache,
            fingerprint: contents.fingerprint,
            version: contents.version,
            stride_bytes: contents.size_bytes as u32,
            geometry: Some(geometry),
        }
    }

    fn record(&self, root_id: u64, id: u32, generation: u32) -> ArenaSer {
        let mut record = ArenaSer {
            kind: self.kind as u32,
            id,
            fingerprint: self.fingerprint,
            version: self.version,
            stride_bytes: self.stride_bytes,
            ..ArenaSer::free(generation)
        };
        if let Some(geometry) = &self.geometry {
            geometry.fill(&mut record);
        }
        record.check = record.checksum(root_id);
        record
    }
}

/// A cache that is up: open, or closed but kept for the next open in this boot.
struct Up {
    generation: u32,
    cache: &'static RawCache,
    /// Held open by the framework itself, for the named objects of a type.
    shared: Option<Opened>,
}

/// The named part of an image.
pub(crate) struct Names {
    framework: &'static Framework,
    opened: OpenedNames,
    arenas: PVec<ArenaSer>,
    free_arenas: KVec<u32>,
    pub(crate) dictionary: Dictionary,
    caches: KVec<Up>,
    /// By arena: one more than the index of its cache, 0 if it is not up.
    places: KVVec<u32>,
    /// Whose place on the framework's roll is the last.
    last: Option<&'static roll::Link>,
}

impl Names {
    /// Opens the arena table and the dictionary, which are made if the image has none yet.
    ///
    /// Cost: a few instructions an arena; nothing a name, nothing an object.
    ///
    /// # Errors
    ///
    /// EINVAL if a structure is refused, ENOMEM, EBUSY if the framework is frozen.
    pub(crate) fn open(framework: &'static Framework) -> Result<Self> {
        let pass = framework.gate().enter()?;
        let head = framework.root().head();
        let checked = head
            .arenas
            .snapshot()
            .validate(framework.root_id(), ARENA_TABLE);
        checked.map_err(Refusal::report)?;
        let raw = RawArea::new(framework.open_arena(ARENA_TABLE)?, &head.arenas)?;
        let mut arenas = PVec::<ArenaSer>::from_raw(raw)?;
        make_own_arenas(framework, &pass, &mut arenas)?;

        let mut free_arenas = KVec::new();
        for id in (ARENA_FIRST as usize..arenas.len()).rev() {
            if is_for_all(framework, &arenas, id as u32) {
                free_arenas.push(id as u32, GFP_KERNEL)?;
            }
        }
        let active_buckets = head.active_buckets.load();
        expect_at_most(
            "RootSer",
            "active_buckets",
            head.self_phys,
            active_buckets,
            1,
        )
        .map_err(Refusal::report)?;
        let active_entries = head.active_entries.load();
        expect_at_most(
            "RootSer",
            "active_entries",
            head.self_phys,
            active_entries,
            1,
        )
        .map_err(Refusal::report)?;
        // So that retiring an arena cannot fail.
        let nr_free = free_arenas.len();
        free_arenas.reserve(arenas.len() - nr_free, GFP_KERNEL)?;
        let (active, idle) = buckets_ids(framework);
        let ((entries, strings), idle_ids) = entries_ids(framework);
        let entries = own::<EntrySer>(framework, &arenas, entries)?;
        // Entries never go, and a copy is in use only once it is whole. What cannot be opened may
        // be the one that is meant.
        let idle_entries = idle_if_sound(own::<EntrySer>(framework, &arenas, idle_ids.0))?;
        let nr_idle = idle_entries.as_ref().map_or(1, |idle| idle.len());
        expect(
            "RootSer",
            "active_entries",
            head.self_phys,
            active_entries,
            active_entries ^ 1,
            Relation::Equal,
            nr_idle == 0 || !entries.is_empty(),
        )
        .map_err(Refusal::report)?;
        let dictionary = Dictionary::new(
            &pass,
            head,
            entries,
            own::<u8>(framework, &arenas, strings)?,
            own::<SharedU64>(framework, &arenas, active)?,
        )?;
        // A table that was cut while it was rebuilt, or not given back any more; and not before the
        // one in use was found to be one.
        if let Some(buckets) = idle_if_sound(own::<SharedU64>(framework, &arenas, idle))? {
            give_back(buckets, &pass)?;
        }
        if let Some(entries) = idle_entries {
            give_back(entries, &pass)?;
        }
        if let Some(strings) = idle_if_sound(own::<u8>(framework, &arenas, idle_ids.1))? {
            give_back(strings, &pass)?;
        }
        let opened = OpenedNames::none(dictionary.nr_entries())?;
        // A damaged counter says no more than that.
        let nr_names = dictionary.nr_names().min(dictionary.nr_entries() as u64);
        framework.tally().note_names(nr_names);
        Ok(Self {
            framework,
            opened,
            arenas,
            free_arenas,
            dictionary,
            caches: KVec::new(),
            places: KVVec::new(),
            last: None,
        })
    }

    /// Rebuilds the dictionary's hash table if it is crowded, and copies entries and strings if many
    /// strings are nobody's: before a name is inserted.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY if the framework is frozen; the dictionary is as it was.
    pub(crate) fn make_room(&mut self, pass: &GatePass<'_>, name: &[u8]) -> Result {
        // Each time the table doubles, so this has an end.
        while self.dictionary.is_crowded(name) {
            let head = self.framework.root().head();
            let (active, idle) = buckets_ids(self.framework);
            let buckets = own::<SharedU64>(self.framework, &self.arenas, idle)?;
            let next = u64::from(idle == ARENA_BUCKETS[1]);
            let old = self
                .dictionary
                .rebuild(pass, name, buckets, || head.active_buckets.store(next))?;
            debug_assert_ne!(active, idle);
            // The next one will be larger, as a rule.
            give_back(old, pass)?;
        }
        if self.dictionary.is_wasteful() && self.compact(pass).is_err() {
            // It is no worse than before.
            self.dictionary.bear_waste();
        }
        Ok(())
    }

    fn compact(&mut self, pass: &GatePass<'_>) -> Result {
        let head = self.framework.root().head();
        let (_, (entries, strings)) = entries_ids(self.framework);
        let next = u64::from(entries == ARENA_ENTRIES[1]);
        let entries = own::<EntrySer>(self.framework, &self.arenas, entries)?;
        let strings = own::<u8>(self.framework, &self.arenas, strings)?;
        let old = self
            .dictionary
            .compact(pass, entries, strings, || head.active_entries.store(next));
        // Those that were replaced are closed here, or those that could not be filled.
        let result = old.map(drop);
        empty_idle(self.framework, &self.arenas, pass)?;
        result
    }

    /// Makes an arena: a record in the arena table, no runs yet. Nothing refers to it so far.
    ///
    /// # Errors
    ///
    /// ENOMEM, EBUSY if the framework is frozen.
    pub(crate) fn make_arena(
        &mut self,
        pass: &GatePass<'_>,
        plan: &ArenaPlan,
    ) -> Result<ArenaHandle<()>> {
        let id = match self.free_arenas.pop() {
            Some(id) => id,
            None => self.extend_arenas(pass)?,
        };
        let record = self.arenas.get_mut(id as usize).ok_or(EINVAL)?;
        let generation = record.generation.wrapping_add(1);
        record.replace(plan.record(self.framework.root_id(), id, generation));
        Ok(ArenaHandle::new(id, generation))
    }

    /// Adds a free record to the arena table, and returns its id.
    fn extend_arenas(&mut self, pass: &GatePass<'_>) -> Result<u32> {
        loop {
            let id = u32::try_from(self.arenas.len()).map_err(|_| ENOMEM)?;
            expect_unused(self.framework, id, id)?;
            // So that retiring it cannot fail.
            let nr_free = self.free_arenas.len();
            self.free_arenas
                .reserve(self.arenas.len() + 1 - nr_free, GFP_KERNEL)?;
            expect_nothing_behind(&self.arenas)?;
            self.arenas.push_with(pass, ArenaSer::free(0))?;
            // An id that a refused run names is left out, and stays so: that run may come back.
            if !self.framework.is_claimed(id) {
                return Ok(id);
            }
        }
    }

    /// Ends an arena, which has no runs left and is not open.
    pub(crate) fn retire_arena(&mut self, id: u32) {
        let root_id = self.framework.root_id();
        if let Some(record) = self.arenas.get_mut(id as usize) {
            record.replace(ArenaSer::ended(root_id, record.generation));
            let _ = self.free_arenas.push_within_capacity(id);
        }
    }

    /// Returns the descriptor that a handle names, checked: before anything that it says decides.
    ///
    /// # Errors
    ///
    /// EINVAL if there is no such arena or its descriptor is refused; ENOENT if it has ended,
    /// ESTALE if another one has taken its place: what says so has been checked, too.
    pub(crate) fn arena<T>(&self, handle: ArenaHandle<T>) -> Result<&'static ArenaSer> {
        named_by(self.framework, &self.arenas, handle)
    }

    /// Notes that somebody has opened a name, or made it another one.
    pub(crate) fn note_opened(&self, found: &Found) {
        if self.opened.note(found.index) {
            self.framework.tally().note_name_opened();
        }
    }

    /// Notes that a name was made.
    pub(crate) fn note_made(&self, name: &[u8]) {
        if let Ok(Some(found)) = self.dictionary.lookup(name) {
            self.opened.note(found.index);
        }
    }

    /// Returns the cache on an arena, if it is up.
    pub(crate) fn cache_if_up(&self, handle: ArenaHandle<()>) -> Option<&'static RawCache> {
        self.up(handle).map(|up| up.cache)
    }

    /// Returns a share of the cache on an arena, if the framework holds it open.
    pub(crate) fn shared_if_up(&self, handle: ArenaHandle<()>) -> Option<Opened> {
        self.up(handle)?.shared.clone()
    }

    fn index_of(&self, handle: ArenaHandle<()>) -> Option<usize> {
        let place = *self.places.get(handle.id() as usize)?;
        place.checked_sub(1).map(|index| index as usize)
    }

    fn up(&self, handle: ArenaHandle<()>) -> Option<&Up> {
        let up = self.caches.get(self.index_of(handle)?)?;
        (up.generation == handle.generation()).then_some(up)
    }

    /// Returns the cache on an arena, which is brought up if it is not.
    ///
    /// # Errors
    ///
    /// As [`arena`](Self::arena); EINVAL if the cache is refused; EBUSY, ENOMEM.
    pub(crate) fn cache(&mut self, handle: ArenaHandle<()>) -> Result<&'static RawCache> {
        let ser = self.arena(handle)?;
        if let Some(up) = self.up(handle) {
            return Ok(up.cache);
        }
        let place_by_arena = handle.id() as usize;
        if place_by_arena >= self.places.len() {
            self.places.resize(place_by_arena + 1, 0, GFP_KERNEL)?;
        }
        self.caches.reserve(1, GFP_KERNEL)?;
        // Its place comes before its runs: an initialiser that has them and is not used would keep
        // them.
        let place = KBox::<RawCache>::new_uninit(GFP_KERNEL)?;
        let on_roll = roll::Place::new()?;
        let arena = self.framework.open_arena(handle.id())?;
        let cache = place.write_pin_init(RawCache::new(arena, ser)?)?;
        // SAFETY: leaked, so it is never moved again.
        let cache: &'static RawCache = KBox::leak(unsafe { Pin::into_inner_unchecked(cache) });
        let up = Up {
            generation: handle.generation(),
            cache,
            shared: None,
        };
        self.caches.push(up, GFP_KERNEL)?;
        if let Some(at) = self.places.get_mut(place_by_arena) {
            *at = self.caches.len() as u32;
        }
        self.last = Some(self.framework.roll().add(self.last, on_roll, cache));
        Ok(cache)
    }

    /// Returns a share of the cache on an arena, which the framework holds open: named objects of a
    /// type live in one cache, whoever opens them.
    ///
    /// # Errors
    ///
    /// As [`cache`](Self::cache).
    pub(crate) fn shared_cache(&mut self, handle: ArenaHandle<()>) -> Result<Opened> {
        let cache = self.cache(handle)?;
        let index = self.index_of(handle).ok_or(EINVAL)?;
        let shared = &mut self.caches.get_mut(index).ok_or(EINVAL)?.shared;
        if let Some(opened) = shared {
            return Ok(opened.clone());
        }
        let opened = cache.try_open()?;
        *shared = Some(opened.clone());
        Ok(opened)
    }
}

/// Returns which of the two hash tables is in use, and which is not.
fn buckets_ids(framework: &'static Framework) -> (u32, u32) {
    let [first, second] = ARENA_BUCKETS;
    if framework.root().head().active_buckets.load() == 1 {
        (second, first)
    } else {
        (first, second)
    }
}

/// Returns which entries and strings are in use, and which are not.
fn entries_ids(framework: &'static Framework) -> ((u32, u32), (u32, u32)) {
    let first = (ARENA_ENTRIES[0], ARENA_STRINGS[0]);
    let second = (ARENA_ENTRIES[1], ARENA_STRINGS[1]);
    if framework.root().head().active_entries.load() == 1 {
        (second, first)
    } else {
        (first, second)
    }
}

/// Returns an arena that is not in use, and is to be emptied; `None` if it is refused: it is left
/// as it is, and nobody needs it.
fn idle_if_sound<T: Preservable>(idle: Result<PVec<T>>) -> Result<Option<PVec<T>>> {
    match idle {
        Err(error) if error == EINVAL => Ok(None),
        other => other.map(Some),
    }
}

/// Gives back the entries and strings that are not in use: what a compaction left, whole or cut.
fn empty_idle(
    framework: &'static Framework,
    arenas: &PVec<ArenaSer>,
    pass: &GatePass<'_>,
) -> Result {
    let (_, (entries, strings)) = entries_ids(framework);
    give_back(own::<EntrySer>(framework, arenas, entries)?, pass)?;
    give_back(own::<u8>(framework, arenas, strings)?, pass)
}

fn give_back<T: Preservable>(mut idle: PVec<T>, pass: &GatePass<'_>) -> Result {
    if idle.nr_runs() == 0 {
        return Ok(());
    }
    idle.resize_with(pass, 0)
}

/// Fills the arena table up to the first arena of a user, going on where a cut may have left it.
fn make_own_arenas(
    framework: &'static Framework,
    pass: &GatePass<'_>,
    arenas: &mut PVec<ArenaSer>,
) -> Result {
    let len = arenas.len() as u32;
    if len < ARENA_FIRST {
        // All of them are there before the first of them has a run.
        for id in ARENA_TABLE + 1..ARENA_FIRST {
            expect_unused(framework, len, id)?;
        }
    }
    while arenas.len() < ARENA_FIRST as usize {
        let id = arenas.len() as u32;
        let plan = match id {
            id if ARENA_ENTRIES.contains(&id) => ArenaPlan::area::<EntrySer>(),
            id if ARENA_STRINGS.contains(&id) => ArenaPlan::area::<u8>(),
            id if ARENA_BUCKETS.contains(&id) => ArenaPlan::area::<SharedU64>(),
            _ => {
                arenas.push_with(pass, ArenaSer::free(0))?;
                continue;
            }
        };
        arenas.push_with(pass, plan.record(framework.root_id(), id, 1))?;
    }
    Ok(())
}

/// Checks that nobody uses the arena `id`, which is behind the `len` of the arena table: its
/// record would be written over otherwise. A record is there before the first run of its arena.
fn expect_unused(framework: &'static Framework, len: u32, id: u32) -> Result {
    expect(
        "ArenaSer",
        "len",
        ARENA_TABLE.into(),
        len.into(),
        u64::from(id) + 1,
        Relation::AtLeast,
        !framework.has_inherited(id),
    )
    .map_err(Refusal::report)
}

/// Opens an area of the framework's own.
fn own<T: Preservable>(
    framework: &'static Framework,
    arenas: &PVec<ArenaSer>,
    id: u32,
) -> Result<PVec<T>> {
    let record = record(arenas, id)?;
    let checked = record.snapshot().validate(framework.root_id(), id);
    checked.map_err(Refusal::report)?;
    PVec::from_raw(RawArea::new(framework.open_arena(id)?, record)?)
}
