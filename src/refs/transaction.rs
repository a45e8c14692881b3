//! Ref transactions: compare-and-swap under git's lock files, directory/file conflicts, atomic or one by one, roll-back.
//!
//! In: changes. Out: a result for each. What was promised is on the disk when a commit returns. A crash leaves each ref old or new,
//! and an atomic transaction all old or all new. Nothing of objects is known here.

use super::{RefStore, Storage};
use crate::auth::WriteGrant;
use crate::durable::{Sharing, Sync};
use crate::protocol::report::Refusal;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// How long locks are waited for and what is forced to disk.
#[derive(Debug, Clone)]
pub struct LockPolicy {
    /// `core.filesRefLockTimeout`
    pub ref_timeout: Duration,
    /// `core.packedRefsTimeout`
    pub packed_timeout: Duration,
    /// How tables are written, where refs are kept in a reftable.
    pub tables: TablePolicy,
    /// Loose refs, packed-refs, tables, reflogs.
    pub sync: Sync,
    /// Modes of new files.
    pub sharing: Sharing,
}

/// How the tables of a reftable are laid out, and when they are made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TablePolicy {
    /// `reftable.lockTimeout`
    pub lock_timeout: Duration,
    /// `reftable.blockSize`: the bytes of a block.
    pub block_size: u32,
    /// `reftable.restartInterval`: of so many records one has its whole name.
    pub restart_interval: u16,
    /// `reftable.indexObjects`: whether large tables list the objects that their refs name.
    pub index_objects: bool,
    /// `reftable.geometricFactor`: how many times larger than the next a table is.
    pub geometric_factor: u8,
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

    /// Whether it wants to be told of states at all.
    fn listens(&self) -> bool {
        true
    }

    /// A change was refused; `detail` is what C git says on the side band, without `error: `.
    fn refused(&mut self, name: &BStr, detail: &str) {
        let _ = (name, detail);
    }
}

/// Of which refs a missing log is created (core.logAllRefUpdates).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRefs {
    /// Of none, as in a bare repository.
    Existing,
    /// Branches, remotes, notes and HEAD.
    Branches,
    /// Everything.
    Always,
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
    /// Of which of the refs that change with this one a missing log is created.
    pub create: LogRefs,
}

impl ReflogEntry {
    /// Whether a missing log of this name is created (UP-22).
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

    /// The message as it stands in a log: whatever would end the line is a blank in it.
    pub(super) fn one_line(&self) -> Vec<u8> {
        one_line(&self.message)
    }
}

/// Whatever would end a line is a blank in it.
pub(super) fn one_line(text: &[u8]) -> Vec<u8> {
    text.trim().iter().map(|byte| if matches!(byte, b'\n' | b'\r' | 0) { b' ' } else { *byte }).collect()
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
    /// The reflog line, which all changes of a push may share.
    pub reflog: Option<Rc<ReflogEntry>>,
}

/// Tells what an object peels to, as in [`super::Row`].
pub type Peel<'a> = &'a dyn Fn(ObjectId) -> Option<Option<ObjectId>>;

/// Why a change was refused, and what C git says about it on the side band; `None`: it was made. Of many changes few are refused.
pub(super) type Refused = Option<Box<(Refusal, Option<String>)>>;

/// Changes that are made together.
pub struct RefTransaction<'a> {
    store: &'a RefStore,
    _proof: &'a WriteGrant,
    locks: LockPolicy,
    hook: &'a mut dyn TransactionHook,
    peel: Option<Peel<'a>>,
    behind: Vec<PathBuf>,
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
        RefTransaction { store, _proof: proof, locks, hook, peel: None, behind: Vec::new(), changes: Vec::new() }
    }

    /// Lets tags that go to packed-refs stand there peeled. Without it readers have to look into them.
    pub fn peel_with(&mut self, peel: Peel<'a>) {
        self.peel = Some(peel);
    }

    /// Names directories whose entries must not be on the disk later than a ref that moves.
    pub fn rest_on(&mut self, directories: Vec<PathBuf>) {
        self.behind = directories;
    }

    /// Adds changes; the results come in their order.
    pub fn add(&mut self, changes: impl IntoIterator<Item = RefChange>) {
        let changes = changes.into_iter();
        if self.changes.is_empty() {
            self.changes = changes.collect();
        } else {
            self.changes.extend(changes);
        }
    }

    /// Makes all changes or none: one result for each, the same refusal for all but the culprits (UP-20).
    pub fn commit_atomic(mut self) -> Vec<Result<(), Refusal>> {
        let mut results = vec![Ok(()); self.changes.len()];
        let all: Vec<usize> = (0..self.changes.len()).collect();
        self.run(&all, true, &mut results);
        results
    }

    /// Makes what can be made; each change fails alone (UP-19).
    ///
    /// Deletions come first and by themselves, as in C git: what is deleted is out of the way of what is created.
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
            Storage::Files(files) => files.transact(&changes, atomic, &self.locks, self.peel, &self.behind, self.hook),
            Storage::Reftable(reftable) => {
                reftable.transact(&changes, atomic, &self.locks, self.peel, &self.behind, self.hook)
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
