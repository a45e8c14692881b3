//! Maps and sets keyed by object ID, without hashing what is a hash already.
//!
//! In and out: object IDs. An attacker who chooses IDs can make some collide, but each collision takes about as many
//! tries as the table has slots, so there are never enough to matter.

use gix_hash::{ObjectId, oid};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map keyed by object ID.
pub type IdMap<V> = HashMap<ObjectId, V, BuildHasherDefault<IdHasher>>;
/// A set of object IDs.
pub type IdSet = HashSet<ObjectId, BuildHasherDefault<IdHasher>>;

/// Uses bytes of an ID as its hash.
#[derive(Default, Clone, Copy)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The first bytes of an ID determine its place in an index, so neighbours there share them.
        let part = bytes.get(8..16).unwrap_or_default();
        if let Ok(part) = part.try_into() {
            self.0 ^= u64::from_le_bytes(part);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// The order of two IDs. Usually the first bytes decide, and steps of eight bytes cost less than a call that compares
/// them one by one.
#[inline]
pub fn compare(one: &[u8], other: &[u8]) -> Ordering {
    match (one.split_first_chunk::<8>(), other.split_first_chunk::<8>()) {
        (Some((one, one_rest)), Some((other, other_rest))) => {
            let order = u64::from_be_bytes(*one).cmp(&u64::from_be_bytes(*other));
            order.then_with(|| compare(one_rest, other_rest))
        }
        _ => match (one.split_first_chunk::<4>(), other.split_first_chunk::<4>()) {
            (Some((one, [])), Some((other, []))) => u32::from_be_bytes(*one).cmp(&u32::from_be_bytes(*other)),
            _ => one.cmp(other),
        },
    }
}

/// Whether two IDs are equal.
#[inline]
pub fn are_same(one: &oid, other: &oid) -> bool {
    compare(one.as_bytes(), other.as_bytes()).is_eq()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let name = |n: u8| ObjectId::from([n; 20]);
        let mut map: IdMap<u8> = (0..200).map(|n| (name(n), n)).collect();
        assert!((0..200).all(|n| map.get(&name(n)) == Some(&n)));
        assert_eq!(map.get(&name(200)), None);
        assert_eq!(map.remove(&name(7)), Some(7));
        let names = [name(0), name(1), name(2)].map(|id| [id; 2]);
        for (at, [one, other]) in names.iter().enumerate() {
            for (width, order) in [(20, Ordering::Equal), (19, Ordering::Less), (7, Ordering::Less)] {
                assert_eq!(compare(&one.as_bytes()[..width], other.as_bytes()), order, "{width}");
            }
            for last in [8, 15, 16, 19] {
                let mut later = *other;
                later.as_mut_slice()[last] += 1;
                assert_eq!(compare(one.as_bytes(), later.as_bytes()), Ordering::Less, "{at} {last}");
                assert_eq!(compare(later.as_bytes(), one.as_bytes()), Ordering::Greater, "{at} {last}");
                assert!(!are_same(one, &later) && are_same(one, other));
            }
        }
        let set: IdSet = [name(1), name(1), name(2)].into_iter().collect();
        assert_eq!(set.len(), 2);
    }
}
