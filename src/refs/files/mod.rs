//! Refs as files: loose refs, one file each, and packed-refs.
//!
//! In: names. Out: values, listings, changes. Layout and locks are C git's, whose processes may change the same refs at
//! the same time.

mod batch;
#[cfg(test)]
mod crash;
mod loose;
mod packed;
mod reflog;
mod rewrite;
mod stream;

use super::changes::{self, Changes};
use super::prefixes::Prefixes;
use super::transaction::{LockPolicy, Peel, RefChange, Refused, TransactionHook};
use super::{Row, Target, is_per_worktree};
use crate::journal::Journal;
use anyhow::{Context, bail};
use batch::Batch;
use bstr::{BStr, ByteSlice};
use loose::Loose;
use packed::Packed;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of one repository's refs.
pub(super) struct Files {
    pub(super) git_dir: PathBuf,
    pub(super) common_dir: PathBuf,
    pub(super) hash: gix_hash::Kind,
    pub(super) journal: Arc<Journal>,
}

impl Files {
    /// See [`super::RefStore::read`]; the name must be safe. Looks for a loose ref, then in packed-refs, then for a
    /// loose ref again (ST-01).
    pub(super) fn read(&self, name: &BStr) -> anyhow::Result<Option<Target>> {
        match self.read_loose(name)? {
            Loose::Found(target) => return Ok(Some(target)),
            Loose::Broken => bail!("unable to resolve reference '{name}': reference broken"),
            Loose::Missing | Loose::Directory => {}
        }
        if !name.starts_with(b"refs/") {
            return Ok(None);
        }
        if let Some(id) = Packed::open(&self.packed_path(), self.hash)?.find(name)? {
            return Ok(Some(Target::Direct(id)));
        }
        // The ref may have been created between the two lookups, or become loose by an update after it was packed.
        match self.read_loose(name)? {
            Loose::Found(target) => Ok(Some(target)),
            Loose::Broken => bail!("unable to resolve reference '{name}': reference broken"),
            Loose::Missing | Loose::Directory => Ok(None),
        }
    }

    /// See [`super::RefStore::is_symbolic`].
    pub(super) fn is_symbolic(&self, name: &BStr) -> anyhow::Result<bool> {
        Ok(matches!(self.read_loose(name)?, Loose::Found(Target::Symbolic(_))))
    }

    /// See [`super::RefStore::for_each`].
    pub(super) fn for_each(
        &self,
        prefixes: &Prefixes<'_>,
        each: &mut dyn FnMut(&Row<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        stream::for_each(self, prefixes, each)
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

    /// The directory that a ref's file and reflog are relative to.
    fn base(&self, name: &[u8]) -> &Path {
        if is_per_worktree(name.as_bstr()) { &self.git_dir } else { &self.common_dir }
    }

    /// The path of a loose ref, whose name must be safe.
    fn loose_path(&self, name: &[u8]) -> PathBuf {
        self.base(name).join(OsStr::from_bytes(name))
    }

    fn read_loose(&self, name: &BStr) -> anyhow::Result<Loose> {
        loose::read(&self.loose_path(name), self.hash).with_context(|| format!("unable to resolve reference '{name}'"))
    }

    fn packed_path(&self) -> PathBuf {
        self.common_dir.join("packed-refs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refs::fixture::Repo;

    #[test]
    fn a_ref_is_read_loose_first_then_packed_and_symbolic_ones_as_such() {
        let repo = Repo::new();
        let (one, two) = (repo.commit("one"), repo.commit("two"));
        repo.git(&["update-ref", "refs/heads/main", &one.to_string()]);
        repo.git(&["update-ref", "refs/heads/packed", &one.to_string()]);
        repo.git(&["pack-refs", "--all"]);
        repo.git(&["update-ref", "refs/heads/main", &two.to_string()]);
        repo.git(&["symbolic-ref", "refs/heads/other", "refs/heads/packed"]);
        let is_symbolic = |name: &str| repo.store().is_symbolic(name.into()).unwrap();
        assert!(is_symbolic("refs/heads/other") && is_symbolic("HEAD"));
        assert!(!["refs/heads/main", "refs/heads/packed", "refs/heads/none", "refs/../x"].into_iter().any(is_symbolic));
        repo.write("refs/heads/broken", "nonsense");
        fs_link(&repo, "refs/heads/packed", "refs/heads/link");
        let store = repo.store();
        let check =
            |name: &str, expected: Option<Target>| assert_eq!(store.read(name.into()).unwrap(), expected, "{name}");
        check("refs/heads/main", Some(Target::Direct(two)));
        check("refs/heads/packed", Some(Target::Direct(one)));
        check("refs/heads/other", Some(Target::Symbolic("refs/heads/packed".into())));
        check("refs/heads/link", Some(Target::Symbolic("refs/heads/packed".into())));
        check("HEAD", Some(Target::Symbolic("refs/heads/main".into())));
        check("refs/heads/missing", None);
        check("refs/heads", None);
        check("refs/heads/main/below", None);
        check("refs/../HEAD", None);
        check("config", None);
        assert!(store.read("refs/heads/broken".into()).is_err());
        assert_eq!(store.resolve("HEAD".into()).unwrap(), Some(two));
        assert_eq!(store.resolve("refs/heads/other".into()).unwrap(), Some(one));
        assert_eq!(store.resolve("refs/heads/missing".into()).unwrap(), None);
    }

    #[test]
    fn five_refs_are_read_on_the_way_to_an_object_and_no_more() {
        let repo = Repo::new();
        let one = repo.commit("one");
        repo.git(&["update-ref", "refs/heads/r0", &one.to_string()]);
        for step in 1..6 {
            repo.write(&format!("refs/heads/r{step}"), &format!("ref: refs/heads/r{}\n", step - 1));
        }
        let store = repo.store();
        assert_eq!(store.resolve("refs/heads/r4".into()).unwrap(), Some(one));
        assert!(store.resolve("refs/heads/r5".into()).is_err());
        assert_eq!(repo.our_refs(&[]), repo.refs());
    }

    fn fs_link(repo: &Repo, target: &str, name: &str) {
        std::os::unix::fs::symlink(target, repo.dir().join(name)).unwrap();
    }
}
