//! Refs as a stack of tables (git's reftable format, Documentation/technical/reftable).
//!
//! In: names. Out: values from the newest table that has them, listings of one moment, new tables on top of the stack.
//! A table never changes once it is written, so an open one stays valid; the list is checked for newer ones each time.

mod append;
mod batch;
mod block;
mod compact;
mod create;
mod merged;
mod record;
mod stack;
mod table;
#[cfg(test)]
mod tests;
mod writer;
#[cfg(test)]
mod writing;

use super::changes::{self, Changes};
use super::prefixes::Prefixes;
use super::transaction::{LockPolicy, Peel, RefChange, Refused, TransactionHook};
use super::{Peeled, Row, SYMBOLIC_READS_MAX, Target, is_per_worktree, name};
use crate::journal::Journal;
use batch::Batch;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use merged::Merged;
use record::Value;
use stack::Stack;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

pub(super) use create::create;

/// The directory of the tables in a git directory.
const DIRECTORY: &str = "reftable";

/// Whether a git directory stores its refs in a reftable.
pub(super) fn is_at(git_dir: &Path) -> bool {
    git_dir.join(DIRECTORY).join(stack::LIST).is_file()
}

/// The tables of one repository.
pub(super) struct Reftable {
    shared: Tables,
    /// HEAD and the other refs of a linked worktree; the main worktree's are in the shared tables.
    own: Option<Tables>,
    hash: gix_hash::Kind,
}

impl Reftable {
    pub(super) fn new(git_dir: &Path, common_dir: &Path, hash: gix_hash::Kind, journal: &Arc<Journal>) -> Self {
        let tables = |directory: &Path| Tables {
            directory: directory.join(DIRECTORY),
            journal: journal.clone(),
            open: RefCell::default(),
        };
        Reftable { shared: tables(common_dir), own: (git_dir != common_dir).then(|| tables(git_dir)), hash }
    }

    /// Makes changes, and returns the refusal of each, if any.
    pub(super) fn transact(
        &self,
        changes: &[&RefChange],
        atomic: bool,
        locks: &LockPolicy,
        peel: Option<Peel<'_>>,
        durable_first: &[PathBuf],
        hook: &mut dyn TransactionHook,
    ) -> Vec<Refused> {
        let mut batch = Batch::new(self, locks, peel, durable_first, Changes::new(changes, atomic, self.hash));
        changes::make(&mut batch, hook);
        batch.finish()
    }

    /// All stacks: the shared one, and that of a linked worktree.
    fn stacks(&self) -> impl Iterator<Item = &Tables> {
        [Some(&self.shared), self.own.as_ref()].into_iter().flatten()
    }

    /// The index of the stack that a ref is in.
    fn number_of(&self, name: &BStr) -> usize {
        usize::from(self.own.is_some() && is_per_worktree(name))
    }

    /// See [`super::RefStore::read`].
    pub(super) fn read(&self, name: &BStr) -> anyhow::Result<Option<Target>> {
        let tables = self.own.as_ref().filter(|_| is_per_worktree(name)).unwrap_or(&self.shared);
        Ok(match tables.now(self.hash)?.find(name)? {
            None | Some(Value::Deleted) => None,
            Some(Value::Direct(id, _)) => Some(Target::Direct(id)),
            Some(Value::Symbolic(target)) => Some(Target::Symbolic(target)),
        })
    }

    /// See [`super::RefStore::for_each`].
    pub(super) fn for_each(
        &self,
        prefixes: &Prefixes<'_>,
        each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let own = self.own.as_ref().map(|own| own.now(self.hash)).transpose()?;
        Snapshot { shared: self.shared.now(self.hash)?, own }.for_each(prefixes, each)
    }
}

/// One directory of tables.
struct Tables {
    directory: PathBuf,
    journal: Arc<Journal>,
    /// The tables as of the last call of [`Tables::now`].
    open: RefCell<Option<Rc<Stack>>>,
}

impl Tables {
    /// The current tables.
    fn now(&self, hash: gix_hash::Kind) -> anyhow::Result<Rc<Stack>> {
        let mut open = self.open.borrow_mut();
        if let Some(stack) = open.as_ref()
            && stack.is_current(&self.directory)?
        {
            return Ok(Rc::clone(stack));
        }
        let stack = Rc::new(Stack::open(&self.directory, hash)?);
        *open = Some(Rc::clone(&stack));
        Ok(stack)
    }
}

/// All refs at one moment.
struct Snapshot {
    shared: Rc<Stack>,
    own: Option<Rc<Stack>>,
}

impl Snapshot {
    fn for_each(
        &self,
        prefixes: &Prefixes<'_>,
        each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut shared = self.shared.refs();
        let mut own = self.own.as_ref().map(|own| own.refs());
        for prefix in prefixes.iter() {
            shared.seek(prefix)?;
            if let Some(own) = &mut own {
                own.seek(prefix)?;
            }
            loop {
                let theirs = shared.current().filter(|(name, _)| name.starts_with(prefix));
                let mine = own.as_ref().and_then(Merged::current).filter(|(name, _)| name.starts_with(prefix));
                let is_mine = match (theirs, mine) {
                    (None, None) => break,
                    (Some((theirs, _)), Some((mine, _))) => mine <= theirs,
                    (theirs, _) => theirs.is_none(),
                };
                match (mine.filter(|_| is_mine), theirs) {
                    (Some((name, record)), _) if is_per_worktree(name.as_bstr()) => {
                        self.give(name.as_bstr(), &record.value, each)?;
                    }
                    // Per-worktree refs of the main worktree are not a linked worktree's.
                    (None, Some((name, record))) if self.own.is_none() || !is_per_worktree(name.as_bstr()) => {
                        self.give(name.as_bstr(), &record.value, each)?;
                    }
                    _ => {}
                }
                match own.as_mut().filter(|_| is_mine) {
                    Some(own) => own.advance()?,
                    None => shared.advance()?,
                };
            }
        }
        Ok(())
    }

    fn give(
        &self,
        name: &BStr,
        value: &Value,
        each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !name::is_valid(name) {
            return Ok(());
        }
        match value {
            Value::Deleted => Ok(()),
            Value::Direct(id, peeled) => {
                // A ref stored without a peeled value may still be a tag that could not be read then; a branch is never
                // one (UP-25).
                let peeled = peeled.as_ref().map_or(Peeled::of_name(name), |peeled| Peeled::To(peeled.into()));
                each(&Row { name, id: id.into(), line: None, peeled, symref_target: None })
            }
            Value::Symbolic(target) => match self.resolve(target)? {
                Some((last, id)) => {
                    let (id, symref_target) = ((&id).into(), Some(last.as_bstr()));
                    each(&Row { name, id, line: None, peeled: Peeled::Unknown, symref_target })
                }
                None => Ok(()),
            },
        }
    }

    /// Where a symbolic ref leads; `None` if it is dangling.
    fn resolve(&self, target: &BString) -> anyhow::Result<Option<(BString, ObjectId)>> {
        let mut at = target.clone();
        // Starts at 1, because the symbolic ref itself has been read.
        for _ in 1..SYMBOLIC_READS_MAX {
            if !name::is_valid(&at) || !name::is_safe(&at) {
                return Ok(None);
            }
            let stack = self.own.as_ref().filter(|_| is_per_worktree(at.as_bstr())).unwrap_or(&self.shared);
            match stack.find(&at)? {
                None | Some(Value::Deleted) => return Ok(None),
                Some(Value::Direct(id, _)) => return Ok(Some((at, id))),
                Some(Value::Symbolic(target)) => at = target,
            }
        }
        Ok(None)
    }
}
