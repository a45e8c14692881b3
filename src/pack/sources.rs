//! The packs that objects are taken from.
//!
//! In: a selection, and what has been planned and written so far. Out: whether an object is there for a delta to rest on, and where it came
//! to lie. Nothing is read here but indexes.

use super::select::{Positions, Selection, Spot, Stray};
use crate::odb::ids::IdSet;
use crate::odb::{Objects, Pack, PackId};
use anyhow::{Result, bail};
use gix_hash::{ObjectId, oid};
use std::collections::HashMap;
use std::sync::Arc;

/// Where the base of a stored delta is, for the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// There is none: it is no delta.
    None,
    /// In this pack: the entry at this offset of the n-th of the packs.
    Written(u32, u64),
    /// In this pack, further on. It is known by name.
    Later,
    /// The client has it.
    Held(Box<ObjectId>),
}

/// The packs objects are taken from.
pub(super) struct Sources<'a> {
    objects: &'a Objects,
    packs: Vec<Taken<'a>>,
    /// Where each stands among them: there may be hundreds.
    by_id: HashMap<PackId, u32>,
    bases: Vec<(Arc<Pack>, &'a Positions)>,
    /// The same of bases.
    bases_by_id: HashMap<PackId, &'a Positions>,
    loose_bases: &'a [Stray],
    /// Blobs the client has, some of them in `bases` too.
    held_blobs: Option<&'a IdSet>,
}

/// What is taken from one pack, and where it came to lie.
pub(super) struct Taken<'a> {
    /// The pack.
    pub pack: Arc<Pack>,
    /// What goes out of it.
    pub positions: &'a Positions,
    /// The entries planned so far.
    offsets: Offsets,
    /// From this offset on, entries stand from that offset on.
    runs: Vec<(u64, u64)>,
    /// Entries that were planned before their turn, by offset, and where they stand.
    early: HashMap<u64, u64>,
}

/// Offsets that were noted in ascending order: half of each, because there are as many as objects. Where a damaged index has another
/// order some of them are not found.
#[derive(Default)]
struct Offsets {
    /// What 32 bits have of each.
    low: Vec<u32>,
    /// For each upper half, beginning with 0, where its offsets end.
    ends: Vec<usize>,
}

impl Offsets {
    /// Of so many.
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
        // Bases are near, mostly.
        let mut near = 16;
        while near < same.len() && same[same.len() - near] > low {
            near *= 2;
        }
        same[same.len().saturating_sub(near)..].binary_search(&low).is_ok()
    }
}

/// The upper half of an offset. Packs of so many bytes that these would take room do not exist.
fn upper(offset: u64) -> usize {
    (offset >> 32) as usize
}

impl Positions {
    pub(super) fn len(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        // Mostly there are none in a word: a partial clone asks for few of many objects.
        let words = self.bits.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(index, word)| {
            let first = index as u32 * 64;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        })
    }
}

impl Taken<'_> {
    /// Whether the entry at `offset` is planned already.
    fn has(&self, offset: u64) -> bool {
        self.offsets.contains(offset) || self.is_early(offset)
    }

    pub(super) fn is_early(&self, offset: u64) -> bool {
        !self.early.is_empty() && self.early.contains_key(&offset)
    }
}

impl<'a> Sources<'a> {
    /// Large packs go first: what small ones repeat is written when their deltas need it. Of those that are about as large, the order of the
    /// selection holds.
    pub(super) fn new(selection: &'a Selection, objects: &'a Objects, thin: bool) -> Self {
        let taken = |positions: &'a Positions| Taken {
            pack: objects.pack(positions.pack),
            positions,
            offsets: Offsets::of(positions.len()),
            runs: Vec::new(),
            early: HashMap::new(),
        };
        let mut packs: Vec<Taken<'_>> = selection.packed.iter().map(taken).collect();
        packs.sort_by_key(|taken| std::cmp::Reverse(magnitude(&taken.pack)));
        let (bases, loose_bases): (&[_], &[_]) =
            if thin { (&selection.bases, &selection.loose_bases) } else { (&[], &[]) };
        let by_id = (0..).zip(&packs).map(|(at, taken)| (taken.positions.pack, at)).collect();
        let bases_by_id = bases.iter().map(|positions| (positions.pack, positions)).collect();
        let bases = bases.iter().map(|positions| (objects.pack(positions.pack), positions)).collect();
        let held_blobs = Some(&selection.held_blobs).filter(|names| thin && !names.is_empty());
        Sources { objects, packs, by_id, bases, bases_by_id, loose_bases, held_blobs }
    }

    /// What is taken from the n-th pack; `None` behind the last.
    pub(super) fn taken(&self, source: u32) -> Option<&Taken<'a>> {
        self.packs.get(source as usize)
    }

    /// Which pack an object is taken from, if it is from this one.
    pub(super) fn of(&self, pack: PackId, position: u32) -> Option<u32> {
        let source = *self.by_id.get(&pack)?;
        self.packs[source as usize].positions.contains(position).then_some(source)
    }

    /// Notes that the entry at `offset` of a pack is planned, in its turn.
    pub(super) fn note(&mut self, source: u32, offset: u64) {
        self.packs[source as usize].offsets.push(offset);
    }

    /// The same before its turn.
    pub(super) fn note_early(&mut self, source: u32, offset: u64) {
        self.packs[source as usize].early.entry(offset).or_insert(0);
    }

    /// The n-th pack.
    pub(super) fn pack(&self, source: u32) -> Arc<Pack> {
        Arc::clone(&self.packs[source as usize].pack)
    }

    /// Notes that the entry at `offset` of a pack stands at `place` now.
    pub(super) fn put(&mut self, source: u32, offset: u64, place: u64) {
        let Taken { runs, early, .. } = &mut self.packs[source as usize];
        if let Some(early) = early.get_mut(&offset) {
            *early = place;
            return;
        }
        let shift = |run: &(u64, u64)| run.1.wrapping_sub(run.0);
        if runs.last().map(shift) != Some(place.wrapping_sub(offset)) {
            runs.push((offset, place));
        }
    }

    /// Where an entry that was written stands.
    pub(super) fn place(&self, source: u32, offset: u64) -> Option<u64> {
        let Taken { runs, early, .. } = &self.packs[source as usize];
        if let Some(place) = early.get(&offset) {
            return Some(*place);
        }
        let (from, to) = runs[runs.partition_point(|run| run.0 <= offset).checked_sub(1)?];
        Some(to + (offset - from))
    }

    /// Where an object that was taken from a pack stands; `None` where it was not.
    pub(super) fn place_of(&self, pack: PackId, position: u32) -> Option<u64> {
        let (source, offset) = self.planned(pack, position)?;
        self.place(source, offset)
    }

    /// The entry of an object, if it is planned already.
    pub(super) fn planned(&self, pack: PackId, position: u32) -> Option<(u32, u64)> {
        let source = *self.by_id.get(&pack)?;
        let taken = &self.packs[source as usize];
        let offset = taken.pack.offset_at(position);
        taken.has(offset).then_some((source, offset))
    }

    /// Whether it is known of any object that the client has it.
    pub(super) fn are_any_held(&self) -> bool {
        !self.bases.is_empty() || !self.loose_bases.is_empty() || self.held_blobs.is_some()
    }

    /// Whether the client has an object.
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

    /// Where the base of a delta is: at `offset` of the same pack. `None`: nowhere.
    pub(super) fn base_at(&self, source: u32, offset: u64) -> Result<Option<Base>> {
        let taken = &self.packs[source as usize];
        if taken.has(offset) {
            return Ok(Some(Base::Written(source, offset)));
        }
        if self.bases.is_empty() && self.held_blobs.is_none() && self.packs.len() == 1 {
            // It was not sent, and there is nowhere else where it could be. Its name is not looked for.
            return Ok(None);
        }
        match taken.pack.position_at_offset(offset) {
            Some(position) => Ok(self.base_elsewhere(source, position)),
            None => bail!("no entry at offset {offset} of {}", taken.pack.path().display()),
        }
    }

    /// The same for a base given by name.
    pub(super) fn base_named(&self, source: u32, id: &oid) -> Option<Base> {
        let taken = &self.packs[source as usize];
        let position = taken.pack.position(id)?;
        if !taken.positions.contains(position) {
            return self.base_elsewhere(source, position);
        }
        let offset = taken.pack.offset_at(position);
        Some(if taken.has(offset) { Base::Written(source, offset) } else { Base::Later })
    }

    /// The base is stored at `position` of a pack, but not sent from there.
    fn base_elsewhere(&self, source: u32, position: u32) -> Option<Base> {
        let id = &self.packs[source as usize].pack.read_id_at(position);
        let held = |(pack, positions): &(Arc<Pack>, &Positions)| {
            pack.position(id).is_some_and(|position| positions.contains(position))
        };
        if self.held_blobs.is_some_and(|names| names.contains(id)) || self.bases.iter().any(held) {
            return Some(Base::Held(Box::new(id.to_owned())));
        }
        // Another copy of it may have been taken. One from this pack would be no safe base: it may rest on this object.
        let written = |(at, other): (u32, &Taken<'_>)| {
            let offset = other.pack.offset_at(other.pack.position(id)?);
            other.has(offset).then_some(Base::Written(at, offset))
        };
        (0..).zip(&self.packs[..source as usize]).find_map(written)
    }
}

/// How large a pack is, roughly.
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
