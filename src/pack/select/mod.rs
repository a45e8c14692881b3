//! Selection: which objects a fetch needs.
//!
//! In: names of what is wanted and of what the client has. Out: bits, one for each object of a pack that goes out. Contents of
//! blobs are never looked at.

use super::relatives::{Families, Relatives};
use crate::odb::closure::{Closure, Effort, Filter, Marks, Missing, Numbers, Search};
use crate::odb::ids::IdSet;
use crate::odb::{EntryHead, EntryKind, Location, Objects, PackId};
use crate::stream::Pulse;
use anyhow::Context;
use gix_hash::{ObjectId, oid};

/// What is to be selected.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// Objects the client asked for, any kind.
    pub wants: &'a [ObjectId],
    /// Objects the client is known to have, with everything behind them.
    pub common: &'a [ObjectId],
    /// Annotated tags to add when what they peel to is selected (include-tag, PO-04): tag, what it peels to.
    pub tags: &'a [(ObjectId, ObjectId)],
    /// What tags are said to peel to, which spares reading them; may be less than all.
    pub peeled: &'a [(ObjectId, ObjectId)],
    /// What is left out on purpose.
    pub filter: Option<&'a Filter>,
    /// Which trees and blobs may be missing: the client gets them elsewhere.
    pub missing: Missing,
    /// Whether deltas may rest on objects the client has but the pack lacks.
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
    /// In which object directory.
    pub directory: u32,
    /// Its number among those met, as [`Spot::Loose`] has it.
    pub number: u32,
}

/// An object, by where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spot {
    /// In a pack, at an index position.
    Packed(PackId, u32),
    /// In no pack: its number among those met.
    Loose(u32),
}

/// The objects that go out.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Packed ones.
    pub packed: Vec<Positions>,
    /// Loose ones.
    pub strays: Vec<Stray>,
    /// Objects the client is known to have, as delta bases (only with `thin`).
    pub bases: Vec<Positions>,
    /// Loose objects the client is known to have, the same way.
    pub loose_bases: Vec<Stray>,
    /// Names of blobs of which the same is true. Those that are versions of selected ones are also in the sets above.
    pub held_blobs: IdSet,
    /// Which selected objects and bases are versions of the same.
    pub relatives: Relatives,
    /// Selected ones that are stored whole, where there are several packs.
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
    /// Whether an object goes out, whichever of its copies was chosen.
    pub fn contains(&self, objects: &Objects, id: &oid) -> bool {
        self.is_packed(objects, id) || self.strays.iter().any(|stray| *stray.id == *id)
    }

    /// A loose object that goes out or that the client has, by its number.
    pub fn loose(&self, number: u32) -> Option<&Stray> {
        let find = |strays: &'_ [Stray]| strays.binary_search_by_key(&number, |stray| stray.number).ok();
        find(&self.strays)
            .map(|at| &self.strays[at])
            .or_else(|| find(&self.loose_bases).map(|at| &self.loose_bases[at]))
    }

    /// Whether an object goes out from a pack.
    pub fn is_packed(&self, objects: &Objects, id: &oid) -> bool {
        self.packed_at(objects, id).is_some()
    }

    /// Takes an object out; whether it was in.
    pub fn remove(&mut self, objects: &Objects, id: &oid) -> bool {
        if self.remove_packed(objects, id) {
            return true;
        }
        let Some(at) = self.strays.iter().position(|stray| *stray.id == *id) else { return false };
        self.strays.remove(at);
        self.count -= 1;
        true
    }

    /// The same, where it would go out from a pack.
    pub fn remove_packed(&mut self, objects: &Objects, id: &oid) -> bool {
        let Some((at, position)) = self.packed_at(objects, id) else { return false };
        self.packed[at].remove(position);
        self.count -= 1;
        true
    }

    /// The set an object is in, and its position there. An object is in one set at most.
    fn packed_at(&self, objects: &Objects, id: &oid) -> Option<(usize, u32)> {
        self.packed.iter().enumerate().find_map(|(at, positions)| {
            let position = objects.pack(positions.pack).position(id)?;
            positions.contains(position).then_some((at, position))
        })
    }
}

/// Selects everything reachable from the wants and not from the common objects (PO-01) that the filter lets pass.
///
/// # Errors
/// When an object is missing or corrupt, or the client has gone.
pub fn select(objects: &Objects, request: &Request<'_>, pulse: &mut dyn Pulse) -> anyhow::Result<Selection> {
    pulse.begin("Enumerating objects", None)?;
    if !request.common.is_empty() {
        // What is read here is read again when deltas are made of it.
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
    // git shows this stage too; here the counting is done already.
    pulse.begin("Counting objects", Some(count.into()))?;
    pulse.tick(count.into())?;
    pulse.end()?;
    // A base that a filter has left out would have to be fetched alone.
    let (held, held_blobs) = match request.thin && filter.leaves_trees() {
        true => (std::mem::take(&mut closure.held), std::mem::take(&mut closure.held_blobs)),
        false => Default::default(),
    };
    Ok(selection(objects, &closure, held, held_blobs, count))
}

/// What was found in the terms of packs; of what is `held` deltas may be made.
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
            // What cannot be read is found out in its turn.
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
