//! How deeply trees are nested, if there is a limit (git-config, core.maxTreeDepth).
//!
//! In: the depth of new trees each time they are met. Out: whether one is too deep. A walk descends into a tree only
//! where it is met first; if the tree is met again further down, everything below it is deeper there too. Usually this
//! cannot exceed the limit, and is not computed.

use crate::odb::bases::PlaceHasher;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// The depths at which new trees were met. Trees that commits name have depth 1.
pub(super) struct Depths {
    max: u64,
    /// The largest known depth of each.
    places: HashMap<u32, u32, BuildHasherDefault<PlaceHasher>>,
    /// The largest depth at which any tree was met first.
    deepest: u32,
    /// Trees met again further down, some perhaps twice, and by how much in total.
    again: Vec<u32>,
    more: u64,
}

/// A tree whose sub-trees are being visited.
struct Step {
    tree: u32,
    /// How many of its sub-trees were visited.
    done: usize,
}

impl Depths {
    /// Starts with no trees; none may be deeper than `max`.
    pub(super) fn up_to(max: u64) -> Self {
        Depths { max, places: HashMap::default(), deepest: 0, again: Vec::new(), more: 0 }
    }

    /// Notes that a tree was met.
    pub(super) fn meet(&mut self, tree: u32, place: u64) {
        // Depths cannot exceed the number of objects, which fits in 32 bits.
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        match self.places.get_mut(&tree) {
            None => {
                self.places.insert(tree, place);
                self.deepest = self.deepest.max(place);
            }
            Some(known) if *known < place => {
                self.more += u64::from(place - *known);
                *known = place;
                self.again.push(tree);
            }
            Some(_) => {}
        }
    }

    /// Whether a tree may be too deep. A path down passes each tree at most once, and each tree met again adds no more
    /// than the difference between its depths.
    pub(super) fn may_be_too_deep(&self) -> bool {
        self.more.saturating_add(self.deepest.into()) > self.max
    }

    /// Whether a tree is too deep. `below` returns the sub-trees of a tree, of which only those met before count; it is
    /// called once per tree.
    ///
    /// # Errors
    /// Those of `below`.
    pub(super) fn are_too_deep(
        mut self,
        mut below: impl FnMut(u32) -> anyhow::Result<Vec<u32>>,
    ) -> anyhow::Result<bool> {
        let mut children: HashMap<u32, Vec<u32>, BuildHasherDefault<PlaceHasher>> = HashMap::default();
        // Each tree comes after everything below it.
        let mut order = Vec::new();
        let mut path: Vec<Step> = Vec::new();
        for start in std::mem::take(&mut self.again) {
            let mut next = Some(start);
            loop {
                if let Some(tree) = next.take()
                    && !children.contains_key(&tree)
                {
                    let mut met = below(tree)?;
                    met.retain(|child| self.places.contains_key(child));
                    children.insert(tree, met);
                    path.push(Step { tree, done: 0 });
                }
                let Some(step) = path.last_mut() else { break };
                next = children.get(&step.tree).and_then(|children| children.get(step.done)).copied();
                step.done += 1;
                if next.is_none() {
                    order.push(step.tree);
                    path.pop();
                }
            }
        }
        for tree in order.into_iter().rev() {
            let place = self.places.get(&tree).copied().unwrap_or_default();
            for child in children.remove(&tree).unwrap_or_default() {
                let known = self.places.entry(child).or_default();
                *known = (*known).max(place.saturating_add(1));
            }
        }
        Ok(self.places.values().any(|place| u64::from(*place) > self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks how deep the deepest tree is, given the sub-trees of each tree by number and the depth of each in the
    /// order of meeting.
    fn check(below: &[&[u32]], met: &[(u32, u64)], deepest: u64) {
        let depths = |max: u64| {
            let mut depths = Depths::up_to(max);
            met.iter().for_each(|(tree, place)| depths.meet(*tree, *place));
            depths
        };
        let mut asked = Vec::new();
        for max in 0..deepest + 3 {
            asked.clear();
            let is_too_deep = depths(max).are_too_deep(|tree| {
                asked.push(tree);
                Ok(below[tree as usize].to_vec())
            });
            assert_eq!(is_too_deep.unwrap(), deepest > max, "{below:?} {met:?} {max}");
            assert!(depths(max).may_be_too_deep() || deepest <= max, "{below:?} {met:?} {max}");
        }
        let times = asked.len();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), times, "none is read twice");
    }

    #[test]
    fn a_tree_lies_as_deep_as_the_longest_way_to_it() {
        check(&[&[1], &[2], &[]], &[(0, 1), (1, 2), (2, 3)], 3);
        assert!(!Depths::up_to(0).may_be_too_deep());
        // A root names every tree of a chain, in any order.
        let line: [&[u32]; 6] = [&[1, 2, 3, 4, 5], &[2], &[3], &[4], &[5], &[]];
        let first = [(0, 1), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2)];
        check(&line, &[&first[..], &[(2, 3), (3, 3), (4, 3), (5, 3)]].concat(), 6);
        check(&line, &[&first[..], &[(5, 3), (4, 3), (3, 3), (2, 3)]].concat(), 6);
        // A tree met again is deeper with everything below it; known trees do not count.
        check(
            &[&[1, 2], &[3], &[4], &[5, 9], &[1], &[], &[]],
            &[(0, 1), (1, 2), (2, 2), (3, 3), (4, 3), (5, 4), (1, 4)],
            6,
        );
    }
}
