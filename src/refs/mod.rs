//! Names: one ref, HEAD, all refs in order, and transactions. Nothing of objects is known here.

pub mod reflog;
pub mod stream;
pub mod transaction;

use bstr::{BStr, BString};
use gix_hash::ObjectId;
use std::path::{Path, PathBuf};

pub use transaction::{LockPolicy, RefTransaction, TransactionHook, TransactionState};

/// What a ref's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An object.
    Direct(ObjectId),
    /// Another ref.
    Symbolic(BString),
}

/// One ref as a listing gives it, symbolic ones followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// The full name.
    pub name: &'a BStr,
    /// The object it leads to in the end.
    pub id: ObjectId,
    /// What packed-refs says the tag peels to: `Some(None)` is «known to be no tag», `None` is not known.
    pub peeled: Option<Option<ObjectId>>,
    /// For a symbolic ref: the first target.
    pub symref_target: Option<&'a BStr>,
}

/// The refs of one repository (files: loose and packed).
pub struct RefStore {
    git_dir: PathBuf,
    common_dir: PathBuf,
    hash: gix_hash::Kind,
}

impl RefStore {
    /// `git_dir` holds HEAD and per-worktree refs, `common_dir` the others; equal but for linked worktrees.
    pub fn new(git_dir: PathBuf, common_dir: PathBuf, hash: gix_hash::Kind) -> Self {
        RefStore { git_dir, common_dir, hash }
    }

    /// The directory of HEAD.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The directory of shared refs.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// SHA-1 or SHA-256.
    pub fn hash_kind(&self) -> gix_hash::Kind {
        self.hash
    }

    /// What the ref itself says: loose, then packed, then loose again (ST-01). `None`: there is none.
    ///
    /// # Errors
    /// When it cannot be read or is broken.
    pub fn read(&self, name: &BStr) -> anyhow::Result<Option<Target>> {
        let _ = name;
        unimplemented!()
    }

    /// The object a ref leads to in the end (at most 5 symbolic steps, as git). `None`: missing or dangling.
    ///
    /// # Errors
    /// When a ref on the way cannot be read or is broken.
    pub fn resolve(&self, name: &BStr) -> anyhow::Result<Option<ObjectId>> {
        let _ = name;
        unimplemented!()
    }

    /// All refs whose full names begin with one of `prefixes` (all below `refs/` where it is empty), in byte order, each once.
    /// Broken and dangling ones are left out. HEAD is not among them.
    ///
    /// # Errors
    /// When a directory or packed-refs cannot be read, or `each` fails.
    pub fn for_each(
        &self,
        prefixes: &[BString],
        each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let _ = (prefixes, each);
        unimplemented!()
    }
}
