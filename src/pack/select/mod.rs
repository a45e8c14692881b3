//! Selection: which objects a fetch needs.
//!
//! In: the names of wanted objects and of objects the client has. Out: for each pack, a bit for each of its objects.
//! Blobs are never read.

use super::relatives::{Families, Relatives};
use crate::odb::closure::{Closure, Effort, Filter, Marks, Missing, Numbers, Search};
use crate::odb::ids::IdSet;
use crate::odb::{EntryHead, EntryKind, Location, Objects, PackId};
use crate::stream::Pulse;
use anyhow::Context;
use gix_hash::{ObjectId, oid};

/// What to select.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// Objects the client wants, of any kind.
    pub wants: &'a [ObjectId],
    /// Objects the client has, with everything reachable from them.
    pub common: &'a [ObjectId],
    /// Annotated tags to add if the objects they peel to are selected (include-tag, PO-04): each with what it peels to.
    pub tags: &'a [(ObjectId, ObjectId)],
    /// Tags with the objects they peel to, as recorded elsewhere, which saves reading them; need not be complete.
    pub peeled: &'a [(ObjectId, ObjectId)],
    /// The object filter.
    pub filter: Option<&'a Filter>,
    /// Which trees and blobs may be missing; the client gets those elsewhere.
    pub missing: Missing,
    /// Whether deltas may be based on objects that the client has but the pack lacks.
    pub thin: bool,
}

/// A set of index positions of one pack.
#[derive(Debug, Clone)]
pub struct Positions {
    /// The pack.
    pub pack: PackId,
    /// One bit for each index position.
    pub bits: Vec<u64>,
}

/// An object that is not in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray {
    /// Its name.
    pub id: ObjectId,
    /// The number of its object directory.
    pub directory: u32,
    /// Its number among the loose objects found, as in [`Spot::Loose`].
    pub number: u32,
}

/// The place of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spot {
    /// In a pack, at an index position.
    Packed(PackId, u32),
    /// Loose: its number among the loose objects found.
    Loose(u32),
}

/// The objects to send.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The packed objects.
    pub packed: Vec<Positions>,
    /// The loose objects.
    pub strays: Vec<Stray>,
    /// Packed objects the client has, as delta bases (only with `thin`).
    pub bases: Vec<Positions>,
    /// Loose objects the client has, likewise.
    pub loose_bases: Vec<Stray>,
    /// Names of blobs the client has, likewise. Those that are versions of selected blobs are also in the sets above.
    pub held_blobs: IdSet,
    /// Pairs of selected objects and bases that are versions of the same.
    pub relatives: Relatives,
    /// Selected objects that are stored whole, grouped by what they are versions of; only if there are several packs.
    pub families: Families,
    /// How many objects are selected.
    pub count: u32,
}

impl Positions {
    /// Whether a position is in the set.
    pub fn contains(&self, position: u32) -> bool {
        self.bits.get(position as usize / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    fn remove(&mut self, position: u32) {
        if let Some(word) = self.bits.get_mut(position as usize / 64) {
            *word &= !(1 << (position % 64));
        }
    }
}

impl Selection {
    /// Whether an object is selected, whichever copy of it was chosen.
    pub fn contains(&self, objects: &Objects, id: &oid) -> bool {
        self.is_packed(objects, id) || self.strays.iter().any(|stray| *stray.id == *id)
    }

    /// The selected loose object, or loose base, with this number.
    pub fn loose(&self, number: u32) -> Option<&Stray> {
        let find = |strays: &'_ [Stray]| strays.binary_search_by_key(&number, |stray| stray.number).ok();
        find(&self.strays)
            .map(|at| &self.strays[at])
            .or_else(|| find(&self.loose_bases).map(|at| &self.loose_bases[at]))
    }

    /// Whether an object is selected from a pack.
    pub fn is_packed(&self, objects: &Objects, id: &oid) -> bool {
        self.packed_at(objects, id).is_some()
    }

    /// Removes an object; returns whether it was selected.
    pub fn remove(&mut self, objects: &Objects, id: &oid) -> bool {
        if self.remove_packed(objects, id) {
            return true;
        }
        let Some(at) = self.strays.iter().position(|stray| *stray.id == *id) else { return false };
        self.strays.remove(at);
        self.count -= 1;
        true
    }

    /// Removes an object if it is selected from a pack; returns whether it was.
    pub fn remove_packed(&mut self, objects: &Objects, id: &oid) -> bool {
        let Some((at, position)) = self.packed_at(objects, id) else { return false };
        self.packed[at].remove(position);
        self.count -= 1;
        true
    }

    /// The set that contains an object, and its position there. An object is in at most one set.
    fn packed_at(&self, objects: &Objects, id: &oid) -> Option<(usize, u32)> {
        self.packed.iter().enumerate().find_map(|(at, positions)| {
            let position = objects.pack(positions.pack).position(id)?;
            positions.contains(position).then_some((at, position))
        })
    }
}

/// Selects everything reachable from the wants and not from the common objects (PO-01), as far as the filter lets it
/// pass.
///
/// # Errors
/// When an object is missing or corrupt, or the client has gone.
pub fn select(objects: &Objects, request: &Request<'_>, pulse: &mut dyn Pulse) -> anyhow::Result<Selection> {
    pulse.begin("Enumerating objects", None)?;
    if !request.common.is_empty() {
        // Objects read here are read again as bases when deltas are made.
        objects.expect_bases();
    }
    let all = Filter::default();
    let filter = request.filter.unwrap_or(&all);
    let search = Search {
        wants: request.wants,
        known: request.common,
        effort: Effort::Exact,
        filter,
        missing: request.missing,
        levels_max: None,
        peeled: request.peeled,
    };
    let mut closure = Closure::find(objects, &search, pulse)?;
    closure.add_tags(request.tags)?;
    let count = u32::try_from(closure.found.len()).context("more objects than a pack can hold")?;
    pulse.tick(count.into())?;
    pulse.end()?;
    // git shows this stage too; here the counting is already done.
    pulse.begin("Counting objects", Some(count.into()))?;
    pulse.tick(count.into())?;
    pulse.end()?;
    // A base that a filter left out would have to be fetched separately.
    let (held, held_blobs) = match request.thin && filter.leaves_trees() {
        true => (std::mem::take(&mut closure.held), std::mem::take(&mut closure.held_blobs)),
        false => Default::default(),
    };
    Ok(selection(objects, &closure, held, held_blobs, count))
}

/// Turns what was found into positions in packs; objects in `held` may be delta bases.
fn selection(objects: &Objects, closure: &Closure<'_>, mut held: Marks, held_blobs: IdSet, count: u32) -> Selection {
    let Closure { numbers, found, relatives, firsts, .. } = closure;
    let positions = |marks| numbers.by_pack(marks).map(|(pack, bits)| Positions { pack, bits }).collect::<Vec<_>>();
    let stray = |place: usize| {
        let (id, directory) = numbers.all_strays()[place];
        Stray { id, directory, number: place as u32 }
    };
    for (of, other) in relatives {
        if found.contains(*of) && held_blobs.contains(&numbers.read_id(*other)) {
            held.insert(*other);
        }
    }
    let spot = |number| match Numbers::stray_place(number) {
        Some(place) => Spot::Loose(place),
        None => match numbers.location(number) {
            Location::Packed { pack, position } => Spot::Packed(pack, position),
            Location::Loose(_) => unreachable!("it has no place among the loose ones"),
        },
    };
    let of_use = |(of, other): &&(u32, u32)| found.contains(*of) && (found.contains(*other) || held.contains(*other));
    let packed = positions(found);
    let stored_whole = |number| {
        let Location::Packed { pack, position } = numbers.location(number) else { return None };
        let pack = objects.pack(pack);
        match pack.head_at(pack.offset_at(position)) {
            Ok(EntryHead { kind: EntryKind::Whole(_), size, .. }) => Some(size),
            // An unreadable entry is reported at its turn.
            _ => None,
        }
    };
    let whole = |(number, first)| Some((first, stored_whole(number)?, spot(number)));
    let families = match packed.len() {
        0 | 1 => Families::default(),
        _ => firsts.iter().filter(|(number, _)| found.contains(*number)).filter_map(whole).collect(),
    };
    Selection {
        packed,
        strays: Numbers::strays(found).map(stray).collect(),
        bases: positions(&held),
        loose_bases: Numbers::strays(&held).map(stray).collect(),
        held_blobs,
        relatives: relatives.iter().filter(of_use).map(|(of, other)| (spot(*of), spot(*other))).collect(),
        families,
        count,
    }
}
