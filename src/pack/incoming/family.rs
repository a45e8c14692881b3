//! Which entries are deltas on which.
//!
//! In: the deltas of a pack as the scan found them. Out: the deltas on an entry, by its position and by its name. They
//! are sorted once and found by binary search; nothing here takes more than linear memory.

use super::scan::Deltas;
use gix_hash::{ObjectId, oid};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// The deltas of a pack, by base.
pub(super) struct Family {
    /// The children of entry `n` are `children[first[n]..first[n + 1]]`.
    first: Vec<u32>,
    children: Vec<u32>,
    by_name: ByName,
}

/// Deltas that refer to their base by name.
struct ByName {
    /// Bases and deltas, in the order of the bases' names.
    deltas: Vec<(ObjectId, u32)>,
    /// Where the deltas on the n-th base begin; one element more than there are bases.
    groups: Vec<u32>,
    /// Whether the deltas on the n-th base have been claimed, since the base may be in the pack twice.
    claimed: Vec<AtomicBool>,
}

pub(super) fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a pack has fewer than 2^32 entries")
}

impl Family {
    /// Sorts the deltas of a pack with `len` entries.
    pub fn new(len: u32, deltas: Deltas) -> Self {
        let mut first = vec![0_u32; len as usize + 1];
        for &(base, _) in &deltas.by_position {
            first[base as usize + 1] += 1;
        }
        for index in 1..first.len() {
            first[index] += first[index - 1];
        }
        let mut children = vec![0_u32; deltas.by_position.len()];
        let mut next = first.clone();
        for &(base, delta) in &deltas.by_position {
            let at = &mut next[base as usize];
            children[*at as usize] = delta;
            *at += 1;
        }
        drop(next);

        // Largest subtrees last: the content of a base can be given up before the walk descends into the last child, so
        // the number of contents held is at most the binary logarithm of the number of entries. Bases precede their
        // deltas.
        let mut weights = vec![1_u32; len as usize];
        for &(base, delta) in deltas.by_position.iter().rev() {
            weights[base as usize] = weights[base as usize].saturating_add(weights[delta as usize]);
        }
        for index in 0..len as usize {
            let siblings = &mut children[first[index] as usize..first[index + 1] as usize];
            if siblings.len() > 1 {
                siblings.sort_by_key(|&child| weights[child as usize]);
            }
        }
        Family { first, children, by_name: ByName::new(deltas.by_name) }
    }

    /// The places of the deltas that refer to an entry by offset; entries appended later have none.
    pub fn children(&self, index: u32) -> Range<u32> {
        match self.first.get(index as usize..).and_then(|firsts| firsts.get(..2)) {
            Some(&[start, end]) => start..end,
            _ => 0..0,
        }
    }

    /// The delta at a place from [`Family::children`].
    pub fn child_at(&self, at: u32) -> u32 {
        self.children[at as usize]
    }

    /// The delta at a place from [`Family::claim_children`].
    pub fn by_name_at(&self, at: u32) -> u32 {
        self.by_name.deltas[at as usize].1
    }

    /// Whether an entry may have deltas on it, although its name is not known yet.
    pub fn may_be_base(&self, index: u32) -> bool {
        !self.by_name.deltas.is_empty() || !self.children(index).is_empty()
    }

    /// The bases that have not been found so far, in the order of the first deltas on them.
    pub fn missing_bases(&self) -> Vec<ObjectId> {
        let by_name = &self.by_name;
        let mut missing: Vec<&(ObjectId, u32)> = by_name
            .groups
            .iter()
            .zip(&by_name.claimed)
            .filter(|(_, claimed)| !claimed.load(Ordering::Relaxed))
            .map(|(&start, _)| &by_name.deltas[start as usize])
            .collect();
        missing.sort_unstable_by_key(|(_, delta)| *delta);
        missing.into_iter().map(|(base, _)| *base).collect()
    }

    /// Whether there are deltas on an object that nobody has claimed so far.
    pub fn is_unclaimed(&self, id: &oid) -> bool {
        self.by_name.group(id).is_some_and(|group| !self.by_name.claimed[group].load(Ordering::Relaxed))
    }

    /// Claims the deltas on an object; only the first caller gets them.
    pub fn claim_children(&self, id: &oid) -> Range<u32> {
        let by_name = &self.by_name;
        match by_name.group(id) {
            Some(group) if !by_name.claimed[group].swap(true, Ordering::Relaxed) => {
                by_name.groups[group]..by_name.groups[group + 1]
            }
            _ => 0..0,
        }
    }
}

impl ByName {
    fn new(mut deltas: Vec<(ObjectId, u32)>) -> Self {
        deltas.sort_unstable_by(|a, b| a.0.as_slice().cmp(b.0.as_slice()).then(a.1.cmp(&b.1)));
        let mut groups = Vec::new();
        for index in 0..deltas.len() {
            if index == 0 || deltas[index - 1].0 != deltas[index].0 {
                groups.push(to_u32(index));
            }
        }
        let claimed = groups.iter().map(|_| AtomicBool::new(false)).collect();
        groups.push(to_u32(deltas.len()));
        ByName { deltas, groups, claimed }
    }

    /// The number of the base with this name.
    fn group(&self, id: &oid) -> Option<usize> {
        let bases = &self.groups[..self.claimed.len()];
        bases.binary_search_by(|&start| self.deltas[start as usize].0.as_slice().cmp(id.as_bytes())).ok()
    }
}
