//! Names: one ref, HEAD, all refs in order, and transactions. Nothing of objects is known here.

mod batch;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod fixture;
mod lock;
mod loose;
mod name;
mod packed;
pub mod reflog;
mod rewrite;
pub mod stream;
pub mod transaction;

use anyhow::{Context, bail};
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use loose::Loose;
use packed::Packed;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use name::is_per_worktree;
pub use transaction::{LockPolicy, RefTransaction, TransactionHook, TransactionState};

/// How many refs are read, at most, on the way from a symbolic one to an object (git's own number).
const SYMBOLIC_READS_MAX: usize = 5;

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
    /// For a symbolic ref: the name the object was found under, the last of the chain, as C git announces it.
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
        // A name that is none never becomes a path.
        if !name::is_valid(name) || !name::is_safe(name) {
            return Ok(None);
        }
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
        // Created between the two looks, or packed and then unpacked by an update.
        match self.read_loose(name)? {
            Loose::Found(target) => Ok(Some(target)),
            Loose::Broken => bail!("unable to resolve reference '{name}': reference broken"),
            Loose::Missing | Loose::Directory => Ok(None),
        }
    }

    /// The object a ref leads to in the end (at most 5 symbolic steps, as git). `None`: missing or dangling.
    ///
    /// # Errors
    /// When a ref on the way cannot be read or is broken.
    pub fn resolve(&self, name: &BStr) -> anyhow::Result<Option<ObjectId>> {
        let mut at = name.to_owned();
        for _ in 0..SYMBOLIC_READS_MAX {
            match self.read(at.as_bstr())? {
                None => return Ok(None),
                Some(Target::Direct(id)) => return Ok(Some(id)),
                Some(Target::Symbolic(target)) => at = target,
            }
        }
        bail!("unable to resolve reference '{name}': too many levels of symbolic refs")
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
        stream::for_each(self, prefixes, each)
    }

    /// The directory a name's file and log lie below.
    fn base(&self, name: &[u8]) -> &Path {
        if is_per_worktree(name.as_bstr()) { &self.git_dir } else { &self.common_dir }
    }

    /// The loose file of a name, which is safe.
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
    use super::fixture::Repo;
    use super::*;

    #[test]
    fn a_ref_is_read_loose_first_then_packed_and_symbolic_ones_as_such() {
        let repo = Repo::new();
        let (one, two) = (repo.commit("one"), repo.commit("two"));
        repo.git(&["update-ref", "refs/heads/main", &one.to_string()]);
        repo.git(&["update-ref", "refs/heads/packed", &one.to_string()]);
        repo.git(&["pack-refs", "--all"]);
        repo.git(&["update-ref", "refs/heads/main", &two.to_string()]);
        repo.git(&["symbolic-ref", "refs/heads/other", "refs/heads/packed"]);
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
