//! The objects that keep others: the refs of all worktrees, and their HEADs.
//!
//! In: a repository. Out: object names, each once. A broken ref keeps nothing, nor do reflogs and indexes: what only
//! they reach stays as it is.

use crate::odb::ids::IdSet;
use crate::refs::RefStore;
use crate::repo::{Repository, worktrees};
use anyhow::Result;
use bstr::ByteSlice;
use gix_hash::ObjectId;

/// The objects that refs and HEADs of all worktrees point to, sorted.
pub(super) fn all(repository: &Repository) -> Result<Vec<ObjectId>> {
    let mut found = IdSet::default();
    add(&repository.refs, &mut found)?;
    let (storage, common) = (&repository.settings.ref_storage, &repository.common_dir);
    for worktree in worktrees::all(repository) {
        add(&storage.open(&worktree.git_dir, common, repository.hash()), &mut found)?;
    }
    let mut tips: Vec<ObjectId> = found.into_iter().collect();
    tips.sort_unstable();
    Ok(tips)
}

fn add(refs: &RefStore, found: &mut IdSet) -> Result<()> {
    refs.for_each(&[], &mut |row| {
        found.insert(row.id.id());
        Ok(())
    })?;
    // An unreadable HEAD keeps nothing.
    found.extend(refs.resolve(b"HEAD".as_bstr()).ok().flatten());
    Ok(())
}
