//! Updating a work tree whose branch is pushed to (git-config, receive.denyCurrentBranch = updateInstead).
//!
//! In: a work tree, and the commit its branch will have. Out: the work tree updated to it, or a refusal. Changes
//! somebody made there are never lost. The push-to-checkout hook does the work, or else an installed git; their output
//! goes to the client.

use super::client::{ChildOutput, Client};
use crate::children::Ended;
use crate::protocol::report::Refusal;
use crate::repo::Repository;
use crate::repo::hooks::{self, Hook, HookInput};
use crate::repo::installed;
use crate::repo::worktrees::Worktree;
use crate::service::policy::Stop;
use gix_hash::ObjectId;
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// Brings a work tree to a commit (UP-08 to UP-10). A git directory that is not bare but has no work tree is refused: C
/// git would check out into the git directory itself, where pushed files could become hooks.
pub(super) fn follow(
    repository: &Repository,
    worktree: &Worktree,
    new: ObjectId,
    client: &mut Client<'_>,
) -> Result<(), Stop> {
    let Some(place) = &worktree.place else {
        return Err(Refusal::NoWorktree.into());
    };
    let environment: Vec<(OsString, OsString)> =
        vec![("GIT_DIR".into(), worktree.git_dir.clone().into()), ("GIT_WORK_TREE".into(), place.clone().into())];
    if hooks::exists(repository, Hook::PushToCheckout) {
        let told = HookInput { arguments: vec![new.to_string().into()], environment, lines: &hooks::no_lines };
        let agreed = super::run_hook(repository, Hook::PushToCheckout, &told, client)?;
        return if agreed { Ok(()) } else { Err(Refusal::PushToCheckoutDeclined.into()) };
    }
    by_git(repository, worktree, place, new, &environment, client)
}

/// git checks that nothing differs from the last commit, then reads the new tree. An untracked file that is in the way
/// stays as it is, and the update is refused.
fn by_git(
    repository: &Repository,
    worktree: &Worktree,
    place: &Path,
    new: ObjectId,
    environment: &[(OsString, OsString)],
    client: &mut Client<'_>,
) -> Result<(), Stop> {
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
        let refused = match installed::run(repository, words, environment, place, &mut ChildOutput(client)) {
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
        return Err(refused.into());
    }
    Ok(())
}
