//! The plan of a pack: which objects, in which order, each from which bytes and on which base.
//!
//! In: a selection. Out: one step for each object. Only headers of entries are read here, never contents. A step
//! depends on which objects precede it, but not on how they were written, so steps can be planned ahead. A delta's base
//! is an object that was written before it, one that is written later from the same pack, or one that the client has.
//! An object awaited as a base stays as it is stored, so two deltas can never be based on each other.

use super::kin::{Kin, chain};
use super::make::{Kinship, Recipe, Version};
use super::select::{Selection, Spot, Stray};
use super::sources::{Base, SourcePack, Sources};
use super::write::PackOptions;
use crate::odb::{EntryHead, EntryKind, Location, Objects, Pack, PackId};
use anyhow::{Context, Result, ensure};
use gix_hash::ObjectId;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// The most new deltas in a chain.
const DEPTH_MAX: u32 = 50;
/// How many bases of a stored delta chain are examined.
const CHAIN_MAX: usize = 64;
/// The size limit of a delta that makes an empty object: it holds the two sizes and nothing else.
const EMPTY_DELTA_MAX: u64 = 20;

/// The plan for one object.
pub(super) struct Step {
    /// The object to write.
    pub object: Object,
    /// How to write it.
    pub how: How,
}

/// An object to write.
pub(super) enum Object {
    /// An entry of the n-th pack.
    Packed {
        /// The pack's number.
        source: u32,
        /// The position in the index.
        position: u32,
        /// The entry's bytes in the pack.
        range: Range<u64>,
        /// The checksum in the index, if it has one.
        crc32: Option<u32>,
    },
    /// A loose object: its number among those selected.
    Stray(usize),
}

/// How an object is written. There is one for each object, so it is kept small.
pub(super) enum How {
    /// The entry's header is unreadable: look for another copy of the object.
    Recover,
    /// Copy the stored entry.
    Copy(Base),
    /// Make a new entry from the object's content.
    Make(Box<Making>),
    /// Deflate a loose object's file piece by piece.
    Stream(gix_object::Kind, u64),
    /// The empty tree, which may not be stored anywhere.
    Empty,
}

/// How an object is made.
pub(super) struct Making {
    /// What to make.
    pub recipe: Recipe,
    /// Where the bases of the recipe are.
    pub bases: Vec<Spot>,
}

/// The selected entries of one pack, in pack order.
enum Entries {
    /// Most entries of the pack are selected: the rank of the next one to examine, and the entries looked up, the last
    /// one first.
    Most(u32, Vec<Entry>),
    /// Few are selected, so that the order of the whole pack is not needed: index positions and extents, the last one
    /// first.
    Few(Vec<(u32, Range<u64>)>),
}

/// What the index knows of an entry.
struct Entry {
    position: u32,
    range: Range<u64>,
    crc32: Option<u32>,
}

/// How many entries are looked up together. The index is accessed in an order that no cache can predict; doing nothing
/// else in between lets the processor wait for many accesses at once.
const LOOKED_UP: usize = 256;

impl Entries {
    fn of(taken: &SourcePack<'_>) -> Self {
        let (pack, positions) = (&taken.pack, taken.positions);
        if positions.len() * 16 >= u64::from(pack.len()) {
            return Entries::Most(0, Vec::new());
        }
        let mut chosen: Vec<(u64, u32)> =
            positions.iter().map(|position| (pack.offset_at(position), position)).collect();
        chosen.sort_unstable();
        let positions: Vec<u32> = chosen.iter().map(|(_, position)| *position).collect();
        let ends = pack.ends_of(&positions);
        let entry = |((start, position), end): ((u64, u32), u64)| (position, start..end);
        Entries::Few(chosen.into_iter().zip(ends).map(entry).rev().collect())
    }

    fn next(&mut self, taken: &SourcePack<'_>) -> Option<Entry> {
        let pack = &taken.pack;
        match self {
            Entries::Few(chosen) => {
                let (position, range) = chosen.pop()?;
                Some(Entry { position, range, crc32: pack.crc32_at(position) })
            }
            Entries::Most(rank, found) => {
                let order = pack.by_offset();
                while found.is_empty() && *rank < pack.len() {
                    // Including the entry after them, which tells where the last one ends.
                    let near: Vec<u32> = order.iter_from(*rank).take(LOOKED_UP + 1).collect();
                    let offsets: Vec<u64> = near.iter().map(|position| pack.offset_at(*position)).collect();
                    let looked_up = near.len().min(LOOKED_UP);
                    let chosen = (0..looked_up).filter(|at| taken.positions.contains(near[*at]));
                    let entry = |at: usize| {
                        let end = offsets.get(at + 1).map_or(pack.body_end(), |end| *end);
                        Entry { position: near[at], range: offsets[at]..end, crc32: pack.crc32_at(near[at]) }
                    };
                    found.extend(chosen.rev().map(entry));
                    *rank = rank.saturating_add(LOOKED_UP as u32);
                }
                found.pop()
            }
        }
    }
}

/// An entry that is planned before its turn.
struct Early {
    source: u32,
    position: u32,
    range: Range<u64>,
    /// Whether the previous one is of the same family.
    is_next: bool,
}

impl Early {
    /// All members of families, in the order of the families, so that each content is read once.
    fn all(selection: &Selection, sources: &Sources<'_>) -> Vec<Self> {
        let mut all = Vec::new();
        for family in selection.families.iter() {
            let first = all.len();
            for spot in family {
                // The object may have been removed from the selection since.
                if let Spot::Packed(pack, position) = spot
                    && let Some(source) = sources.of(pack, position)
                {
                    let range = 0..0;
                    all.push(Early { source, position, range, is_next: all.len() > first });
                }
            }
        }
        let offset = |early: &Early| sources.pack(early.source).offset_at(early.position);
        let mut order: Vec<_> = (0..).zip(&all).map(|(at, early)| (early.source, offset(early), at)).collect();
        order.sort_unstable();
        for of_one in order.chunk_by(|one, other| one.0 == other.0) {
            let pack = sources.pack(of_one[0].0);
            let chosen: Vec<u32> = of_one.iter().map(|(_, _, at): &(_, _, usize)| all[*at].position).collect();
            for ((_, start, at), end) in of_one.iter().zip(pack.ends_of(&chosen)) {
                all[*at].range = *start..end;
            }
        }
        all
    }
}

/// Plans one step after the other.
pub(super) struct Plan<'a> {
    /// The packs, with what has been written from them.
    pub sources: Sources<'a>,
    objects: &'a Objects,
    selection: &'a Selection,
    /// The entries that come before their turn, and how many of them have been planned.
    early: Vec<Early>,
    come: usize,
    /// The current pack, and what is left of it.
    current: u32,
    entries: Option<Entries>,
    pack: Option<Arc<Pack>>,
    strays: usize,
    /// The length of the longest chain of new deltas below an object.
    depths: HashMap<Spot, u32>,
    /// For bases that are not sent, by offset: the object written in place of a delta on one of them.
    stand_ins: HashMap<(PackId, u64), Spot>,
    /// Guesses for objects of which the walk saw no other version.
    kin: Kin,
    /// Loose objects already planned.
    loose: HashSet<u32>,
    /// Objects that come later but are needed by deltas already planned, with everything in their stored delta chains.
    /// They are written as stored, never on a base that might in turn depend on those deltas.
    awaited: HashSet<Spot>,
    /// Loose objects larger than this get no delta, and are never held in memory as a whole.
    related_max: u64,
}

impl<'a> Plan<'a> {
    /// A plan that begins with the families; then come the objects of each pack in pack order, then the loose ones.
    pub(super) fn new(selection: &'a Selection, objects: &'a Objects, options: &PackOptions) -> Self {
        let sources = Sources::new(selection, objects, options.thin);
        Plan {
            early: Early::all(selection, &sources),
            come: 0,
            sources,
            objects,
            selection,
            current: 0,
            entries: None,
            pack: None,
            strays: 0,
            depths: HashMap::new(),
            stand_ins: HashMap::new(),
            kin: Kin::default(),
            loose: HashSet::new(),
            awaited: HashSet::new(),
            related_max: options.related_max,
        }
    }

    /// The next step; `None` after the last.
    ///
    /// # Errors
    /// When an object is missing or its pack is damaged beyond repair.
    pub(super) fn next(&mut self) -> Result<Option<Step>> {
        if let Some(step) = self.next_early()? {
            return Ok(Some(step));
        }
        while let Some(taken) = self.sources.source_pack(self.current) {
            let entries = self.entries.get_or_insert_with(|| Entries::of(taken));
            if let Some(Entry { position, range, crc32 }) = entries.next(taken) {
                if taken.is_early(range.start) {
                    continue;
                }
                // Taken out and put back, to avoid counting references at each of as many steps as there are objects.
                let pack = self.pack.take().unwrap_or_else(|| Arc::clone(&taken.pack));
                let how = self
                    .entry(&pack, position, &range)
                    .with_context(|| format!("object {} of {}", pack.id_at(position), pack.path().display()))?;
                self.sources.note(self.current, range.start);
                self.pack = Some(pack);
                return Ok(Some(Step { object: Object::Packed { source: self.current, position, range, crc32 }, how }));
            }
            self.current += 1;
            self.entries = None;
            self.pack = None;
        }
        let Some(stray) = self.selection.strays.get(self.strays) else { return Ok(None) };
        self.strays += 1;
        let how = self.stray(stray).with_context(|| format!("loose object {}", stray.id))?;
        self.loose.insert(stray.number);
        Ok(Some(Step { object: Object::Stray(self.strays - 1), how }))
    }

    fn next_early(&mut self) -> Result<Option<Step>> {
        let Some(&Early { source, position, ref range, is_next }) = self.early.get(self.come) else { return Ok(None) };
        let (pack, range) = (self.sources.pack(source), range.clone());
        let spot = |early: &Early| Spot::Packed(self.sources.pack(early.source).id(), early.position);
        let larger = self.come.checked_sub(1).filter(|_| is_next).map(|at| spot(&self.early[at]));
        let bases = self.recipe_bases(Spot::Packed(pack.id(), position), larger);
        let how = match pack.head_at(range.start) {
            Ok(head) if head.data < range.end && range.end <= pack.body_end() => match bases.is_empty() {
                true => How::Copy(Base::None),
                false => self.make(&pack, position, bases, false),
            },
            // Another copy may be intact.
            _ => How::Recover,
        };
        self.come += 1;
        self.sources.note_early(source, range.start);
        let crc32 = pack.crc32_at(position);
        Ok(Some(Step { object: Object::Packed { source, position, range, crc32 }, how }))
    }

    /// Plans an entry. Whatever can be copied is never inflated. A new delta is made of a stored delta whose base is
    /// not sent, and of an object stored whole if the client or another pack has another version of it.
    fn entry(&mut self, pack: &Arc<Pack>, position: u32, range: &Range<u64>) -> Result<How> {
        ensure!(
            range.start < range.end && range.end <= pack.body_end(),
            "entry at offset {} of {} has no room",
            range.start,
            pack.path().display()
        );
        let head = match pack.head_at(range.start) {
            Ok(head) if head.data < range.end => head,
            // Another copy may be intact.
            _ => return Ok(How::Recover),
        };
        let spot = Spot::Packed(pack.id(), position);
        if makes_empty_object(pack, position, &head) {
            return Ok(self.make(pack, position, Vec::new(), true));
        }
        let base = match head.kind {
            EntryKind::Whole(_) if self.awaited.contains(&spot) => return Ok(How::Copy(Base::None)),
            EntryKind::Whole(_) => {
                // If the other version is in the same pack, whoever made that pack found no delta worth making, and
                // this object may be the other one's base.
                let elsewhere = |other: Spot| match other {
                    Spot::Packed(other, _) => other != pack.id(),
                    Spot::Loose(_) => true,
                };
                let is_of_use = |other| self.sources.is_held(other) || elsewhere(other) && self.is_planned(other);
                let bases = self.recipe_bases(spot, self.selection.relatives.nearest(spot, is_of_use));
                if bases.is_empty() {
                    return Ok(How::Copy(Base::None));
                }
                return Ok(self.make(pack, position, bases, false));
            }
            EntryKind::OfsDelta(offset) => self.sources.base_at(self.current, offset)?,
            EntryKind::RefDelta(id) => self.sources.base_named(self.current, &id),
        };
        if let Some(base) = base {
            if base == Base::Later {
                self.wait_for(pack, head.kind);
            }
            return Ok(How::Copy(base));
        }
        if self.awaited.contains(&spot) {
            return Ok(self.make(pack, position, Vec::new(), true));
        }
        let mut above = Vec::new();
        let in_chain = self.in_chain(pack, head.kind, &mut above);
        let mut bases = self.recipe_bases(spot, self.nearest(spot).into_iter().chain(in_chain));
        if bases.is_empty() {
            let distant = self.distant(pack, position, &above);
            bases = self.recipe_bases(spot, distant);
        }
        self.stand_ins.extend(above.into_iter().map(|offset| ((pack.id(), offset), spot)));
        Ok(self.make(pack, position, bases, true))
    }

    /// Marks as awaited the chain of bases below a stored delta, as far as they are not planned yet.
    fn wait_for(&mut self, pack: &Pack, mut stored: EntryKind) {
        loop {
            let offset = match stored {
                EntryKind::Whole(_) => return,
                EntryKind::OfsDelta(offset) => Some(offset),
                EntryKind::RefDelta(id) => pack.position(&id).map(|position| pack.offset_at(position)),
            };
            let Some((offset, position)) = offset.and_then(|at| Some((at, pack.position_at_offset(at)?))) else {
                return;
            };
            let is_planned = self.sources.planned(pack.id(), position).is_some();
            if is_planned || !self.awaited.insert(Spot::Packed(pack.id(), position)) {
                return;
            }
            let Ok(head) = pack.head_at(offset) else { return };
            stored = head.kind;
        }
    }

    fn make(&self, pack: &Pack, position: u32, bases: Vec<Spot>, or_whole: bool) -> How {
        let recipe = Recipe {
            id: pack.read_id_at(position),
            location: Location::Packed { pack: pack.id(), position },
            bases: self.versions(Spot::Packed(pack.id(), position), &bases),
            or_whole,
        };
        How::Make(Box::new(Making { recipe, bases }))
    }

    fn versions(&self, of: Spot, bases: &[Spot]) -> Vec<Version> {
        let version = |spot: &Spot| {
            let (id, location) = self.found(*spot)?;
            Some(Version { id, location, kinship: self.kinship(of, *spot) })
        };
        bases.iter().filter_map(version).collect()
    }

    /// The stored deltas between two objects, if both are in the same pack and have an entry in common.
    fn kinship(&self, object: Spot, version: Spot) -> Option<Kinship> {
        let (Spot::Packed(pack, object), Spot::Packed(other, version)) = (object, version) else { return None };
        if pack != other {
            return None;
        }
        let pack = self.objects.pack(pack);
        let mut object = chain(&pack, pack.offset_at(object));
        let mut version = chain(&pack, pack.offset_at(version));
        let (above, below) = (0..object.len())
            .find_map(|above| Some((above, version.iter().position(|offset| *offset == object[above])?)))?;
        let ancestor = object[above];
        object.truncate(above);
        version.truncate(below);
        Some(Kinship { pack: pack.id(), ancestor, object, version })
    }

    /// The name and location of an object.
    fn found(&self, spot: Spot) -> Option<(ObjectId, Location)> {
        match spot {
            Spot::Packed(pack, position) => {
                let id = self.objects.pack(pack).read_id_at(position);
                Some((id, Location::Packed { pack, position }))
            }
            Spot::Loose(number) => {
                let stray = self.selection.loose(number)?;
                Some((stray.id, Location::Loose(stray.directory)))
            }
        }
    }

    /// Keeps the candidates on which one more delta may be based, and records the depth of the object on the deepest of
    /// them.
    fn recipe_bases(&mut self, of: Spot, candidates: impl IntoIterator<Item = Spot>) -> Vec<Spot> {
        let depth = |spot: &Spot| self.depths.get(spot).map_or(1, |depth| depth + 1);
        let mut bases: Vec<Spot> = candidates.into_iter().filter(|spot| depth(spot) <= DEPTH_MAX).collect();
        bases.retain(|spot| self.found(*spot).is_some());
        bases.dedup();
        if let Some(deepest) = bases.iter().map(depth).max() {
            self.depths.insert(of, deepest);
        }
        bases
    }

    /// The nearest other version on which a delta can be based.
    fn nearest(&self, of: Spot) -> Option<Spot> {
        self.selection.relatives.nearest(of, |other| self.sources.is_held(other) || self.is_planned(other))
    }

    /// A version known neither from a walk nor from a common base. Not used if the client has nothing yet: it gets the
    /// objects stored whole in any case.
    fn distant(&mut self, pack: &Arc<Pack>, position: u32, above: &[u64]) -> Option<Spot> {
        if !self.sources.are_any_held() {
            return None;
        }
        let held = self.kin.held((pack.id(), above), self.selection, &self.sources, self.objects);
        // An unreadable object is reported when it is made.
        let header = || self.objects.header_in(pack, pack.offset_at(position)).ok();
        held.or_else(|| self.kin.alike(Spot::Packed(pack.id(), position), header))
    }

    /// A base from the chain below a stored delta, or an object written in place of a delta on one of that chain. The
    /// offsets of bases that are not sent are collected in `above`.
    fn in_chain(&self, pack: &Pack, mut stored: EntryKind, above: &mut Vec<u64>) -> Option<Spot> {
        while above.len() < CHAIN_MAX {
            let offset = match stored {
                EntryKind::Whole(_) => return None,
                EntryKind::OfsDelta(offset) => offset,
                EntryKind::RefDelta(id) => pack.offset_at(pack.position(&id)?),
            };
            if let Some(&other) = self.stand_ins.get(&(pack.id(), offset))
                && self.is_planned(other)
            {
                above.push(offset);
                return Some(other);
            }
            let spot = Spot::Packed(pack.id(), pack.position_at_offset(offset)?);
            if self.is_planned(spot) || self.sources.is_held(spot) {
                return Some(spot);
            }
            above.push(offset);
            stored = pack.head_at(offset).ok()?.kind;
        }
        None
    }

    /// Whether an object is planned already, so that a delta can be based on it.
    fn is_planned(&self, spot: Spot) -> bool {
        match spot {
            Spot::Loose(number) => self.loose.contains(&number),
            Spot::Packed(pack, position) => self.sources.planned(pack, position).is_some(),
        }
    }

    fn stray(&mut self, stray: &Stray) -> Result<How> {
        if stray.id.is_empty_tree() {
            // git knows the empty tree even where it is not stored.
            return Ok(How::Empty);
        }
        let location = Location::Loose(stray.directory);
        if self.objects.size_at(location, &stray.id)? > self.related_max {
            let header = self.objects.header(&stray.id)?.context("it has vanished")?;
            return Ok(How::Stream(header.kind, header.size));
        }
        let spot = Spot::Loose(stray.number);
        let bases = self.recipe_bases(spot, self.nearest(spot));
        let recipe = Recipe { id: stray.id, location, bases: self.versions(spot, &bases), or_whole: true };
        Ok(How::Make(Box::new(Making { recipe, bases })))
    }
}

/// Whether an entry is a delta that makes an empty object. C git indexes such a delta, but then fails to tell its kind
/// or size, so that a client cannot use it.
pub(super) fn makes_empty_object(pack: &Pack, position: u32, head: &EntryHead) -> bool {
    let is_small_delta = head.size <= EMPTY_DELTA_MAX && !matches!(head.kind, EntryKind::Whole(_));
    is_small_delta && {
        let id = pack.read_id_at(position);
        id.is_empty_blob() || id.is_empty_tree()
    }
}
