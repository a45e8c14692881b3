//! Work trees: where branches are checked out (git-worktree).
//!
//! In: a repository. Out: its main work tree, unless it is bare, and all linked ones. Those that cannot be read are
//! left out, as by git. Nothing is ever changed.

use super::Repository;
use crate::refs::Target;
use bstr::{BString, ByteSlice};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The largest file, in bytes, that names a branch or a path in a work tree's git directory.
const POINTER_BYTES_MAX: u64 = 4096;

/// A directory where a commit is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worktree {
    /// Its git directory, with a HEAD and an index of its own.
    pub git_dir: PathBuf,
    /// The directory of its files. `None` if unknown, as for a repository that is not bare, has no `core.worktree` and
    /// is not called `.git`.
    pub place: Option<PathBuf>,
    /// The branch that HEAD leads to, directly or through symbolic refs, or else the one being rebased or bisected.
    pub branch: Option<BString>,
    /// Whether that branch has no commit yet.
    pub unborn: bool,
}

/// All work trees of a repository.
pub fn all(repository: &Repository) -> Vec<Worktree> {
    let common = &repository.common_dir;
    let mut worktrees = Vec::new();
    if !repository.settings.is_bare(common) {
        worktrees.push(Worktree::read(repository, common.clone(), place_of_main(repository)));
    }
    // If this cannot be read, git finds no linked work trees either.
    let linked = std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten();
    for git_dir in linked.map(|entry| entry.path()) {
        let Some(place) = pointer(&git_dir.join("gitdir")) else { continue };
        let place = git_dir.join(OsStr::from_bytes(&place));
        let place = if place.ends_with(".git") { place.parent().map(Path::to_owned) } else { Some(place) };
        worktrees.push(Worktree::read(repository, git_dir, place));
    }
    worktrees
}

fn place_of_main(repository: &Repository) -> Option<PathBuf> {
    let common = &repository.common_dir;
    match &repository.settings.worktree {
        Some(path) => Some(common.join(OsStr::from_bytes(path))),
        None if common.ends_with(".git") => common.parent().map(Path::to_owned),
        None => None,
    }
}

impl Worktree {
    fn read(repository: &Repository, git_dir: PathBuf, place: Option<PathBuf>) -> Self {
        let storage = &repository.settings.ref_storage;
        let refs = storage.open(&git_dir, &repository.common_dir, repository.hash());
        // A HEAD that cannot be read names no branch, as in git.
        let head = b"HEAD".as_bstr();
        let (branch, unborn) = match refs.follow(head) {
            Ok((branch, id)) if branch != head => (Some(branch), id.is_none()),
            Ok(_) => (in_the_middle(&git_dir), false),
            Err(_) => match refs.read(head) {
                Ok(Some(Target::Symbolic(branch))) => (Some(branch), false),
                Ok(_) | Err(_) => (in_the_middle(&git_dir), false),
            },
        };
        Worktree { git_dir, place, branch, unborn }
    }
}

/// The branch being rebased or bisected.
fn in_the_middle(git_dir: &Path) -> Option<BString> {
    for rebasing in ["rebase-merge/head-name", "rebase-apply/head-name"] {
        if let Some(name) = pointer(&git_dir.join(rebasing)) {
            return Some(name);
        }
    }
    if !git_dir.join("BISECT_LOG").exists() {
        return None;
    }
    let bisected = pointer(&git_dir.join("BISECT_START"))?;
    let mut name = BString::from("refs/heads/");
    name.extend_from_slice(bisected.strip_prefix(b"refs/heads/").unwrap_or(&bisected));
    Some(name)
}

/// Reads a small file that contains one line.
fn pointer(path: &Path) -> Option<BString> {
    use std::io::Read;
    let mut content = Vec::new();
    std::fs::File::open(path).ok()?.take(POINTER_BYTES_MAX).read_to_end(&mut content).ok()?;
    Some(content.trim_end().into())
}
