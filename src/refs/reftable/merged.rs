//! The records of several tables as one list: refs, or lines of logs.
//!
//! In: a cursor for each table, the oldest first. Out: each name once, in order, with what the newest table says of it. What is deleted
//! is passed over.

use super::record::Record;
use super::table::Cursor;
use std::cmp::Ordering;

/// Walks over the records of one kind of a stack.
pub(super) struct Merged<'t, R> {
    cursors: Vec<Cursor<'t, R>>,
    /// Numbers of cursors that have a record, as a heap: the least name on top, of equal ones the newest.
    heap: Vec<usize>,
    /// The current record's name.
    name: Vec<u8>,
    /// The current record; before the first and behind the last there is none.
    record: Option<R>,
    /// Whether what is deleted is given, too.
    with_deleted: bool,
    /// Whether the cursors stand before their first records.
    is_new: bool,
}

impl<'t, R: Record> Merged<'t, R> {
    pub(super) fn new(cursors: Vec<Cursor<'t, R>>) -> Self {
        Merged { cursors, heap: Vec::new(), name: Vec::new(), record: None, with_deleted: false, is_new: true }
    }

    /// The same, with what is deleted: a table that is to lie upon others must say so.
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
            // Older tables have the same name on top now.
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

    /// Goes to the first record not before `key`; `false` where there is none. Keys must ascend.
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

    /// Makes the record on top the current one; `false` where it is passed over.
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
