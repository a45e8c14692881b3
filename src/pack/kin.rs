//! Versions of an object that no walk had beside it: what the stored deltas of others, or its size, tell of them.
//!
//! In: what is selected, and an object that is stored as a delta on what the client will not have. Out: what it may rest on instead. Where
//! bitmaps told what is selected only trees at both ends of history were compared; what lies in between is known by none of its versions.

use super::select::{Selection, Spot};
use super::sources::Sources;
use crate::odb::{EntryHead, EntryKind, Header, Objects, Pack, PackId};
use gix_object::Kind;
use std::collections::HashMap;

/// So many pairs of versions are looked at.
const PAIRS_MAX: usize = 1 << 16;
/// So many deltas lie between an object and what it has in common with another version, at most: each has to be read.
const LINKS_MAX: usize = 8;
/// Trees are taken for versions of the same where their sizes differ by this part at most.
const ALIKE: u64 = 8;
/// Of more objects than these it is not asked whether they are trees.
const ASKED_MAX: usize = 512;
/// So many trees are remembered.
const TREES_MAX: usize = 64;

/// What was found out about versions.
#[derive(Default)]
pub(super) struct Kin {
    /// For entries of what is selected, and those they rest on, a version that the client has. Made when it is asked for.
    held: Option<HashMap<(PackId, u64), Spot>>,
    /// Trees of which no version was found, with their sizes.
    lone_trees: Vec<(u64, Spot)>,
    asked: usize,
}

impl Kin {
    /// What the client has of the family of entries that rest on one of these.
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

    /// For a tree, another one of about the same size that was asked about before: mostly both are roots.
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

/// The entry at an offset and those it rests on, by offset, as far as they are looked at.
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
