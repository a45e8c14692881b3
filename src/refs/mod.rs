//! Refs: one ref, HEAD, all refs in order, and transactions.
//!
//! In: names and changes. Out: what refs point to, and which refs exist. There are two stores, `files` and
//! `reftable`; nothing outside knows which one a repository has. Objects are never looked at here.

mod changes;
mod create;
mod files;
#[cfg(test)]
mod fixture;
mod identity;
mod lock;
mod name;
mod prefixes;
mod reftable;
mod row;
pub mod transaction;

use crate::journal::Journal;
use anyhow::bail;
use bstr::{BStr, BString, ByteSlice};
use files::Files;
use gix_hash::ObjectId;
use prefixes::Prefixes;
use reftable::Reftable;
use std::path::PathBuf;
use std::sync::Arc;

pub use create::create;
pub use name::{is_per_worktree, is_ref_name};
pub use row::{Peeled, Row, StoredId};
pub use transaction::{LockPolicy, LogRefs, RefTransaction, TransactionHook, TransactionState};

/// The most refs read on the way from a symbolic ref to an object, as in git.
const SYMBOLIC_READS_MAX: usize = 5;

/// How a repository stores its refs (`extensions.refStorage`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One file for each loose ref, and packed-refs.
    Files,
    /// A stack of tables.
    Reftable,
}

/// The value of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An object.
    Direct(ObjectId),
    /// Another ref.
    Symbolic(BString),
}

/// The refs of one repository.
pub struct RefStore {
    storage: Storage,
    journal: Arc<Journal>,
}

enum Storage {
    Files(Files),
    Reftable(Reftable),
}

impl RefStore {
    /// Nothing is read yet. `git_dir` has HEAD and the per-worktree refs, `common_dir` the others; they differ only for
    /// linked worktrees.
    pub fn new(format: Format, git_dir: PathBuf, common_dir: PathBuf, hash: gix_hash::Kind) -> Self {
        let journal = Journal::of(&common_dir);
        RefStore::with_journal(format, git_dir, common_dir, hash, journal)
    }

    /// The same, with a journal that knows of other directories, too.
    pub fn with_journal(
        format: Format,
        git_dir: PathBuf,
        common_dir: PathBuf,
        hash: gix_hash::Kind,
        journal: Journal,
    ) -> Self {
        let journal = Arc::new(journal);
        let storage = match format {
            Format::Files => Storage::Files(Files { git_dir, common_dir, hash, journal: journal.clone() }),
            Format::Reftable => Storage::Reftable(Reftable::new(&git_dir, &common_dir, hash, &journal)),
        };
        RefStore { storage, journal }
    }

    /// The journal of files that a process changing this repository would leave behind if it died.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The refs of a repository whose configuration is not read, such as an alternate: the format is detected from what
    /// is on disk.
    pub fn of_other(git_dir: PathBuf, hash: gix_hash::Kind) -> Self {
        let format = if reftable::is_at(&git_dir) { Format::Reftable } else { Format::Files };
        RefStore::new(format, git_dir.clone(), git_dir, hash)
    }

    /// How the refs are stored.
    pub fn format(&self) -> Format {
        match self.storage {
            Storage::Files(_) => Format::Files,
            Storage::Reftable(_) => Format::Reftable,
        }
    }

    /// The value of the ref itself. `None` if there is no such ref.
    ///
    /// # Errors
    /// When it cannot be read or is broken.
    pub fn read(&self, name: &BStr) -> anyhow::Result<Option<Target>> {
        // An invalid name never becomes a path.
        if !name::is_ref_name(name) {
            return Ok(None);
        }
        match &self.storage {
            Storage::Files(files) => files.read(name),
            Storage::Reftable(reftable) => reftable.read(name),
        }
    }

    /// Whether a ref is symbolic. This costs less than [`RefStore::read`], because packed-refs need not be searched.
    ///
    /// # Errors
    /// As [`RefStore::read`].
    pub fn is_symbolic(&self, name: &BStr) -> anyhow::Result<bool> {
        if !name::is_ref_name(name) {
            return Ok(false);
        }
        match &self.storage {
            Storage::Files(files) => files.is_symbolic(name),
            Storage::Reftable(reftable) => Ok(matches!(reftable.read(name)?, Some(Target::Symbolic(_)))),
        }
    }

    /// The object a ref leads to, after at most as many symbolic refs as git follows. `None` if it is missing or
    /// dangling.
    ///
    /// # Errors
    /// When a ref on the way cannot be read or is broken.
    pub fn resolve(&self, name: &BStr) -> anyhow::Result<Option<ObjectId>> {
        self.follow(name).map(|(_, id)| id)
    }

    /// As [`RefStore::resolve`], with the name of the ref it ends at, which may not exist.
    ///
    /// # Errors
    /// As [`RefStore::resolve`].
    pub fn follow(&self, name: &BStr) -> anyhow::Result<(BString, Option<ObjectId>)> {
        let mut at = name.to_owned();
        for _ in 0..SYMBOLIC_READS_MAX {
            match self.read(at.as_bstr())? {
                None => return Ok((at, None)),
                Some(Target::Direct(id)) => return Ok((at, Some(id))),
                Some(Target::Symbolic(target)) => at = target,
            }
        }
        bail!("unable to resolve reference '{name}': too many levels of symbolic refs")
    }

    /// Lists all refs whose full names begin with one of `prefixes` (all below `refs/` if empty), in byte order, each
    /// once, from one moment as far as the store can give one. Broken and dangling refs and HEAD are left out.
    ///
    /// # Errors
    /// When the store cannot be read, or `each` fails.
    pub fn for_each(
        &self,
        prefixes: &[BString],
        each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let prefixes = Prefixes::new(prefixes);
        if prefixes.is_empty() {
            return Ok(());
        }
        match &self.storage {
            Storage::Files(files) => files.for_each(&prefixes, each),
            Storage::Reftable(reftable) => reftable.for_each(&prefixes, each),
        }
    }
}
