//! A work tree follows a branch that is pushed to (git-config, receive.denyCurrentBranch = updateInstead).
//!
//! In: a work tree, and the commit its branch is to have. Out: the work tree has it, or a refusal and nothing is changed: what somebody
//! has written there is never lost. Done by the hook push-to-checkout, else by an installed git; what they say the client hears.

use super::client::{Client, Hooked};
use crate::children::Ended;
use crate::protocol::report::Refusal;
use crate::repo::Repository;
use crate::repo::hooks::{self, Hook, Told};
use crate::repo::installed;
use crate::repo::worktrees::Worktree;
use gix_hash::ObjectId;
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// Brings a work tree to a commit (UP-08 to UP-10). C git would take a git directory that is not bare and has no work tree for one:
/// files of strangers would become hooks there.
pub(super) fn follow(
    repository: &Repository,
    worktree: &Worktree,
    new: ObjectId,
    client: &mut Client<'_>,
) -> io::Result<Result<(), Refusal>> {
    let Some(place) = &worktree.place else {
        return Ok(Err(Refusal::NoWorktree));
    };
    let environment: Vec<(OsString, OsString)> =
        vec![("GIT_DIR".into(), worktree.git_dir.clone().into()), ("GIT_WORK_TREE".into(), place.clone().into())];
    if hooks::exists(repository, Hook::PushToCheckout) {
        let told = Told { arguments: vec![new.to_string().into()], environment, lines: &hooks::no_lines };
        let agreed = super::run_hook(repository, Hook::PushToCheckout, &told, client)?;
        return Ok(if agreed { Ok(()) } else { Err(Refusal::PushToCheckoutDeclined) });
    }
    by_git(repository, worktree, place, new, &environment, client)
}

/// git looks whether all is as it was committed, then reads the new tree; a file that nobody knows of and that is in the way it
/// leaves as it is, and refuses.
fn by_git(
    repository: &Repository,
    worktree: &Worktree,
    place: &Path,
    new: ObjectId,
    environment: &[(OsString, OsString)],
    client: &mut Client<'_>,
) -> io::Result<Result<(), Refusal>> {
    let empty = ObjectId::empty_tree(repository.hash()).to_string();
    let head = if worktree.unborn { empty.as_str() } else { "HEAD" };
    let new = new.to_string();
    let errands: [(&[&str], Refusal); 4] = [
        (&["update-index", "-q", "--ignore-submodules", "--refresh"], Refusal::WorktreeUnknown),
        (&["diff-files", "--quiet", "--ignore-submodules", "--"], Refusal::UnstagedChanges),
        (&["diff-index", "--quiet", "--cached", "--ignore-submodules", head, "--"], Refusal::StagedChanges),
        (&["read-tree", "-u", "-m", &new], Refusal::WorktreeNotUpdated),
    ];
    for (words, otherwise) in errands {
        let refused = match installed::run(repository, words, environment, place, &mut Hooked(client)) {
            Ok(ended) if ended.well() => continue,
            Ok(Ended::Late) => {
                client.message("error: git took too long and was stopped")?;
                otherwise
            }
            Ok(Ended::Status(_) | Ended::Signal(_)) => otherwise,
            Err(error) if error.kind() == io::ErrorKind::NotFound && place.is_dir() => Refusal::NoInstalledGit,
            Err(error) => {
                client.message(&format!("error: cannot run git in the work tree: {error}"))?;
                otherwise
            }
        };
        return Ok(Err(refused));
    }
    Ok(Ok(()))
}
