//! The kind of each object, as bits.
//!
//! In: the objects of a pack or of a multi-pack-index. Out: four sets. The kind is taken from entry headers, for deltas
//! from those of their bases; nothing is inflated.

use crate::odb::Objects;
use crate::odb::bitmap::{Bits, Order};
use crate::odb::packs::{EntryKind, Pack};
use anyhow::{Context, Result};
use gix_object::Kind;

/// Commits, trees, blobs, tags.
pub(super) const KINDS: [Kind; 4] = [Kind::Commit, Kind::Tree, Kind::Blob, Kind::Tag];

/// The objects of each of [`KINDS`].
///
/// # Errors
/// When an object cannot be read.
pub(super) fn of_all(objects: &Objects, order: &Order, positions: &[u32]) -> Result<[Bits; 4]> {
    let mut all = [(); 4].map(|()| Bits::none(order.len()));
    let mut known: Option<(u32, Kinds)> = None;
    for (rank, &position) in (0..).zip(positions) {
        let (number, offset) = order.place(position);
        // Objects of one pack are adjacent.
        let kinds = match &mut known {
            Some((of, kinds)) if *of == number => kinds,
            _ => {
                let pack = order.packs().get(number as usize).context("an object lies in no pack")?;
                &mut known.insert((number, Kinds::of(objects, pack)?)).1
            }
        };
        let kind = kinds.at(offset).with_context(|| format!("no entry at offset {offset} of pack {number}"))?;
        let nth = KINDS.iter().position(|other| *other == kind).expect("all are listed");
        all[nth].insert(rank);
    }
    Ok(all)
}

/// The kinds of a pack's entries, sorted by offset.
struct Kinds {
    offsets: Vec<u64>,
    kinds: Vec<Kind>,
}

impl Kinds {
    fn of(objects: &Objects, pack: &Pack) -> Result<Self> {
        let order = pack.by_offset();
        let offsets: Vec<u64> = order.iter().map(|position| pack.offset_at(position)).collect();
        let mut found = Kinds { offsets, kinds: Vec::with_capacity(pack.len() as usize) };
        for position in order.iter() {
            let kind = match pack.head_at(pack.offset_at(position)).map(|head| head.kind) {
                Ok(EntryKind::Whole(kind)) => Some(kind),
                Ok(EntryKind::OfsDelta(offset)) => found.at(offset),
                Ok(EntryKind::RefDelta(id)) => pack.position(&id).and_then(|base| found.at(pack.offset_at(base))),
                // Another copy may be sound.
                Err(_) => None,
            };
            let kind = match kind {
                Some(kind) => kind,
                None => {
                    let id = pack.id_at(position);
                    objects.header(id)?.with_context(|| format!("object {id} has vanished"))?.kind
                }
            };
            found.kinds.push(kind);
        }
        Ok(found)
    }

    /// The kind of the entry at an offset, if it is among those already done.
    fn at(&self, offset: u64) -> Option<Kind> {
        // Bases are usually near.
        let done = self.kinds.len();
        let mut near = 16;
        while near < done && self.offsets[done - near] > offset {
            near *= 2;
        }
        let from = done.saturating_sub(near);
        let found = self.offsets[from..done].binary_search(&offset).ok()?;
        Some(self.kinds[from + found])
    }
}
