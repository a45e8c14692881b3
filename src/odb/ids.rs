//! Maps and sets by object name, without hashing what is a hash already.
//!
//! In and out: names. Whoever picks names on purpose can make some of them collide, by as many tries as the table has
//! slots for each: never enough of them to matter.

use gix_hash::ObjectId;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by object name.
pub type IdMap<V> = HashMap<ObjectId, V, BuildHasherDefault<IdHasher>>;
/// A set of object names.
pub type IdSet = HashSet<ObjectId, BuildHasherDefault<IdHasher>>;

/// Takes bytes of a name for its hash.
#[derive(Default, Clone, Copy)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The first bytes of a name decide where it stands in an index, and are alike among neighbours there.
        let part = bytes.get(8..16).unwrap_or_default();
        if let Ok(part) = part.try_into() {
            self.0 ^= u64::from_le_bytes(part);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
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
        let set: IdSet = [name(1), name(1), name(2)].into_iter().collect();
        assert_eq!(set.len(), 2);
    }
}
