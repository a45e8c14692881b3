//! Objects as numbers, and sets of them as bits.
//!
//! In: object IDs. Out: 32-bit numbers; each pack has a range of them, in the order of its index. Only the edges of a
//! computation deal with IDs; inside there are only numbers.

use crate::odb::bases::PlaceHasher;
use crate::odb::bitmap::{Bits, Order};
use crate::odb::ids::{IdSet, are_same};
use crate::odb::{EntryKind, Location, Objects, Pack, PackId, StoredBitmaps};
use anyhow::{Context, Result, bail};
use gix_hash::{ObjectId, oid};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;
use std::sync::Arc;

/// Numbers from here on are objects that are in no pack.
const STRAYS: u32 = 1 << 31;
/// Slots for recently seen IDs, at first and at most. Trees repeat their neighbours' entries, so most look-ups end
/// here. The table grows where many IDs are looked up.
const RECENT_FIRST: usize = 1 << 11;
const RECENT_MOST: usize = 1 << 15;
/// Not the number of any object.
const NOTHING: u32 = u32::MAX;

/// The numbers of one pack's objects, each `first` plus the index position.
struct Range {
    id: PackId,
    pack: Arc<Pack>,
    first: u32,
    len: u32,
}

/// Numbers objects as they are met. An object has one number, however many copies are stored.
pub struct Numbers<'a> {
    objects: &'a Objects,
    ranges: Vec<Range>,
    by_pack: HashMap<PackId, usize, BuildHasherDefault<PlaceHasher>>,
    end: u32,
    strays: Vec<(ObjectId, u32)>,
    /// Objects found outside the first pack, in the form of `recent`: another look-up might find another copy.
    others: Vec<u64>,
    others_len: usize,
    /// Each slot has the tag and the number of an ID, see [`tagged`], or 0. The slot is chosen by the tag too, so an ID
    /// is rarely compared without need.
    recent: Vec<u64>,
    /// How many look-ups did not find their ID in `recent`.
    missed: usize,
    /// The multi-pack-index whose packs have the first ranges. It decides which copy of an object counts.
    first: Option<Rc<StoredBitmaps>>,
}

impl<'a> Numbers<'a> {
    /// Starts with no numbers given.
    pub fn new(objects: &'a Objects) -> Self {
        Numbers {
            objects,
            ranges: Vec::new(),
            by_pack: HashMap::default(),
            end: 0,
            strays: Vec::new(),
            others: Vec::new(),
            others_len: 0,
            recent: vec![0; RECENT_FIRST],
            missed: 0,
            first: None,
        }
    }

    /// Gives the first ranges to the packs of the bitmaps, so that bits can become numbers. No number may have been
    /// given before.
    ///
    /// # Errors
    /// When there are more objects than numbers.
    pub(super) fn begin_with(&mut self, stored: &Rc<StoredBitmaps>) -> Result<()> {
        assert!(self.ranges.is_empty(), "no number has been given");
        for pack in stored.order.packs() {
            self.range(pack.id())?;
        }
        if let Order::Midx(_) = stored.order {
            self.first = Some(Rc::clone(stored));
        }
        Ok(())
    }

    /// The numbers of the objects whose bits are set. Numbering must have begun with the packs of `order`.
    ///
    /// # Errors
    /// When the order of the bits is damaged.
    pub(super) fn of_bits(&self, order: &Order, bits: &Bits) -> Result<Marks> {
        let mut marks = Marks { packed: vec![0; self.end as usize / 64], strays: Vec::new() };
        let ranges = &self.ranges[..order.packs().len()];
        let stored: u64 = ranges.iter().map(|range| u64::from(range.len)).sum();
        let absent = stored.saturating_sub(bits.len().into());
        // If most bits are set, it is faster to find the others.
        let by_others = absent == 0 || absent < stored / 2 && matches!(order, Order::Pack(_));
        if by_others {
            for range in ranges {
                let words = &mut marks.packed[range.first as usize / 64..][..range.len.div_ceil(64) as usize];
                words.fill(u64::MAX);
                if let (Some(last), used @ 1..) = (words.last_mut(), range.len % 64) {
                    *last >>= 64 - used;
                }
            }
        }
        let mut flip = |position: u32| marks.packed[position as usize / 64] ^= 1 << (position % 64);
        if let Order::Pack(pack) = order
            && absent > 0
        {
            let positions = pack.by_offset_unchecked();
            match by_others {
                true => bits.others(stored as u32).filter_map(|rank| positions.get(rank)).for_each(&mut flip),
                false => bits.iter().filter_map(|rank| positions.get(rank)).for_each(&mut flip),
            }
        }
        // The counts differ for a multi-pack-index, and where damage makes two bits name the same object.
        if marks.len() != u64::from(bits.len()) {
            marks.packed.fill(0);
            self.each_of_bits(order, bits, |number| marks.packed[number as usize / 64] |= 1 << (number % 64))?;
        }
        Ok(marks)
    }

    /// Calls `each` with the same numbers in bit order, which is the order of the packs.
    ///
    /// # Errors
    /// As [`Numbers::of_bits`].
    pub(super) fn each_of_bits(&self, order: &Order, bits: &Bits, mut each: impl FnMut(u32)) -> Result<()> {
        if let Order::Pack(pack) = order {
            let positions = pack.by_offset();
            bits.iter().filter_map(|rank| positions.get(rank)).for_each(each);
            return Ok(());
        }
        let (mut last, mut at) = (None, 0);
        for rank in bits.iter() {
            let position = order.position_at(rank).context("stands for no object")?;
            let (pack, offset) = order.place(position);
            let range = self.ranges[..order.packs().len()].get(pack as usize).context("an object lies in no pack")?;
            if last.replace(pack) != Some(pack) {
                at = 0;
            }
            // Skipped entries either have no bit set or are copies that do not count.
            let positions = range.pack.by_offset();
            let placed = |at: u32| positions.get(at).map(|position| (range.pack.offset_at(position), position));
            while placed(at).is_some_and(|(before, _)| before < offset) {
                at += 1;
            }
            match placed(at) {
                Some((there, position)) if there == offset => each(range.first + position),
                Some(_) | None => bail!("no entry begins at offset {offset} of pack {pack}"),
            }
        }
        Ok(())
    }

    /// The database that the numbers refer to.
    pub fn objects(&self) -> &'a Objects {
        self.objects
    }

    /// The number of an object, if it exists. As in git, the empty tree always exists.
    ///
    /// # Errors
    /// When an index cannot be read, or there are more objects than numbers.
    pub fn of(&mut self, id: &oid) -> Result<Option<u32>> {
        let tag = tag(id);
        let recent = self.recent[tag as usize % self.recent.len()];
        if (recent >> 32) as u32 == tag && recent != 0 {
            let recent = recent as u32 - 1;
            if are_same(&self.read_id(recent), id) {
                return Ok(Some(recent));
            }
        }
        let number = match self.other(id, tag) {
            Some(number) => number,
            None => match self.locate(id, tag)? {
                Some(number) => number,
                None => return Ok(None),
            },
        };
        self.keep_recent(tagged(number, tag));
        Ok(Some(number))
    }

    /// Adds an entry in the form of [`tagged`] to `recent`.
    fn keep_recent(&mut self, name: u64) {
        let slot = |name: u64, slots: usize| (name >> 32) as usize % slots;
        self.missed += 1;
        let slots = 4 * self.recent.len();
        if 8 * self.missed > slots && slots <= RECENT_MOST {
            for name in std::mem::replace(&mut self.recent, vec![0; slots]) {
                self.recent[slot(name, slots)] = name;
            }
        }
        let slot = slot(name, self.recent.len());
        self.recent[slot] = name;
    }

    /// Like [`Numbers::of`], where the pack and position of one copy may already be known.
    ///
    /// # Errors
    /// As [`Numbers::of`].
    pub(super) fn of_placed(&mut self, id: &oid, place: Option<(PackId, u32)>) -> Result<Option<u32>> {
        match (place, self.ranges.first()) {
            // An object in the first pack has its number there, unless a copy elsewhere was met before.
            (Some((pack, position)), Some(first))
                if first.id == pack && self.first.is_none() && self.others.is_empty() =>
            {
                Ok(Some(first.first + position))
            }
            _ => self.of(id),
        }
    }

    /// The number of an object in the first multi-pack-index.
    fn in_first(&self, id: &oid) -> Option<u32> {
        let order = &self.first.as_ref()?.order;
        let (pack, _) = order.place(order.position(id)?);
        let range = self.ranges[..order.packs().len()].get(pack as usize)?;
        Some(range.first + range.pack.position(id)?)
    }

    fn locate(&mut self, id: &oid, tag: u32) -> Result<Option<u32>> {
        if let Some(number) = self.in_first(id) {
            return Ok(Some(number));
        }
        let number = match self.objects.locate(id)? {
            Some(Location::Packed { pack, position }) => {
                let at = match self.by_pack.get(&pack) {
                    Some(at) => *at,
                    None => self.range(pack)?,
                };
                let first = &self.ranges[0];
                match if at == 0 { Some(position) } else { first.pack.position(id) } {
                    Some(position) => return Ok(Some(first.first + position)),
                    None => self.ranges[at].first + position,
                }
            }
            Some(Location::Loose(directory)) => self.stray(id, directory)?,
            None if id.is_empty_tree() => self.stray(id, 0)?,
            None => return Ok(None),
        };
        self.keep_other(tagged(number, tag));
        Ok(Some(number))
    }

    fn other(&self, id: &oid, tag: u32) -> Option<u32> {
        let mut at = tag as usize;
        loop {
            // The table has no slots, or the slot is empty.
            let name = *self.others.get(at & self.others.len().wrapping_sub(1))?;
            let number = (name as u32).checked_sub(1)?;
            if (name >> 32) as u32 == tag && are_same(&self.read_id(number), id) {
                return Some(number);
            }
            at += 1;
        }
    }

    fn keep_other(&mut self, name: u64) {
        if self.others_len * 2 >= self.others.len() {
            let larger = vec![0; (self.others.len() * 2).max(1 << 10)];
            for name in std::mem::replace(&mut self.others, larger) {
                if name != 0 {
                    self.put_other(name);
                }
            }
        }
        self.put_other(name);
        self.others_len += 1;
    }

    fn put_other(&mut self, name: u64) {
        let last = self.others.len() - 1;
        let mut at = (name >> 32) as usize & last;
        while self.others[at] != 0 {
            at = (at + 1) & last;
        }
        self.others[at] = name;
    }

    /// Adds a range for a pack met for the first time. It begins at a full word, so that sets can be split by pack.
    fn range(&mut self, id: PackId) -> Result<usize> {
        let pack = self.objects.pack(id);
        let (first, len) = (self.end, pack.len());
        let end = first.checked_add(len).and_then(|end| end.checked_next_multiple_of(64));
        match end {
            Some(end) if end <= STRAYS => self.end = end,
            _ => bail!("more than {STRAYS} objects in packs"),
        }
        self.ranges.push(Range { id, pack, first, len });
        self.by_pack.insert(id, self.ranges.len() - 1);
        Ok(self.ranges.len() - 1)
    }

    fn stray(&mut self, id: &oid, directory: u32) -> Result<u32> {
        let number = match u32::try_from(self.strays.len()) {
            Ok(index) if index < STRAYS - 1 => STRAYS + index,
            _ => bail!("more than {STRAYS} loose objects"),
        };
        self.strays.push((id.to_owned(), directory));
        Ok(number)
    }

    fn range_of(&self, number: u32) -> &Range {
        &self.ranges[self.ranges.partition_point(|range| range.first <= number) - 1]
    }

    /// The position of an object in the index of `order`, with whose packs the numbering began.
    pub(super) fn position(&self, order: &Order, id: &oid, number: u32) -> Option<u32> {
        match order {
            Order::Pack(pack) => (number < pack.len()).then_some(number),
            Order::Midx(_) => order.position(id),
        }
    }

    /// Whether objects of more than one pack have numbers.
    pub(super) fn have_several_packs(&self) -> bool {
        self.ranges.len() > 1
    }

    /// Whether all numbered objects are in one pack.
    pub(super) fn are_all_together(&self) -> bool {
        self.ranges.len() <= 1 && self.strays.is_empty()
    }

    /// Whether two objects are in the same pack.
    pub fn are_together(&self, one: u32, other: u32) -> bool {
        one < STRAYS && other < STRAYS && self.range_of(one).first == self.range_of(other).first
    }

    /// The ID of a numbered object.
    pub fn id(&self, number: u32) -> &oid {
        if number >= STRAYS {
            return &self.strays[(number - STRAYS) as usize].0;
        }
        let range = self.range_of(number);
        range.pack.id_at(number - range.first)
    }

    /// Like [`Numbers::id`], for a caller that looks at the ID right away.
    pub fn read_id(&self, number: u32) -> ObjectId {
        if number >= STRAYS {
            return self.strays[(number - STRAYS) as usize].0;
        }
        let range = self.range_of(number);
        range.pack.read_id_at(number - range.first)
    }

    /// Where the object is stored.
    pub fn location(&self, number: u32) -> Location {
        if number >= STRAYS {
            return Location::Loose(self.strays[(number - STRAYS) as usize].1);
        }
        let range = self.range_of(number);
        Location::Packed { pack: range.id, position: number - range.first }
    }

    /// A sort key by place: reading in its order goes through each pack from its beginning.
    pub(super) fn stored_at(&self, number: u32) -> (u32, u64) {
        if number >= STRAYS {
            return (number, 0);
        }
        let range = self.range_of(number);
        (range.first, range.pack.offset_at(number - range.first))
    }

    /// The delta base of an object that is a delta on an object of its own pack.
    pub(super) fn base(&self, number: u32) -> Option<u32> {
        let (_, offset) = self.base_stored_at(number)?;
        let range = self.range_of(number);
        Some(range.first + range.pack.position_at_offset(offset)?)
    }

    /// Where the delta base of an object is stored, if it is in the same pack.
    pub(super) fn base_stored_at(&self, number: u32) -> Option<(u32, u64)> {
        if number >= STRAYS {
            return None;
        }
        let range = self.range_of(number);
        // An error is reported when the object is read.
        let head = range.pack.head_at(range.pack.offset_at(number - range.first)).ok()?;
        match head.kind {
            EntryKind::Whole(_) => None,
            EntryKind::OfsDelta(base) => Some((range.first, base)),
            EntryKind::RefDelta(base) => Some((range.first, range.pack.offset_at(range.pack.position(&base)?))),
        }
    }

    /// Removes the objects with these IDs from a set. Returns how many were removed.
    pub(super) fn remove(&self, marks: &mut Marks, names: &IdSet) -> u64 {
        if names.is_empty() {
            return 0;
        }
        let gone: Vec<u32> = marks.iter().filter(|number| names.contains(&self.read_id(*number))).collect();
        gone.iter().for_each(|number| marks.remove(*number));
        gone.len() as u64
    }

    /// Reads an object into `buffer`. The empty tree need not be stored.
    ///
    /// # Errors
    /// When the object is corrupt, too large, or has vanished.
    pub fn read(&self, number: u32, buffer: &mut Vec<u8>) -> Result<gix_object::Kind> {
        let id = self.id(number);
        if number >= STRAYS && id.is_empty_tree() {
            buffer.clear();
            return Ok(gix_object::Kind::Tree);
        }
        self.objects.find_at(self.location(number), id, buffer)
    }

    /// Like [`Numbers::read`], sharing the content with the delta-base cache; for trees.
    ///
    /// # Errors
    /// As [`Numbers::read`].
    pub(super) fn share(&self, number: u32) -> Result<(gix_object::Kind, Rc<Vec<u8>>)> {
        let id = self.id(number);
        if number >= STRAYS && id.is_empty_tree() {
            return Ok((gix_object::Kind::Tree, Rc::default()));
        }
        self.objects.share_at(self.location(number), id)
    }

    /// The size of the object, without reading its content.
    ///
    /// # Errors
    /// When the object is corrupt or has vanished.
    pub fn size(&self, number: u32) -> Result<u64> {
        self.objects.size_at(self.location(number), self.id(number))
    }

    /// The packed members of a set: for each pack that has some, one bit per index position.
    pub fn by_pack<'s>(&'s self, marks: &'s Marks) -> impl Iterator<Item = (PackId, Vec<u64>)> + 's {
        self.ranges.iter().filter_map(|range| {
            let words = (range.first / 64) as usize..(range.first / 64) as usize + range.len.div_ceil(64) as usize;
            let known = marks.packed.get(words.start..words.end.min(marks.packed.len())).unwrap_or_default();
            known.iter().any(|word| *word != 0).then(|| {
                let mut bits = known.to_vec();
                bits.resize(words.len(), 0);
                (range.id, bits)
            })
        })
    }

    /// The members of a set that are in no pack, as indexes into [`Numbers::all_strays`].
    pub fn strays(marks: &Marks) -> impl Iterator<Item = usize> + '_ {
        marks.strays.iter().enumerate().flat_map(move |(index, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        })
    }

    /// All objects met that are in no pack: ID and object directory.
    pub fn all_strays(&self) -> &[(ObjectId, u32)] {
        &self.strays
    }

    /// The index of an object in [`Numbers::all_strays`]; `None` if it is in a pack.
    pub fn stray_place(number: u32) -> Option<u32> {
        number.checked_sub(STRAYS)
    }
}

/// Four bytes of an ID, but not the leading ones, which neighbours in an index share.
fn tag(id: &oid) -> u32 {
    id.as_bytes()[5..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// A tag, and the number plus one.
fn tagged(number: u32, tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(number + 1)
}

/// A set of numbers.
#[derive(Debug, Default, Clone)]
pub struct Marks {
    packed: Vec<u64>,
    strays: Vec<u64>,
}

impl Marks {
    fn word(&self, number: u32) -> u64 {
        let (words, index) = if number >= STRAYS { (&self.strays, number - STRAYS) } else { (&self.packed, number) };
        words.get(index as usize / 64).copied().unwrap_or(0)
    }

    fn word_mut(&mut self, number: u32) -> &mut u64 {
        let (words, index) =
            if number >= STRAYS { (&mut self.strays, number - STRAYS) } else { (&mut self.packed, number) };
        let at = index as usize / 64;
        if at >= words.len() {
            words.resize(at + 1, 0);
        }
        &mut words[at]
    }

    /// Whether the number is a member.
    pub fn contains(&self, number: u32) -> bool {
        self.word(number) >> (number % 64) & 1 == 1
    }

    /// Adds a number. Returns whether it is new.
    pub fn insert(&mut self, number: u32) -> bool {
        let word = self.word_mut(number);
        let new = *word >> (number % 64) & 1 == 0;
        *word |= 1 << (number % 64);
        new
    }

    /// The members in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let words = (0..).zip(&self.packed).chain((STRAYS / 64..).zip(&self.strays));
        each_of(words.map(|(at, word)| (at, *word)))
    }

    /// Removes a number.
    pub fn remove(&mut self, number: u32) {
        if self.contains(number) {
            *self.word_mut(number) &= !(1 << (number % 64));
        }
    }

    /// Adds all members of another set.
    pub fn extend(&mut self, other: &Marks) {
        for (ours, theirs) in [(&mut self.packed, &other.packed), (&mut self.strays, &other.strays)] {
            if ours.len() < theirs.len() {
                ours.resize(theirs.len(), 0);
            }
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours |= theirs);
        }
    }

    /// Removes all members of another set.
    pub fn subtract(&mut self, other: &Marks) {
        for (ours, theirs) in [(&mut self.packed, &other.packed), (&mut self.strays, &other.strays)] {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours &= !theirs);
        }
    }

    /// The members of both sets.
    pub fn common<'s>(&'s self, other: &'s Marks) -> impl Iterator<Item = u32> + 's {
        let packed = (0..).zip(self.packed.iter().zip(&other.packed));
        let strays = (STRAYS / 64..).zip(self.strays.iter().zip(&other.strays));
        each_of(packed.chain(strays).map(|(at, (ours, theirs))| (at, ours & theirs)))
    }

    /// The number of members.
    pub fn len(&self) -> u64 {
        self.packed.iter().chain(&self.strays).map(|word| u64::from(word.count_ones())).sum()
    }

    /// The numbers below `end` that are not members, in ascending order; all of them must belong to packed objects.
    pub(super) fn others(&self, end: u32) -> impl Iterator<Item = u32> + '_ {
        let words = (0..end.div_ceil(64)).map(|at| (at, !self.packed.get(at as usize).copied().unwrap_or(0)));
        each_of(words).take_while(move |number| *number < end)
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.packed.iter().chain(&self.strays).all(|word| *word == 0)
    }
}

/// The numbers whose bits are set in these words, each given with its index.
fn each_of(words: impl Iterator<Item = (u32, u64)>) -> impl Iterator<Item = u32> {
    words
        .filter(|(_, word)| *word != 0)
        .flat_map(|(at, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit))
}

/// For each packed object, the first version met of the same file or directory.
#[derive(Default)]
pub struct Firsts(Vec<u32>);

impl Firsts {
    /// Notes that an object is another version of one met before.
    pub(super) fn add(&mut self, number: u32, before: u32) {
        if number >= STRAYS || before >= STRAYS {
            return;
        }
        let length = number.max(before) as usize + 1;
        if self.0.len() < length {
            self.0.resize(length, NOTHING);
        }
        if self.0[before as usize] == NOTHING {
            self.0[before as usize] = before;
        }
        // An object at several paths belongs with the first.
        if self.0[number as usize] == NOTHING {
            self.0[number as usize] = self.0[before as usize];
        }
    }

    /// Adds the entries of another map.
    pub(super) fn extend(&mut self, other: &Firsts) {
        other.iter().for_each(|(number, first)| self.add(number, first));
    }

    /// Each object that has other versions, and the first of these.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0..).zip(&self.0).filter(|(_, first)| **first != NOTHING).map(|(number, first)| (number, *first))
    }
}
