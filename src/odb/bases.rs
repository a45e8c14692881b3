//! The delta-base cache: objects that deltas are based on, bounded in bytes, evicting the least recently used.
//!
//! While objects are small only a quarter of the limit is used, and less while they are few: objects needed again soon
//! are still found, and stay closer to the processor.
//!
//! In: the place of a packed object, or the ID of a loose one. Out: its content, shared. Nothing is read here.

use super::Header;
use super::packs::PackId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

/// The cost of a cache entry besides its content.
const OVERHEAD_BYTES: u64 = 128;
/// One object may take at most this fraction of the limit.
const LARGEST: u64 = 4;
/// There is room for this many objects of the largest size met.
const OF_LARGEST: u64 = 2;
/// The fractions of the limit used at first, and while objects are small.
const USED_AT_FIRST: u64 = 128;
const USED_OF_SMALL: u64 = 4;
/// For each time this many bytes were added in total, one more byte is used.
const KEPT_EACH: u64 = 8;
const NONE: usize = usize::MAX;

/// The place of a packed entry: pack and offset.
pub(super) type Place = (PackId, u64);

/// Hashes places. Offsets are spread already and pack numbers are small, so one multiplication mixes all bits. Clients
/// cannot choose them freely: an attacker could at most slow down walks over packs of their own.
#[derive(Default)]
pub(super) struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

struct Slot<P> {
    place: P,
    kind: gix_object::Kind,
    content: Rc<Vec<u8>>,
    newer: usize,
    older: usize,
}

/// The cache, keyed by place.
pub(super) struct Bases<P = Place, H = PlaceHasher> {
    places: HashMap<P, usize, BuildHasherDefault<H>>,
    slots: Vec<Slot<P>>,
    newest: usize,
    oldest: usize,
    bytes: u64,
    /// How many bytes may be held, and how many of them are used: twice the largest object so far, and more as objects
    /// are added.
    limit: u64,
    used: u64,
    kept: u64,
    /// Buffers for reuse that nothing else refers to.
    spare: Vec<Rc<Vec<u8>>>,
}

impl<P: Copy + Eq + Hash, H: Hasher + Default> Bases<P, H> {
    /// An empty cache that holds at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Bases {
            places: HashMap::default(),
            slots: Vec::new(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
            limit,
            used: limit / USED_AT_FIRST,
            kept: 0,
            spare: Vec::new(),
        }
    }

    /// Changes the limit and evicts what no longer fits.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        self.used = limit / USED_AT_FIRST;
        self.shrink(0);
    }

    /// Uses at once as much as for many small objects.
    pub fn expect_many(&mut self) {
        self.used = self.used.max(self.limit / USED_OF_SMALL);
    }

    /// Whether an object of this size would be kept. One object must not push out all others.
    pub fn takes(&self, size: usize) -> bool {
        size as u64 + OVERHEAD_BYTES <= self.limit / LARGEST
    }

    /// The object at a place.
    pub fn find(&mut self, place: P) -> Option<(gix_object::Kind, Rc<Vec<u8>>)> {
        let slot = *self.places.get(&place)?;
        if slot != self.newest {
            self.unlink(slot);
            self.link(slot);
        }
        Some((self.slots[slot].kind, Rc::clone(&self.slots[slot].content)))
    }

    /// Kind and size of the object at a place, without counting as a use.
    pub fn header(&self, place: P) -> Option<Header> {
        let slot = &self.slots[*self.places.get(&place)?];
        Some(Header { kind: slot.kind, size: slot.content.len() as u64 })
    }

    /// Adds an object, unless it is too large.
    pub fn keep(&mut self, place: P, kind: gix_object::Kind, content: Rc<Vec<u8>>) {
        if !self.takes(content.capacity()) || self.places.contains_key(&place) {
            self.give_back(content);
            return;
        }
        let cost = content.capacity() as u64 + OVERHEAD_BYTES;
        self.kept += cost;
        let of_small = (self.kept / KEPT_EACH).min(self.limit / USED_OF_SMALL);
        self.used = self.used.max(of_small).max(cost * OF_LARGEST).min(self.limit);
        self.shrink(cost);
        self.bytes += cost;
        let slot = self.slots.len();
        self.slots.push(Slot { place, kind, content, newer: NONE, older: NONE });
        self.places.insert(place, slot);
        self.link(slot);
    }

    /// A buffer not shared with anything, reused if possible; its content is meaningless.
    pub fn buffer(&mut self) -> Rc<Vec<u8>> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes back a buffer that is no longer used.
    pub fn give_back(&mut self, mut content: Rc<Vec<u8>>) {
        if self.spare.len() < 4 && content.capacity() <= 1 << 20 && Rc::get_mut(&mut content).is_some() {
            self.spare.push(content);
        }
    }

    /// Makes room for `more` bytes.
    fn shrink(&mut self, more: u64) {
        while self.oldest != NONE && self.bytes + more > self.used {
            let slot = self.oldest;
            self.unlink(slot);
            let gone = self.slots.swap_remove(slot);
            self.places.remove(&gone.place);
            self.bytes -= gone.content.capacity() as u64 + OVERHEAD_BYTES;
            // `swap_remove` moved the last slot into the gap.
            if let Some(moved) = self.slots.get(slot) {
                let (place, newer, older) = (moved.place, moved.newer, moved.older);
                self.places.insert(place, slot);
                self.join(newer, slot);
                self.join(slot, older);
            }
            self.give_back(gone.content);
        }
    }

    /// Makes two slots neighbours; `NONE` is the end of the list.
    fn join(&mut self, newer: usize, older: usize) {
        match newer {
            NONE => self.newest = older,
            slot => self.slots[slot].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            slot => self.slots[slot].newer = newer,
        }
    }

    fn unlink(&mut self, slot: usize) {
        let (newer, older) = (self.slots[slot].newer, self.slots[slot].older);
        self.join(newer, older);
    }

    fn link(&mut self, slot: usize) {
        let next = self.newest;
        self.join(slot, next);
        self.join(NONE, slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(n: u64) -> Place {
        (PackId(1), n)
    }

    #[test]
    fn the_least_recently_used_goes_first_and_bytes_stay_bounded() {
        let cost = 100 + OVERHEAD_BYTES;
        let mut bases: Bases = Bases::new(4 * 5 * cost);
        for n in 2000..2000 + 5 * KEPT_EACH {
            bases.keep(place(n), gix_object::Kind::Tree, Rc::new(vec![0; 100]));
        }
        for n in 0..5 {
            bases.keep(place(n), gix_object::Kind::Tree, Rc::new(vec![n as u8; 100]));
        }
        assert!(bases.find(place(0)).is_some());
        bases.keep(place(5), gix_object::Kind::Tree, Rc::new(vec![5; 100]));
        assert!(bases.find(place(1)).is_none());
        for n in [0, 2, 3, 4, 5] {
            assert_eq!(*bases.find(place(n)).expect("is kept").1, vec![n as u8; 100]);
        }
        for n in 10..1000 {
            bases.keep(place(n), gix_object::Kind::Blob, Rc::new(vec![1; (n % 150) as usize]));
            if n % 3 == 0 {
                bases.find(place(n - 2));
            }
            assert!(bases.bytes <= bases.limit / 4);
            assert_eq!(bases.places.len(), bases.slots.len());
        }
        bases.set_limit(0);
        assert_eq!((bases.bytes, bases.slots.len(), bases.newest, bases.oldest), (0, 0, NONE, NONE));
    }

    #[test]
    fn large_objects_have_room_when_they_come() {
        let mut bases: Bases = Bases::new(64 << 10);
        for n in 0..150 {
            bases.keep(place(n), gix_object::Kind::Tree, Rc::new(vec![0; 1000]));
        }
        assert!(bases.bytes <= 16 << 10 && bases.bytes > 14 << 10);
        bases.keep(place(250), gix_object::Kind::Blob, Rc::new(vec![0; 10 << 10]));
        for n in 300..400 {
            bases.keep(place(n), gix_object::Kind::Tree, Rc::new(vec![0; 1000]));
            assert!(bases.bytes <= bases.limit);
        }
        assert!((18 << 10..=21 << 10).contains(&bases.bytes), "twice the largest: {}", bases.bytes);
    }

    #[test]
    fn few_small_objects_have_less_room_than_many() {
        let mut bases: Bases = Bases::new(64 << 10);
        let mut most = Vec::new();
        for n in 0..200 {
            bases.keep(place(n), gix_object::Kind::Tree, Rc::new(vec![0; 872]));
            most.push(bases.bytes);
        }
        let mut expecting: Bases = Bases::new(64 << 10);
        expecting.expect_many();
        for n in 0..20 {
            expecting.keep(place(n), gix_object::Kind::Tree, Rc::new(vec![0; 872]));
        }
        assert_eq!(expecting.bytes, 16_000, "they have as much room at once");
        assert_eq!([most[20], most[70], most[199]], [2000, 8000, 16_000]);
    }

    #[test]
    fn what_would_push_out_all_others_is_not_kept() {
        let mut bases: Bases = Bases::new(1000);
        bases.keep(place(1), gix_object::Kind::Blob, Rc::new(vec![0; 500]));
        assert!(bases.find(place(1)).is_none());
    }
}
