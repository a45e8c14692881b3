//! Ref transactions: compare-and-swap under git's lock files, directory/file conflicts, atomic or one by one, rollback.
//!
//! In: changes. Out: a result for each. Changes reported as made are on disk when a commit returns. A crash leaves each
//! ref at its old or new value, and all refs of an atomic transaction at the old or all at the new ones. Objects are
//! never looked at here.

use super::{Peeled, RefStore, Storage};
use crate::auth::WriteGrant;
use crate::durable::{Sharing, Sync};
use crate::protocol::report::Refusal;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// How long to wait for locks, and what is forced to disk.
#[derive(Debug, Clone)]
pub struct LockPolicy {
    /// `core.filesRefLockTimeout`.
    pub ref_timeout: Duration,
    /// `core.packedRefsTimeout`.
    pub packed_timeout: Duration,
    /// How tables are written, if refs are stored in a reftable.
    pub tables: TablePolicy,
    /// How loose refs, packed-refs, tables and reflogs are forced to disk.
    pub sync: Sync,
    /// Modes of new files.
    pub sharing: Sharing,
}

/// How the tables of a reftable are laid out, and when they are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TablePolicy {
    /// `reftable.lockTimeout`.
    pub lock_timeout: Duration,
    /// `reftable.blockSize`: the size of a block in bytes.
    pub block_size: u32,
    /// `reftable.restartInterval`: every how many records the whole name is stored.
    pub restart_interval: u16,
    /// `reftable.indexObjects`: whether large tables list the objects that their refs point to.
    pub index_objects: bool,
    /// `reftable.geometricFactor`: how many times larger than the next newer table each must be.
    pub geometric_factor: u8,
}

/// The states of a transaction, as the reference-transaction hook sees them (UP-23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// Nothing is locked yet; the hook may veto.
    Preparing,
    /// Everything is locked; the hook may veto.
    Prepared,
    /// The changes are made.
    Committed,
    /// No changes were made.
    Aborted,
}

/// Receives the states of a transaction.
pub trait TransactionHook {
    /// Called for each state. Each of `updates` is the old value (null if the ref must not exist, or if none was
    /// given), the new value (null for a deletion) and the name. `false` vetoes, if the state allows that.
    fn state(&mut self, state: TransactionState, updates: &[(ObjectId, ObjectId, BString)]) -> bool;

    /// Whether it wants to see states at all.
    fn listens(&self) -> bool {
        true
    }

    /// Called for a refused change; `detail` is what C git would say on the side band, without `error: `.
    fn refused(&mut self, name: &BStr, detail: &str) {
        let _ = (name, detail);
    }
}

/// For which refs a missing reflog is created (core.logAllRefUpdates).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRefs {
    /// For none, as in a bare repository.
    Existing,
    /// For branches, remotes, notes and HEAD.
    Branches,
    /// For all.
    Always,
}

/// An entry for the reflog.
#[derive(Debug, Clone)]
pub struct ReflogEntry {
    /// The committer, `Name <email>`.
    pub who: BString,
    /// Unix seconds.
    pub when: u64,
    /// The message, such as `push`.
    pub message: BString,
    /// For which of the refs that change with this one a missing reflog is created.
    pub create: LogRefs,
}

impl ReflogEntry {
    /// Whether a missing reflog of this name is created (UP-22).
    pub(super) fn creates(&self, name: &BStr) -> bool {
        match self.create {
            LogRefs::Existing => false,
            LogRefs::Branches => {
                name == "HEAD"
                    || [&b"refs/heads/"[..], b"refs/remotes/", b"refs/notes/"].iter().any(|root| name.starts_with(root))
            }
            LogRefs::Always => true,
        }
    }

    /// The message as a reflog stores it, with characters that would end the line replaced by spaces.
    pub(super) fn one_line(&self) -> Vec<u8> {
        one_line(&self.message)
    }
}

/// A text without surrounding white space, with characters that would end the line replaced by spaces.
pub(super) fn one_line(text: &[u8]) -> Vec<u8> {
    text.trim().iter().map(|byte| if matches!(byte, b'\n' | b'\r' | 0) { b' ' } else { *byte }).collect()
}

/// One change of a ref.
#[derive(Debug, Clone)]
pub struct RefChange {
    /// The full name. If the ref is symbolic, the ref it leads to is changed.
    pub name: BString,
    /// The value the ref must have; null if it must not exist, `None` if any value will do.
    pub old: Option<ObjectId>,
    /// The new value; `None` deletes the ref.
    pub new: Option<ObjectId>,
    /// The reflog entry, which all changes of a push may share.
    pub reflog: Option<Rc<ReflogEntry>>,
}

/// Tells what an object peels to.
pub type Peel<'a> = &'a dyn Fn(ObjectId) -> Peeled<ObjectId>;

/// Why a change was refused, and what C git says about it on the side band; `None` if it was made. It is boxed because
/// few changes are refused.
pub(super) type Refused = Option<Box<(Refusal, Option<String>)>>;

/// Changes that are made together.
pub struct RefTransaction<'a> {
    store: &'a RefStore,
    _proof: &'a WriteGrant,
    locks: LockPolicy,
    hook: &'a mut dyn TransactionHook,
    peel: Option<Peel<'a>>,
    durable_first: Vec<PathBuf>,
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
        RefTransaction { store, _proof: proof, locks, hook, peel: None, durable_first: Vec::new(), changes: Vec::new() }
    }

    /// Lets packed-refs and tables store what tags peel to. Without this, readers have to look into the tags.
    pub fn peel_with(&mut self, peel: Peel<'a>) {
        self.peel = Some(peel);
    }

    /// Names directories whose entries must be on disk no later than a ref that changes.
    pub fn force_first(&mut self, directories: Vec<PathBuf>) {
        self.durable_first = directories;
    }

    /// Adds changes; the results come in the same order.
    pub fn add(&mut self, changes: impl IntoIterator<Item = RefChange>) {
        let changes = changes.into_iter();
        if self.changes.is_empty() {
            self.changes = changes.collect();
        } else {
            self.changes.extend(changes);
        }
    }

    /// Makes all changes or none. If any is refused, all others get the same refusal (UP-20).
    pub fn commit_atomic(mut self) -> Vec<Result<(), Refusal>> {
        let mut results = vec![Ok(()); self.changes.len()];
        let all: Vec<usize> = (0..self.changes.len()).collect();
        self.run(&all, true, &mut results);
        results
    }

    /// Makes the changes that can be made; each fails alone (UP-19).
    ///
    /// Deletions come first and as a transaction of their own, as in C git, so that deleted names do not conflict with
    /// created ones.
    pub fn commit_each(mut self) -> Vec<Result<(), Refusal>> {
        let mut results = vec![Ok(()); self.changes.len()];
        let (deletions, others): (Vec<usize>, Vec<usize>) =
            (0..self.changes.len()).partition(|at| self.changes[*at].new.is_none());
        self.run(&deletions, false, &mut results);
        self.run(&others, false, &mut results);
        results
    }

    fn run(&mut self, chosen: &[usize], atomic: bool, results: &mut [Result<(), Refusal>]) {
        if chosen.is_empty() {
            return;
        }
        let changes: Vec<&RefChange> = chosen.iter().map(|at| &self.changes[*at]).collect();
        let refused = match &self.store.storage {
            Storage::Files(files) => {
                files.transact(&changes, atomic, &self.locks, self.peel, &self.durable_first, self.hook)
            }
            Storage::Reftable(reftable) => {
                reftable.transact(&changes, atomic, &self.locks, self.peel, &self.durable_first, self.hook)
            }
        };
        for ((refused, at), change) in refused.into_iter().zip(chosen).zip(&changes) {
            if let Some((refusal, detail)) = refused.map(|refused| *refused) {
                if let Some(detail) = detail {
                    self.hook.refused(change.name.as_bstr(), &detail);
                }
                results[*at] = Err(refusal);
            }
        }
    }
}

#[cfg(test)]
mod tests;
