//! The packs from which objects are taken.
//!
//! In: a selection, and what has been planned and written so far. Out: whether a delta can be based on an object, and
//! where that was written. Only indexes are read here, never entries.

use super::select::{Positions, Selection, Spot, Stray};
use crate::odb::ids::IdSet;
use crate::odb::{Objects, Pack, PackId};
use anyhow::{Result, bail};
use gix_hash::{ObjectId, oid};
use std::collections::HashMap;
use std::sync::Arc;

/// Where the client finds the base of a stored delta.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// The entry is not a delta.
    None,
    /// Earlier in the new pack: the entry at this offset of the n-th source pack.
    Written(u32, u64),
    /// Later in the new pack. It is referred to by name.
    Later,
    /// The client has it.
    Held(Box<ObjectId>),
}

/// The packs from which objects are taken.
pub(super) struct Sources<'a> {
    objects: &'a Objects,
    packs: Vec<SourcePack<'a>>,
    /// The number of each pack, by its id: there may be hundreds.
    by_id: HashMap<PackId, u32>,
    bases: Vec<(Arc<Pack>, &'a Positions)>,
    /// The positions of bases, by pack.
    bases_by_id: HashMap<PackId, &'a Positions>,
    loose_bases: &'a [Stray],
    /// Blobs the client has; some of them are in `bases` too.
    held_blobs: Option<&'a IdSet>,
}

/// What is taken from one pack, and where it was written.
pub(super) struct SourcePack<'a> {
    /// The pack.
    pub pack: Arc<Pack>,
    /// The selected objects.
    pub positions: &'a Positions,
    /// The entries planned so far.
    offsets: Offsets,
    /// Where entries were written, in runs: from the first offset in the source on, entries are at the second offset in
    /// the new pack and following.
    runs: Vec<(u64, u64)>,
    /// Entries planned before their turn: source offset and new offset.
    early: HashMap<u64, u64>,
}

/// A set of offsets added in ascending order. Only the lower half of each is stored, as there are as many as objects.
/// If a damaged index has another order, some of them are not found.
#[derive(Default)]
struct Offsets {
    /// The lower 32 bits of each.
    low: Vec<u32>,
    /// For each value of the upper 32 bits, beginning with 0, where its offsets end.
    ends: Vec<usize>,
}

impl Offsets {
    /// An empty set with room for this many.
    fn of(objects: u64) -> Self {
        Offsets { low: Vec::with_capacity(usize::try_from(objects).unwrap_or(0)), ends: Vec::new() }
    }

    fn push(&mut self, offset: u64) {
        let high = upper(offset);
        if self.ends.len() <= high {
            self.ends.resize(high + 1, self.low.len());
        }
        self.low.push(offset as u32);
        self.ends[high] = self.low.len();
    }

    fn contains(&self, offset: u64) -> bool {
        let high = upper(offset);
        let Some(end) = self.ends.get(high) else { return false };
        let start = high.checked_sub(1).map_or(0, |before| self.ends[before]);
        let (same, low) = (self.low.get(start..*end).unwrap_or_default(), offset as u32);
        // Bases are mostly nearby.
        let mut near = 16;
        while near < same.len() && same[same.len() - near] > low {
            near *= 2;
        }
        same[same.len().saturating_sub(near)..].binary_search(&low).is_ok()
    }
}

/// The upper half of an offset. Existing packs are small enough for `ends` to stay short.
fn upper(offset: u64) -> usize {
    (offset >> 32) as usize
}

impl Positions {
    pub(super) fn len(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        // Most words are empty: a partial clone selects few of many objects.
        let words = self.bits.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(index, word)| {
            let first = index as u32 * 64;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        })
    }
}

impl SourcePack<'_> {
    /// Whether the entry at `offset` has been planned.
    fn has(&self, offset: u64) -> bool {
        self.offsets.contains(offset) || self.is_early(offset)
    }

    pub(super) fn is_early(&self, offset: u64) -> bool {
        !self.early.is_empty() && self.early.contains_key(&offset)
    }
}

impl<'a> Sources<'a> {
    /// Orders the packs. Large ones go first, so that a base which a small pack's delta needs has already been written
    /// if a large pack has it too. Packs of about the same size keep the order of the selection.
    pub(super) fn new(selection: &'a Selection, objects: &'a Objects, thin: bool) -> Self {
        let taken = |positions: &'a Positions| SourcePack {
            pack: objects.pack(positions.pack),
            positions,
            offsets: Offsets::of(positions.len()),
            runs: Vec::new(),
            early: HashMap::new(),
        };
        let mut packs: Vec<SourcePack<'_>> = selection.packed.iter().map(taken).collect();
        packs.sort_by_key(|taken| std::cmp::Reverse(magnitude(&taken.pack)));
        let (bases, loose_bases): (&[_], &[_]) =
            if thin { (&selection.bases, &selection.loose_bases) } else { (&[], &[]) };
        let by_id = (0..).zip(&packs).map(|(at, taken)| (taken.positions.pack, at)).collect();
        let bases_by_id = bases.iter().map(|positions| (positions.pack, positions)).collect();
        let bases = bases.iter().map(|positions| (objects.pack(positions.pack), positions)).collect();
        let held_blobs = Some(&selection.held_blobs).filter(|names| thin && !names.is_empty());
        Sources { objects, packs, by_id, bases, bases_by_id, loose_bases, held_blobs }
    }

    /// What is taken from the n-th pack; `None` after the last.
    pub(super) fn source_pack(&self, source: u32) -> Option<&SourcePack<'a>> {
        self.packs.get(source as usize)
    }

    /// The number of the pack, if the object is taken from it.
    pub(super) fn of(&self, pack: PackId, position: u32) -> Option<u32> {
        let source = *self.by_id.get(&pack)?;
        self.packs[source as usize].positions.contains(position).then_some(source)
    }

    /// Notes that the entry at `offset` of a pack has been planned in its turn.
    pub(super) fn note(&mut self, source: u32, offset: u64) {
        self.packs[source as usize].offsets.push(offset);
    }

    /// Notes that the entry at `offset` of a pack has been planned before its turn.
    pub(super) fn note_early(&mut self, source: u32, offset: u64) {
        self.packs[source as usize].early.entry(offset).or_insert(0);
    }

    /// The n-th pack.
    pub(super) fn pack(&self, source: u32) -> Arc<Pack> {
        Arc::clone(&self.packs[source as usize].pack)
    }

    /// Notes that the entry at `offset` of a pack was written at `place`.
    pub(super) fn put(&mut self, source: u32, offset: u64, place: u64) {
        let SourcePack { runs, early, .. } = &mut self.packs[source as usize];
        if let Some(early) = early.get_mut(&offset) {
            *early = place;
            return;
        }
        let shift = |run: &(u64, u64)| run.1.wrapping_sub(run.0);
        if runs.last().map(shift) != Some(place.wrapping_sub(offset)) {
            runs.push((offset, place));
        }
    }

    /// Where an entry was written.
    pub(super) fn place(&self, source: u32, offset: u64) -> Option<u64> {
        let SourcePack { runs, early, .. } = &self.packs[source as usize];
        if let Some(place) = early.get(&offset) {
            return Some(*place);
        }
        let (from, to) = runs[runs.partition_point(|run| run.0 <= offset).checked_sub(1)?];
        Some(to + (offset - from))
    }

    /// Where an object taken from a pack was written; `None` if it was not planned.
    pub(super) fn place_of(&self, pack: PackId, position: u32) -> Option<u64> {
        let (source, offset) = self.planned(pack, position)?;
        self.place(source, offset)
    }

    /// The entry of an object, if it has been planned.
    pub(super) fn planned(&self, pack: PackId, position: u32) -> Option<(u32, u64)> {
        let source = *self.by_id.get(&pack)?;
        let taken = &self.packs[source as usize];
        let offset = taken.pack.offset_at(position);
        taken.has(offset).then_some((source, offset))
    }

    /// Whether the client is known to have any object.
    pub(super) fn are_any_held(&self) -> bool {
        !self.bases.is_empty() || !self.loose_bases.is_empty() || self.held_blobs.is_some()
    }

    /// Whether the client is known to have an object.
    pub(super) fn is_held(&self, spot: Spot) -> bool {
        match spot {
            Spot::Packed(pack, position) => {
                self.bases_by_id.get(&pack).is_some_and(|positions| positions.contains(position))
                    || self
                        .held_blobs
                        .is_some_and(|names| names.contains(&self.objects.pack(pack).read_id_at(position)))
            }
            Spot::Loose(number) => self.loose_bases.binary_search_by_key(&number, |stray| stray.number).is_ok(),
        }
    }

    /// Where the base at `offset` of the same pack can be found; `None` if nowhere.
    pub(super) fn base_at(&self, source: u32, offset: u64) -> Result<Option<Base>> {
        let taken = &self.packs[source as usize];
        if taken.has(offset) {
            return Ok(Some(Base::Written(source, offset)));
        }
        if self.bases.is_empty() && self.held_blobs.is_none() && self.packs.len() == 1 {
            // It was not sent and cannot be anywhere else, so its name need not be looked up.
            return Ok(None);
        }
        match taken.pack.position_at_offset(offset) {
            Some(position) => Ok(self.base_elsewhere(source, position)),
            None => bail!("no entry at offset {offset} of {}", taken.pack.path().display()),
        }
    }

    /// Where the base with this name can be found.
    pub(super) fn base_named(&self, source: u32, id: &oid) -> Option<Base> {
        let taken = &self.packs[source as usize];
        let position = taken.pack.position(id)?;
        if !taken.positions.contains(position) {
            return self.base_elsewhere(source, position);
        }
        let offset = taken.pack.offset_at(position);
        Some(if taken.has(offset) { Base::Written(source, offset) } else { Base::Later })
    }

    /// Where a base can be found that is stored at `position` of a pack, but not sent from there.
    fn base_elsewhere(&self, source: u32, position: u32) -> Option<Base> {
        let id = &self.packs[source as usize].pack.read_id_at(position);
        let held = |(pack, positions): &(Arc<Pack>, &Positions)| {
            pack.position(id).is_some_and(|position| positions.contains(position))
        };
        if self.held_blobs.is_some_and(|names| names.contains(id)) || self.bases.iter().any(held) {
            return Some(Base::Held(Box::new(id.to_owned())));
        }
        // Another copy of it may have been sent from an earlier pack. One from this pack would not be a safe base: it
        // may itself be based on this object.
        let written = |(at, other): (u32, &SourcePack<'_>)| {
            let offset = other.pack.offset_at(other.pack.position(id)?);
            other.has(offset).then_some(Base::Written(at, offset))
        };
        (0..).zip(&self.packs[..source as usize]).find_map(written)
    }
}

/// The approximate size of a pack: the binary logarithm of its number of objects, plus one.
pub fn magnitude(pack: &Pack) -> u32 {
    u32::BITS - pack.len().leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_on_both_sides_of_four_gigabytes_are_found() {
        const HIGH: u64 = 1 << 32;
        let step = |n: u64| 12 + n * n * (HIGH / 500);
        let mut offsets = Offsets::of(100);
        for n in 0..100 {
            assert!(!offsets.contains(step(n)));
            offsets.push(step(n));
            for before in 0..=n {
                assert!(offsets.contains(step(before)), "{before} of {n}");
                assert!(!offsets.contains(step(before) + 1) && !offsets.contains(step(before) ^ HIGH << 9));
            }
        }
        offsets.push(5);
        assert!(!offsets.contains(HIGH) && !offsets.contains(HIGH << 8));
    }
}
