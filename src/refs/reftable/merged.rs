//! Merges the records of several tables into one sequence: refs, or reflog entries.
//!
//! In: a cursor for each table, oldest first. Out: each name once, in order, with the record of the newest table that
//! has it. Deleted records are skipped unless asked for.

use super::record::Record;
use super::table::Cursor;
use std::cmp::Ordering;

/// Walks over the records of one kind in a stack.
pub(super) struct Merged<'t, R> {
    cursors: Vec<Cursor<'t, R>>,
    /// Indices of the cursors that have a record, as a heap: the least name on top, among equal names the newest table.
    heap: Vec<usize>,
    /// The current record's name.
    name: Vec<u8>,
    /// The current record; `None` before the first and after the last.
    record: Option<R>,
    /// Whether deleted records are given too.
    with_deleted: bool,
    /// Whether the cursors are still before their first records.
    is_new: bool,
}

impl<'t, R: Record> Merged<'t, R> {
    pub(super) fn new(cursors: Vec<Cursor<'t, R>>) -> Self {
        Merged { cursors, heap: Vec::new(), name: Vec::new(), record: None, with_deleted: false, is_new: true }
    }

    /// As [`Merged::new`], with deleted records: a table that goes on top of others must contain them.
    pub(super) fn with_deleted(cursors: Vec<Cursor<'t, R>>) -> Self {
        Merged { with_deleted: true, ..Merged::new(cursors) }
    }

    /// The current record and its name.
    pub(super) fn current(&self) -> Option<(&[u8], &R)> {
        self.record.as_ref().map(|record| (self.name.as_slice(), record))
    }

    /// Goes to the next record; `false` at the end.
    pub(super) fn advance(&mut self) -> anyhow::Result<bool> {
        if self.is_new {
            return self.seek(b"");
        }
        loop {
            // Skip the records of older tables with the same name.
            while let Some(&top) = self.heap.first() {
                if self.cursors[top].name() != self.name {
                    break;
                }
                if !self.cursors[top].advance()? {
                    self.heap.swap_remove(0);
                }
                self.sift_down(0);
            }
            let Some(&top) = self.heap.first() else {
                self.record = None;
                return Ok(false);
            };
            if self.take(top) {
                return Ok(true);
            }
        }
    }

    /// Goes to the first record not before `key`; `false` if there is none. Keys must ascend.
    pub(super) fn seek(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        if !self.is_new && self.record.is_some() && self.name.as_slice() >= key {
            return Ok(true);
        }
        self.is_new = false;
        self.record = None;
        self.heap.clear();
        for (number, cursor) in self.cursors.iter_mut().enumerate() {
            if cursor.seek(key)? {
                self.heap.push(number);
            }
        }
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
        match self.heap.first() {
            None => Ok(false),
            Some(&top) => Ok(self.take(top) || self.advance()?),
        }
    }

    /// Makes the record on top the current one; `false` if it is skipped.
    fn take(&mut self, top: usize) -> bool {
        let cursor = &self.cursors[top];
        self.name.clear();
        self.name.extend_from_slice(cursor.name());
        self.record = cursor.record().filter(|record| self.with_deleted || !record.is_deleted()).cloned();
        self.record.is_some()
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.order(self.heap[child], self.heap[least]).is_lt() {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    fn order(&self, one: usize, other: usize) -> Ordering {
        self.cursors[one].name().cmp(self.cursors[other].name()).then(other.cmp(&one))
    }
}
