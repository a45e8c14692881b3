//! How deep trees lie in others, where somebody minds (git-config, core.maxTreeDepth).
//!
//! In: where new trees were met, the first time and again. Out: how deep they lie. A walk goes into a tree once, where it is met first: what
//! is met again further down lies deeper there, and so does all that is below it. Mostly that cannot add up to much, and is not looked at.

use crate::odb::bases::PlaceHasher;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// Where new trees were met; what a commit names is met at 1.
pub(super) struct Depths {
    max: u64,
    /// The deepest place of each.
    places: HashMap<u32, u32, BuildHasherDefault<PlaceHasher>>,
    /// The deepest first place of any.
    deepest: u32,
    /// Trees that were met again deeper, some perhaps twice, and how much deeper all of them together.
    again: Vec<u32>,
    more: u64,
}

/// A tree that is looked into for the sake of what lies below.
struct Step {
    tree: u32,
    /// How many of its sub-trees were looked into.
    done: usize,
}

impl Depths {
    /// None has been met; none may be met deeper than at `max`.
    pub(super) fn up_to(max: u64) -> Self {
        Depths { max, places: HashMap::default(), deepest: 0, again: Vec::new(), more: 0 }
    }

    /// Notes that a tree was met.
    pub(super) fn meet(&mut self, tree: u32, place: u64) {
        // Nothing lies deeper than there are objects with numbers.
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

    /// Whether one may lie too deep. On a way down each tree is passed once at most, and from each on what follows lies deeper by no more
    /// than this one was met deeper.
    pub(super) fn may_be_too_deep(&self) -> bool {
        self.more.saturating_add(self.deepest.into()) > self.max
    }

    /// Whether one lies too deep; `below` tells the sub-trees of one, of which those count that were met. Each is asked for once.
    ///
    /// # Errors
    /// As `below`.
    pub(super) fn are_too_deep(
        mut self,
        mut below: impl FnMut(u32) -> anyhow::Result<Vec<u32>>,
    ) -> anyhow::Result<bool> {
        let mut children: HashMap<u32, Vec<u32>, BuildHasherDefault<PlaceHasher>> = HashMap::default();
        // Each behind all that lies below it.
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

    /// Trees below trees by number, and at which place each was met, in this order; where the deepest lies.
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
        // A root names all of a line of trees, in any order.
        let line: [&[u32]; 6] = [&[1, 2, 3, 4, 5], &[2], &[3], &[4], &[5], &[]];
        let first = [(0, 1), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2)];
        check(&line, &[&first[..], &[(2, 3), (3, 3), (4, 3), (5, 3)]].concat(), 6);
        check(&line, &[&first[..], &[(5, 3), (4, 3), (3, 3), (2, 3)]].concat(), 6);
        // What is met again lies deeper with all that is below it, of which what is known does not count.
        check(
            &[&[1, 2], &[3], &[4], &[5, 9], &[1], &[], &[]],
            &[(0, 1), (1, 2), (2, 2), (3, 3), (4, 3), (5, 4), (1, 4)],
            6,
        );
    }
}
