//! Delta bases for objects of which the walk saw no other version, guessed from stored deltas or from sizes.
//!
//! In: a selection, and an object stored as a delta on an object that the client will not have. Out: another possible
//! base. When bitmaps made the selection, only trees at both ends of the history were compared, so objects in between
//! have no known versions. Nothing here checks that a guess is a good base.

use super::select::{Selection, Spot};
use super::sources::Sources;
use crate::odb::{EntryHead, EntryKind, Header, Objects, Pack, PackId};
use gix_object::Kind;
use std::collections::HashMap;

/// At most this many pairs of versions are examined.
const PAIRS_MAX: usize = 1 << 16;
/// The most deltas between an object and the entry it shares with another version; each of them has to be read.
const LINKS_MAX: usize = 8;
/// Trees count as alike if their sizes differ by at most one part in this many.
const ALIKE: u64 = 8;
/// Only this many objects are examined for being trees.
const ASKED_MAX: usize = 512;
/// The most trees that are remembered.
const TREES_MAX: usize = 64;

/// What has been found out about versions.
#[derive(Default)]
pub(super) struct Kin {
    /// For entries of selected objects, and those below them in their delta chains: a version that the client has.
    /// Filled on first use.
    held: Option<HashMap<(PackId, u64), Spot>>,
    /// Trees without a known version, with their sizes.
    lone_trees: Vec<(u64, Spot)>,
    asked: usize,
}

impl Kin {
    /// A version that the client has in the family of entries whose delta chains contain one of these bases.
    pub(super) fn held(
        &mut self,
        (pack, bases): (PackId, &[u64]),
        selection: &Selection,
        sources: &Sources<'_>,
        objects: &Objects,
    ) -> Option<Spot> {
        let held = self.held.get_or_insert_with(|| {
            let mut held = HashMap::new();
            for (of, version) in selection.relatives.pairs().take(PAIRS_MAX) {
                if let Spot::Packed(pack, position) = of
                    && sources.is_held(version)
                    && !sources.is_held(of)
                {
                    let stored = objects.pack(pack);
                    for offset in chain(&stored, stored.offset_at(position)) {
                        held.entry((pack, offset)).or_insert(version);
                    }
                }
            }
            held
        });
        bases.iter().find_map(|offset| held.get(&(pack, *offset)).copied())
    }

    /// For a tree: the remembered tree of the most similar size; mostly both are root trees.
    pub(super) fn alike(&mut self, of: Spot, header: impl FnOnce() -> Option<Header>) -> Option<Spot> {
        self.asked += 1;
        let is_asked = self.asked <= ASKED_MAX;
        let header = is_asked.then(header).flatten().filter(|header| header.kind == Kind::Tree)?;
        let apart = |(size, _): &&(u64, Spot)| size.abs_diff(header.size);
        let nearest = self.lone_trees.iter().min_by_key(apart).filter(|tree| apart(tree) <= header.size / ALIKE);
        let alike = nearest.map(|(_, spot)| *spot);
        if self.lone_trees.len() < TREES_MAX {
            self.lone_trees.push((header.size, of));
        }
        alike
    }
}

/// The entry at an offset and the entries below it in its delta chain, by offset, up to [`LINKS_MAX`] deltas.
pub(super) fn chain(pack: &Pack, mut offset: u64) -> Vec<u64> {
    let mut offsets = vec![offset];
    while offsets.len() <= LINKS_MAX
        && let Ok(EntryHead { kind: EntryKind::OfsDelta(base), .. }) = pack.head_at(offset)
    {
        offset = base;
        offsets.push(offset);
    }
    offsets
}
