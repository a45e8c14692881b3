//! The order in which the trees of one path are read.
//!
//! In: numbers of trees. Out: the same numbers, each delta after its base if that is among them. A base is then at hand
//! when it is needed, and each tree is compared with the one it differs least from.

use super::Numbers;
use super::tree::Tree;
use std::collections::VecDeque;

/// A tree with its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) number: u32,
    /// The length of its delta chain among the trees before it.
    pub(super) depth: u32,
    /// Its base, or else the tree before it in the order.
    pub(super) before: Option<u32>,
}

/// Sorts trees. Those that are not deltas on any of these, and those with the same base, stay in storage order.
pub(super) fn ordered(numbers: &Numbers<'_>, trees: &[u32]) -> Vec<Node> {
    if let [number] = *trees {
        return vec![Node { number, depth: 0, before: None }];
    }
    let mut stored: Vec<_> = trees.iter().map(|&tree| (numbers.stored_at(tree), tree)).collect();
    stored.sort_unstable();
    let none = stored.len();
    // The first delta on each base, and the next delta on the same base; trees without a base belong to `none`.
    let (mut first, mut next) = (vec![none; none + 1], vec![none; none]);
    for (at, (_, tree)) in stored.iter().enumerate().rev() {
        let base = numbers.base_stored_at(*tree);
        // A base stored after its delta is not followed, so there cannot be a cycle.
        let base = base.and_then(|base| stored[..at].binary_search_by_key(&base, |(place, _)| *place).ok());
        next[at] = std::mem::replace(&mut first[base.unwrap_or(none)], at);
    }
    let mut nodes: Vec<Node> = Vec::with_capacity(none);
    let mut pending = vec![(first[none], None)];
    while let Some((at, base)) = pending.pop() {
        if at == none {
            continue;
        }
        let base: Option<Node> = base;
        let number = stored[at].1;
        let depth = base.map_or(0, |base| base.depth + 1);
        let node = Node { number, depth, before: base.or(nodes.last().copied()).map(|before| before.number) };
        nodes.push(node);
        pending.push((next[at], base));
        pending.push((first[at], Some(node)));
    }
    nodes
}

/// Trees already read that the next one may be compared with.
#[derive(Default)]
pub(super) struct BaseChain {
    /// By depth: each is a delta on the one before it.
    trees: VecDeque<(u32, Tree)>,
    spare: Vec<Tree>,
    none: Tree,
}

impl BaseChain {
    /// At most this many are kept; delta chains are rarely longer.
    const MOST: usize = 64;

    /// Forgets all trees.
    pub(super) fn clear(&mut self) {
        self.trees.clear();
    }

    /// Finds the tree that one of this depth is compared with: its base, or else the tree read last.
    pub(super) fn find(&mut self, depth: u32) -> &Tree {
        let mut last = None;
        while self.trees.back().is_some_and(|(other, _)| *other >= depth) {
            let popped = self.trees.pop_back();
            match last {
                None => last = popped,
                Some(_) => self.spare(popped),
            }
        }
        if self.trees.is_empty() {
            self.trees.extend(last);
        } else {
            self.spare(last);
        }
        self.found()
    }

    /// Keeps the allocations of a tree for reuse, but not its content, which the cache may share.
    fn spare(&mut self, tree: Option<(u32, Tree)>) {
        if let Some((_, mut tree)) = tree {
            tree.clear();
            self.spare.push(tree);
        }
    }

    /// The tree found last.
    pub(super) fn found(&self) -> &Tree {
        self.trees.back().map_or(&self.none, |(_, tree)| tree)
    }

    /// Adds a tree that was read and compared, and returns an empty one to read into.
    pub(super) fn add(&mut self, depth: u32, tree: Tree) -> Tree {
        self.trees.push_back((depth, tree));
        if self.trees.len() > Self::MOST {
            let oldest = self.trees.pop_front();
            self.spare(oldest);
        }
        self.spare.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_tree_is_compared_with_its_base_or_with_what_was_read_last() {
        let mut bases = BaseChain::default();
        let mut current = Tree::default();
        // Each tree's depth, and the name of the tree it is compared with, if any.
        let mut check = |name: u8, depth: u32, expected: Option<u8>| {
            let found = bases.find(depth).bytes().first().copied();
            assert_eq!(found, expected, "{name}");
            current.set(Rc::new(vec![name]));
            current = bases.add(depth, std::mem::take(&mut current));
        };
        check(0, 0, None);
        check(1, 0, Some(0));
        check(2, 1, Some(1));
        check(3, 2, Some(2));
        check(4, 2, Some(2));
        check(5, 1, Some(1));
        check(6, 0, Some(5));
        // A part that begins in the middle of a chain.
        check(7, 9, Some(6));
        check(8, 10, Some(7));
        check(9, 3, Some(6));
        for depth in 1..200 {
            check(10, depth, if depth == 1 { Some(6) } else { Some(10) });
        }
        check(11, 150, Some(10));
        check(12, 100, Some(11));
        assert!(bases.trees.len() <= BaseChain::MOST && bases.spare.len() <= 2 * BaseChain::MOST);
    }
}
