//! The entries of new trees.
//!
//! In: an entry that differs from the one in its place in the tree before. Out: its object marked as found, its
//! sub-tree queued for the walk, and the object it is another version of.

use super::{Relate, Trees, count_comparisons, enter};
use crate::odb::closure::Broken;
use crate::odb::closure::order::Node;
use crate::odb::closure::readers::Met;
use crate::odb::closure::tree::EntryKind;
use anyhow::Result;
use gix_hash::oid;

impl Trees<'_, '_> {
    pub(super) fn visit_new(&mut self, tree: u32) -> Result<()> {
        let (current, bases) = (std::mem::take(&mut self.current), std::mem::take(&mut self.bases));
        for &fresh in &current.fresh {
            let (kind, name, id) = current.entry(fresh, self.hash_len);
            let other = bases.found().other(fresh, self.hash_len);
            self.meet_entry(tree, &Met { kind, name, id, place: None, other })?;
        }
        (self.current, self.bases) = (current, bases);
        Ok(())
    }

    /// Handles an entry of a new tree.
    pub(super) fn meet_entry(&mut self, tree: u32, met: &Met<'_>) -> Result<()> {
        match met.kind {
            EntryKind::Tree => self.new_tree(tree, met),
            EntryKind::Blob if self.filter.blobs() => match self.new_blob(tree, met)? {
                Some(number) => self.relate_to_blob(number, met),
                None => Ok(()),
            },
            EntryKind::Blob | EntryKind::Gitlink => Ok(()),
        }
    }

    fn new_tree(&mut self, from: u32, met: &Met<'_>) -> Result<()> {
        let number = self.numbers.of_placed(met.id, met.place)?;
        let Some(number) = number else { return self.missing("tree", met.id, from) };
        if !self.meet_new(number, self.depth + 1) {
            return Ok(());
        }
        if self.held_blobs.contains(met.id) {
            self.called_blob = Some(number);
        }
        if self.filter.reaches(self.depth + 1) {
            self.child(met.name, number, false);
        }
        Ok(())
    }

    /// Returns the blob's number if it is new and passes the filter.
    fn new_blob(&mut self, from: u32, met: &Met<'_>) -> Result<Option<u32>> {
        let Met { name, id, place, .. } = *met;
        if self.held_blobs.contains(id) {
            return Ok(None);
        }
        let number = self.numbers.of_placed(id, place)?;
        let is_met = |number| self.blobs.contains(number) || self.is_closed && self.held.contains(number);
        if number.is_some_and(is_met) || !self.is_admitted(name)? {
            return Ok(None);
        }
        let Some(number) = number else { return self.missing("blob", id, from).map(|()| None) };
        if let Some(size) = self.filter.size() {
            if self.large.contains(number) {
                return Ok(None);
            }
            if self.numbers.size(number).map_err(|cause| Broken::bad("blob", id, cause))? >= size {
                self.large.insert(number);
                return Ok(None);
            }
        }
        self.blobs.insert(number);
        self.count += 1;
        Ok(Some(number))
    }

    /// Notes that a found blob is another version of the one in its place in the other tree. Without such a one, the
    /// last blob of this name is taken: trees of unrelated histories may alternate.
    fn relate_to_blob(&mut self, number: u32, met: &Met<'_>) -> Result<()> {
        if self.relate == Relate::None {
            return Ok(());
        }
        let other = match met.other {
            // Everything met so far is in the same pack.
            Some(_) if self.relate == Relate::Apart && self.numbers.are_all_together() => None,
            Some(other) => self.numbers.of(other)?,
            None => match self.named.get_mut(met.name) {
                Some(named) => Some(std::mem::replace(named, number)),
                None => {
                    self.named.insert(met.name.to_owned(), number);
                    None
                }
            },
        };
        if let Some(other) = other {
            self.relate(number, other);
        }
        Ok(())
    }

    /// Notes that a new tree is another version of the one before it.
    pub(super) fn relate_to_tree(&mut self, node: Node) {
        if let Some(before) = node.before {
            self.relate(node.number, before);
        }
    }

    /// Notes that an object is another version of one that may serve as its delta base.
    pub(super) fn relate(&mut self, number: u32, other: u32) {
        let wanted = match self.relate {
            Relate::None => false,
            Relate::Apart => !self.numbers.are_together(number, other),
            Relate::All => true,
        };
        if self.relate == Relate::Apart && self.numbers.have_several_packs() {
            self.firsts.add(number, other);
        }
        if wanted && number != other {
            self.relatives.push((number, other));
        }
    }

    /// Whether a blob of this name passes at the current path.
    fn is_admitted(&mut self, name: &[u8]) -> Result<bool> {
        if !self.filter.is_by_path() {
            return Ok(true);
        }
        let above = self.path.len();
        enter(&mut self.path, name);
        count_comparisons(&mut self.compared, self.filter, &self.path)?;
        self.pulse.tick(self.count)?;
        let admitted = self.filter.admits(&self.path, self.inside);
        self.path.truncate(above);
        Ok(admitted)
    }

    fn missing(&mut self, kind: &'static str, id: &oid, from: u32) -> Result<()> {
        let met = self.absent.meet(kind, id);
        met.map_err(|error| error.context(format!("tree {} cannot be followed", self.numbers.id(from))))
    }
}
