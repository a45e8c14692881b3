//! The refs of several tables as one list.
//!
//! In: a cursor for each table, the oldest first. Out: each name once, in order, with what the newest table says of it. What is deleted
//! is passed over.

use super::block::Value;
use super::table::Cursor;
use std::cmp::Ordering;

/// Walks over the refs of a stack.
pub(super) struct Merged<'t> {
    cursors: Vec<Cursor<'t>>,
    /// Numbers of cursors that have a record, as a heap: the least name on top, of equal ones the newest.
    heap: Vec<usize>,
    /// The current ref's name.
    name: Vec<u8>,
    value: Value,
    /// Whether the cursors stand before their first refs.
    is_new: bool,
}

impl<'t> Merged<'t> {
    pub(super) fn new(cursors: Vec<Cursor<'t>>) -> Self {
        Merged { cursors, heap: Vec::new(), name: Vec::new(), value: Value::Deleted, is_new: true }
    }

    /// The current ref's name. After `advance` or `seek` has said that there is one.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// What the current ref says.
    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// Goes to the next ref; `false` at the end.
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
            let Some(&top) = self.heap.first() else { return Ok(false) };
            if self.take(top) {
                return Ok(true);
            }
        }
    }

    /// Goes to the first ref not before `key`; `false` where there is none. Keys must ascend.
    pub(super) fn seek(&mut self, key: &[u8]) -> anyhow::Result<bool> {
        if !self.is_new && !self.heap.is_empty() && self.value != Value::Deleted && self.name.as_slice() >= key {
            return Ok(true);
        }
        self.is_new = false;
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

    /// Makes the record on top the current one; `false` where it says that the ref is deleted.
    fn take(&mut self, top: usize) -> bool {
        let cursor = &self.cursors[top];
        self.name.clear();
        self.name.extend_from_slice(cursor.name());
        self.value.clone_from(cursor.value());
        self.value != Value::Deleted
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
