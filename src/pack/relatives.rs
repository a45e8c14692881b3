//! Relatives: objects that are versions of the same file or directory, and so may serve as each other's delta base.
//!
//! In: pairs of objects; or objects with the family of each. Out: the nearest usable relative; or families. Which
//! relatives are usable is never decided here: the caller knows.

use super::select::Spot;
use std::cmp::Reverse;

/// How many relatives are examined at most.
const LOOKS_MAX: usize = 64;

/// Versions of the same file or directory that are stored whole, sorted by size because those of similar size are most
/// alike. Packs that were made independently each have such versions.
#[derive(Debug, Clone, Default)]
pub struct Families(Vec<(u32, Reverse<u64>, Spot)>);

impl FromIterator<(u32, u64, Spot)> for Families {
    /// Each item is the number of a family, the object's size, and where it is.
    fn from_iter<I: IntoIterator<Item = (u32, u64, Spot)>>(members: I) -> Self {
        let mut all: Vec<_> = members.into_iter().map(|(family, size, spot)| (family, Reverse(size), spot)).collect();
        all.sort_unstable();
        Families(all)
    }
}

impl Families {
    /// Each family with more than one member, the largest member first: a delta that leaves bytes out is smaller than
    /// one that inserts them.
    pub fn iter(&self) -> impl Iterator<Item = impl Iterator<Item = Spot> + '_> + '_ {
        let families = self.0.chunk_by(|one, other| one.0 == other.0).filter(|family| family.len() > 1);
        families.map(|family| family.iter().map(|(_, _, spot)| *spot))
    }
}

/// Pairs of versions, each in both directions, sorted.
#[derive(Debug, Clone, Default)]
pub struct Relatives(Vec<(Spot, Spot)>);

impl FromIterator<(Spot, Spot)> for Relatives {
    fn from_iter<I: IntoIterator<Item = (Spot, Spot)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]).collect();
        pairs.sort_unstable();
        pairs.dedup();
        Relatives(pairs)
    }
}

impl Relatives {
    /// All pairs, in both directions.
    pub fn pairs(&self) -> impl Iterator<Item = (Spot, Spot)> + '_ {
        self.0.iter().copied()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nearest usable relative: the one the fewest pairs away, among the nearest `LOOKS_MAX`.
    pub fn nearest(&self, of: Spot, is_of_use: impl Fn(Spot) -> bool) -> Option<Spot> {
        if self.0.is_empty() {
            return None;
        }
        let mut met = vec![of];
        let mut next = 0;
        while let Some(&spot) = met.get(next) {
            next += 1;
            let start = self.0.partition_point(|(one, _)| *one < spot);
            let left = LOOKS_MAX + 1 - met.len();
            for &(_, other) in self.0[start..].iter().take_while(|(one, _)| *one == spot).take(left) {
                if met.contains(&other) {
                    continue;
                }
                if is_of_use(other) {
                    return Some(other);
                }
                met.push(other);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_more_than_one_come_with_the_largest_first() {
        let families: Families = [(7, 10, 1), (3, 5, 2), (7, 30, 3), (9, 1, 4), (3, 6, 5)]
            .map(|(of, size, n)| (of, size, Spot::Loose(n)))
            .into_iter()
            .collect();
        let numbers: Vec<Vec<Spot>> = families.iter().map(Iterator::collect).collect();
        assert_eq!(numbers, [[5, 2], [3, 1]].map(|family| family.map(Spot::Loose).to_vec()));
    }

    #[test]
    fn the_nearest_relative_of_use_is_found_in_both_directions() {
        let relatives: Relatives =
            [(1, 2), (2, 3), (3, 4), (7, 8)].map(|(a, b)| (Spot::Loose(a), Spot::Loose(b))).into_iter().collect();
        let check = |of, of_use: &[u32], expected: Option<u32>| {
            let is_of_use = |spot| matches!(spot, Spot::Loose(number) if of_use.contains(&number));
            assert_eq!(relatives.nearest(Spot::Loose(of), is_of_use), expected.map(Spot::Loose), "{of} {of_use:?}");
        };
        check(2, &[1, 3, 4], Some(1));
        check(2, &[4], Some(4));
        check(4, &[1, 2], Some(2));
        check(1, &[4, 7], Some(4));
        check(1, &[1, 7, 8], None);
        check(9, &[1], None);
    }

    #[test]
    fn the_search_among_relatives_ends_soon() {
        let relatives: Relatives = (1..10_000).map(|other| (Spot::Loose(0), Spot::Loose(other))).collect();
        let looks = std::cell::Cell::new(0);
        let none = relatives.nearest(Spot::Loose(0), |_| {
            looks.set(looks.get() + 1);
            false
        });
        assert_eq!(none, None);
        assert!(looks.get() < 1000, "{} looks", looks.get());
    }
}
