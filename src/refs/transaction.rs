//! Ref transactions: compare-and-swap under git's lock files, directory/file conflicts, atomic or one by one, roll-back.

use super::RefStore;
use crate::auth::WriteGrant;
use crate::durable::{Sharing, Sync};
use crate::protocol::report::Refusal;
use bstr::BString;
use gix_hash::ObjectId;
use std::time::Duration;

/// How long locks are waited for and what is forced to disk.
#[derive(Debug, Clone)]
pub struct LockPolicy {
    /// `core.filesRefLockTimeout`
    pub ref_timeout: Duration,
    /// `core.packedRefsTimeout`
    pub packed_timeout: Duration,
    /// Loose refs, packed-refs, reflogs.
    pub sync: Sync,
    /// Modes of new files.
    pub sharing: Sharing,
}

/// What the reference-transaction hook is told (UP-23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// Before anything is locked; may veto.
    Preparing,
    /// Everything is locked; may veto.
    Prepared,
    /// Done.
    Committed,
    /// Nothing was done.
    Aborted,
}

/// Who is told of a transaction's states.
pub trait TransactionHook {
    /// `updates`: old value (null: must not exist, or not given), new value (null: deleted), name. `false` vetoes where
    /// the state allows it.
    fn state(&mut self, state: TransactionState, updates: &[(ObjectId, ObjectId, BString)]) -> bool;
}

/// Whose line a reflog gets, and why.
#[derive(Debug, Clone)]
pub struct ReflogEntry {
    /// `Name <email>`
    pub who: BString,
    /// Unix seconds.
    pub when: u64,
    /// `push`
    pub message: BString,
    /// Whether a missing log is created for this name (core.logAllRefUpdates).
    pub create: bool,
}

/// One change.
#[derive(Debug, Clone)]
pub struct RefChange {
    /// The full name; a symbolic ref is followed, its target changes.
    pub name: BString,
    /// The value it must have now; null: it must not exist. `None`: whatever it is.
    pub old: Option<ObjectId>,
    /// The new value; `None` deletes.
    pub new: Option<ObjectId>,
    /// The reflog line.
    pub reflog: Option<ReflogEntry>,
}

/// Changes that are made together.
pub struct RefTransaction<'a> {
    store: &'a RefStore,
    _proof: &'a WriteGrant,
    locks: LockPolicy,
    hook: &'a mut dyn TransactionHook,
    changes: Vec<RefChange>,
}

impl<'a> RefTransaction<'a> {
    /// An empty transaction. Nothing is locked yet.
    pub fn begin(
        store: &'a RefStore,
        proof: &'a WriteGrant,
        locks: LockPolicy,
        hook: &'a mut dyn TransactionHook,
    ) -> Self {
        RefTransaction { store, _proof: proof, locks, hook, changes: Vec::new() }
    }

    /// Adds a change; the results come in the order of the calls.
    pub fn add(&mut self, change: RefChange) {
        self.changes.push(change);
    }

    /// Makes all changes or none: one result for each, the same refusal for all but the culprits (UP-20).
    pub fn commit_atomic(self) -> Vec<Result<(), Refusal>> {
        let _ = (self.store, self.locks, self.hook);
        unimplemented!()
    }

    /// Makes what can be made; each change fails alone (UP-19).
    pub fn commit_each(self) -> Vec<Result<(), Refusal>> {
        unimplemented!()
    }
}
