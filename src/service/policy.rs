//! The rules each ref update must pass: names, aliases, the current branch, deletions, fast-forwards.
//!
//! In: a repository whose new objects are in place, and ref updates. Out: refusals and remarks.
//! Nothing is changed here, and no hook runs.

use crate::odb::Objects;
use crate::protocol::push::{Change, RefUpdate};
use crate::protocol::report::Refusal;
use crate::repo::settings::DenyCurrent;
use crate::repo::worktrees::{self, Worktree};
use crate::repo::{Repository, visible};
use crate::stream::Pulse;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use std::cell::LazyCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::io;

/// What is said about an update besides the decision.
#[derive(Debug, Default)]
pub struct Remarks {
    /// What the user is told on band 2, in git's words.
    pub messages: Vec<String>,
    /// Errors of reading the repository. The client is told only the consequence; the operator must hear of the error
    /// itself.
    pub faults: Vec<String>,
}

impl Remarks {
    fn error(&mut self, text: impl Display) {
        self.messages.push(format!("error: {text}"));
    }

    fn warning(&mut self, text: impl Display) {
        self.messages.push(format!("warning: {text}"));
    }

    fn fault(&mut self, error: &anyhow::Error) {
        self.faults.push(format!("{error:#}"));
    }
}

/// The explanation sent if receive.denyCurrentBranch is not set (UP-06).
const WHY_NOT_CURRENT: &str = "\
A push does not update the branch that is checked out in a non-bare
repository: its work tree and index would no longer match the branch,
and 'git reset --hard' would be needed there to make them match again.

Push to a bare repository or to another branch. If the work tree is
brought up to date in some other way, 'receive.denyCurrentBranch' may be
set to 'ignore' or 'warn' in the configuration of the remote repository.
Set to 'refuse' it keeps this refusal and leaves out this message.";

/// The explanation sent if receive.denyDeleteCurrent is not set.
const WHY_NOT_DELETE_CURRENT: &str = "\
The current branch is not deleted by a push: the next 'git clone' would
check out no files.

'receive.denyDeleteCurrent' may be set to 'warn' or 'ignore' in the
configuration of the remote repository to allow it. Set to 'refuse' it
keeps this refusal and leaves out this message.";

/// Why an update goes no further.
#[derive(Debug)]
pub enum Stop {
    /// It is refused; the other updates of the push may go on.
    Refused(Refusal),
    /// The client has gone, and with it the push.
    ClientGone(io::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::ClientGone(error)
    }
}

/// What the rules need to know of a repository, looked up once.
pub struct Policy<'a> {
    repository: &'a Repository,
    objects: &'a Objects,
    /// The full name of the ref HEAD leads to.
    head: Option<BString>,
    /// The work trees, linked ones included, and the branches checked out there (UP-07).
    worktrees: Vec<Worktree>,
}

/// What becomes of an update that passes the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// The ref is changed if it has this value; `None` accepts any value.
    Change {
        /// The null id: the ref must not exist.
        old: Option<ObjectId>,
    },
    /// The ref is to be deleted but does not exist (UP-16).
    Gone,
}

impl<'a> Policy<'a> {
    /// Looks up HEAD and the work trees. `objects` must include what was pushed.
    pub fn of(repository: &'a Repository, objects: &'a Objects) -> Self {
        // As in git, an unreadable HEAD names no branch.
        let head = repository.refs.follow(b"HEAD".as_bstr()).ok().map(|(head, _)| head);
        Policy { repository, objects, head, worktrees: worktrees::all(repository) }
    }

    /// The kind of an object, or `None` if it cannot be read.
    fn kind_of(&self, id: &oid, remarks: &mut Remarks) -> Option<Kind> {
        let header = self.objects.header(id).inspect_err(|error| remarks.fault(error));
        header.ok().flatten().map(|header| header.kind)
    }

    /// The rules that come before the update hook, in git's order (UP-01).
    ///
    /// # Errors
    /// When a rule refuses the update, or the client has gone.
    pub fn check_before_hook(
        &self,
        update: &RefUpdate,
        pulse: &mut dyn Pulse,
        remarks: &mut Remarks,
    ) -> Result<(), Stop> {
        let name = update.name.as_bstr();
        self.check_name(name, &update.change, remarks)?;
        self.check_current_branch(name, remarks)?;
        self.check_object(update, remarks)?;
        self.check_deletion(update, remarks)?;
        self.check_fast_forward(update, pulse, remarks)
    }

    /// The work tree that must be updated along with a branch (UP-08).
    pub fn follower(&self, update: &RefUpdate) -> Option<&Worktree> {
        let asked = self.repository.settings.deny_current_branch == DenyCurrent::UpdateInstead;
        if asked { self.checked_out(update.name.as_bstr()) } else { None }
    }

    /// The rules that come after the update hook.
    pub fn check_after_hook(&self, update: &RefUpdate, remarks: &mut Remarks) -> Result<Passed, Refusal> {
        let name = update.name.as_bstr();
        match update.change {
            Change::Create { new } => {
                self.check_branch_value(name, new, remarks)?;
                Ok(Passed::Change { old: Some(self.repository.hash().null()) })
            }
            Change::Update { old, new } => {
                self.check_branch_value(name, new, remarks)?;
                Ok(Passed::Change { old: Some(old) })
            }
            Change::Delete { old } => Ok(self.decide_deletion(name, old, remarks)),
        }
    }

    fn checked_out(&self, name: &BStr) -> Option<&Worktree> {
        self.worktrees.iter().find(|worktree| worktree.branch.as_ref().is_some_and(|branch| branch == name))
    }

    /// Refuses names that are not well-formed (UP-02, UP-03).
    fn check_name(&self, name: &BStr, change: &Change, remarks: &mut Remarks) -> Result<(), Refusal> {
        if is_well_formed(name, change.is_deletion()) {
            return Ok(());
        }
        remarks.error(format!("refusing to update funny ref '{}' remotely", shown(name)));
        Err(Refusal::FunnyName)
    }

    /// Applies receive.denyCurrentBranch to checked-out branches (UP-05, UP-06, UP-26).
    fn check_current_branch(&self, name: &BStr, remarks: &mut Remarks) -> Result<(), Refusal> {
        if self.checked_out(name).is_none() {
            return Ok(());
        }
        let rule = self.repository.settings.deny_current_branch;
        match rule {
            DenyCurrent::Ignore | DenyCurrent::UpdateInstead => Ok(()),
            DenyCurrent::Warn => {
                remarks.warning("updating the current branch");
                Ok(())
            }
            DenyCurrent::Refuse | DenyCurrent::Unset => {
                remarks.error(format!("refusing to update checked out branch: {}", shown(name)));
                if rule == DenyCurrent::Unset {
                    remarks.error(WHY_NOT_CURRENT);
                }
                Err(Refusal::CheckedOut)
            }
        }
    }

    /// Refuses a new value whose object is not there (UP-11).
    fn check_object(&self, update: &RefUpdate, remarks: &mut Remarks) -> Result<(), Refusal> {
        match update.change.new_value() {
            Some(new) if !self.objects.contains(&new).inspect_err(|error| remarks.fault(error)).unwrap_or_default() => {
                remarks.error(format!("the push should have brought {new}, but it is not there"));
                Err(Refusal::BadPack)
            }
            _ => Ok(()),
        }
    }

    /// Applies receive.denyDeletes and receive.denyDeleteCurrent (UP-12, UP-13). C git skips both rules if the client
    /// claims that the ref does not exist; here the repository decides whether it does (docs/compatibility.md).
    fn check_deletion(&self, update: &RefUpdate, remarks: &mut Remarks) -> Result<(), Refusal> {
        let Change::Delete { old } = update.change else { return Ok(()) };
        let settings = &self.repository.settings;
        let name = update.name.as_bstr();
        let full = visible::full_name(self.repository, name);
        if old.is_none() && !self.is_there(full.as_bstr()) {
            return Ok(());
        }
        if settings.deny_deletes && name.starts_with(b"refs/heads/") {
            remarks.error(format!("denying ref deletion for {}", shown(name)));
            return Err(Refusal::DeletionProhibited);
        }
        if self.checked_out(name).is_none() && self.head.as_ref() != Some(&full) {
            return Ok(());
        }
        match settings.deny_delete_current {
            DenyCurrent::Ignore => Ok(()),
            DenyCurrent::Warn => {
                remarks.warning("deleting the current branch");
                Ok(())
            }
            rule @ (DenyCurrent::Refuse | DenyCurrent::Unset | DenyCurrent::UpdateInstead) => {
                if rule == DenyCurrent::Unset {
                    remarks.error(WHY_NOT_DELETE_CURRENT);
                }
                remarks.error(format!("refusing to delete the current branch: {}", shown(name)));
                Err(Refusal::CurrentBranchDeletion)
            }
        }
    }

    /// Applies receive.denyNonFastForwards (UP-14).
    fn check_fast_forward(&self, update: &RefUpdate, pulse: &mut dyn Pulse, remarks: &mut Remarks) -> Result<(), Stop> {
        let Change::Update { old, new } = update.change else { return Ok(()) };
        let name = update.name.as_bstr();
        if !self.repository.settings.deny_non_fast_forwards || !name.starts_with(b"refs/heads/") {
            return Ok(());
        }
        match self.is_ancestor(&old, &new, pulse, remarks)? {
            Some(true) => Ok(()),
            Some(false) => {
                let name = shown(name);
                remarks.error(format!("denying non-fast-forward {name} (you should pull first)"));
                Err(Refusal::NonFastForward.into())
            }
            None => {
                remarks.error(format!("bad sha1 objects for {}", shown(name)));
                Err(Refusal::BadRef.into())
            }
        }
    }

    /// Whether one commit is reachable from another; `None` if they are not both commits, or if history cannot be
    /// walked.
    fn is_ancestor(
        &self,
        old: &oid,
        new: &oid,
        pulse: &mut dyn Pulse,
        remarks: &mut Remarks,
    ) -> io::Result<Option<bool>> {
        if [old, new].iter().any(|id| self.kind_of(id, remarks) != Some(Kind::Commit)) {
            return Ok(None);
        }
        match self.objects.is_ancestor(old, new, pulse) {
            Ok(is_ancestor) => Ok(Some(is_ancestor)),
            Err(error) => match error.downcast::<io::Error>() {
                // The client has gone, or its time is up.
                Ok(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::TimedOut) => Err(error),
                unread => {
                    remarks.fault(&unread.map_or_else(|error| error, anyhow::Error::from));
                    Ok(None)
                }
            },
        }
    }

    /// Refuses to point a branch at anything but a commit (UP-25). As in git, the rule looks at the full name, so that
    /// it applies only to branches outside namespaces.
    fn check_branch_value(&self, name: &BStr, new: ObjectId, remarks: &mut Remarks) -> Result<(), Refusal> {
        let full = visible::full_name(self.repository, name);
        if !full.starts_with(b"refs/heads/") {
            return Ok(());
        }
        if self.kind_of(&new, remarks) == Some(Kind::Commit) {
            return Ok(());
        }
        let full = shown(full.as_bstr());
        let text = format!("cannot update ref '{full}': trying to write non-commit object {new} to branch '{full}'");
        remarks.error(text);
        Err(Refusal::InvalidNewValue)
    }

    /// Decides on a deletion: if the old value is not an object we have, the ref is deleted whatever its value (UP-16,
    /// UP-17).
    fn decide_deletion(&self, name: &BStr, old: Option<ObjectId>, remarks: &mut Remarks) -> Passed {
        if let Some(old) = old
            && matches!(self.objects.header(&old), Ok(Some(_)))
        {
            return Passed::Change { old: Some(old) };
        }
        let full = visible::full_name(self.repository, name);
        if self.is_there(full.as_bstr()) {
            remarks.warning("allowing deletion of corrupt ref");
            Passed::Change { old: None }
        } else {
            remarks.warning("deleting a non-existent ref");
            Passed::Gone
        }
    }

    /// Whether a ref exists, readable or not. As in git, a symref that leads nowhere does not.
    fn is_there(&self, full: &BStr) -> bool {
        !matches!(self.repository.refs.resolve(full), Ok(None))
    }
}

/// A name as messages show it, with control characters escaped so that they cannot reach the user's terminal.
fn shown(name: &BStr) -> String {
    name.chars().flat_map(|char| if char.is_control() { char.escape_default().collect() } else { vec![char] }).collect()
}

/// Whether a name is below `refs/` and well-formed. Unless it is to be deleted, it must also have two components below
/// `refs/` (UP-03).
fn is_well_formed(name: &BStr, deletion: bool) -> bool {
    let Some(below) = name.strip_prefix(b"refs/") else { return false };
    (deletion || below.contains(&b'/'))
        && below != b"@"
        && !below.ends_with(b".")
        && below.split(|&byte| byte == b'/').all(is_well_formed_component)
}

/// The rules of `git check-ref-format` for one component.
fn is_well_formed_component(component: &[u8]) -> bool {
    !component.is_empty()
        && !component.starts_with(b".")
        && !component.ends_with(b".lock")
        && !component.contains_str("..")
        && !component.contains_str("@{")
        && !component.iter().any(|&byte| byte < b' ' || b"\x7f ~^:?*[\\".contains(&byte))
}

/// What symbolic refs mean for an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alias {
    /// It is not affected.
    None,
    /// The update's target, at this index in the list, is updated the same way: nothing more needs to be done.
    CoveredBy(usize),
    /// The update is refused.
    Refused(Refusal),
}

/// Finds symbolic refs among the updates: if the target of one is updated too, both updates must agree (UP-18).
/// `updates` are all updates of the request, and `open` says for each whether it is still undecided; the results are in
/// the same order.
pub fn aliases(repository: &Repository, updates: &[&RefUpdate], open: &[bool], remarks: &mut Remarks) -> Vec<Alias> {
    let mut results = vec![Alias::None; updates.len()];
    // Most pushes involve no symbolic refs.
    let by_name = LazyCell::new(|| {
        let mut by_name = HashMap::new();
        for (index, update) in updates.iter().enumerate() {
            by_name.entry(visible::full_name(repository, update.name.as_bstr())).or_insert(index);
        }
        by_name
    });
    for (index, update) in updates.iter().enumerate() {
        if !open.get(index).copied().unwrap_or_default() || !matches!(results[index], Alias::None) {
            continue;
        }
        let full = visible::full_name(repository, update.name.as_bstr());
        // HEAD cannot be pushed to on its own; together with its branch it is a second name for the same ref.
        let may_be_alias = update.name == "HEAD" || is_well_formed(update.name.as_bstr(), true);
        if !may_be_alias || !repository.refs.is_symbolic(full.as_bstr()).unwrap_or_default() {
            continue;
        }
        let Ok((target, _)) = repository.refs.follow(full.as_bstr()) else {
            remarks.error(format!("refusing update to broken symref '{}'", shown(update.name.as_bstr())));
            results[index] = Alias::Refused(Refusal::BrokenSymref);
            continue;
        };
        if !target.starts_with(&visible::namespace_prefix(repository)) {
            let name = shown(update.name.as_bstr());
            remarks.error(format!("refusing update to symref '{name}', which leads out of the namespace"));
            results[index] = Alias::Refused(Refusal::BrokenSymref);
            continue;
        }
        let Some(&other) = by_name.get(&target) else { continue };
        results[index] = Alias::CoveredBy(other);
        if updates[other].change != update.change {
            remarks.error(inconsistent(repository.hash(), update, updates[other]));
            results[index] = Alias::Refused(Refusal::InconsistentAlias);
            results[other] = Alias::Refused(Refusal::InconsistentAlias);
        }
    }
    results
}

fn inconsistent(hash: gix_hash::Kind, alias: &RefUpdate, target: &RefUpdate) -> String {
    let told = |update: &RefUpdate| {
        let (old, new) = update.change.old_and_new(hash);
        format!("'{}' ({}..{})", shown(update.name.as_bstr()), old.to_hex_with_len(7), new.to_hex_with_len(7))
    };
    format!("refusing inconsistent update between symref {} and its target {}", told(alias), told(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_well_formed_as_git_has_it() {
        let names = [
            "refs/heads/main",
            "refs/heads/a/b",
            "refs/x",
            "refs/",
            "refs",
            "HEAD",
            "heads/x",
            "",
            "refs//x",
            "refs/heads/",
            "/refs/heads/x",
            "refs/heads//x",
            "refs/heads/.x",
            "refs/heads/x.lock",
            "refs/x.lock/y",
            "refs/heads/x..y",
            "refs/heads/x.",
            "refs/heads/x./y",
            "refs/heads/@",
            "refs/@",
            "refs/heads/@{x",
            "refs/heads/x@",
            "refs/heads/a b",
            "refs/heads/a~",
            "refs/heads/a^",
            "refs/heads/a:",
            "refs/heads/a?",
            "refs/heads/a*",
            "refs/heads/a[",
            "refs/heads/a\\b",
            "refs/heads/a\x7f",
            "refs/heads/a\x01",
            "refs/heads/-x",
            "refs/heads/ä",
            "refs/.x/y",
            "refs/heads/..",
            "refs/heads/x.lock.lock",
            "refs/heads/x.lockx",
            "refs/heads/a]b",
            "refs/heads/{x}",
            "refs/heads/-/x",
        ];
        for name in names {
            for deletion in [true, false] {
                // git strips `refs/` and checks the rest.
                let expected = name.strip_prefix("refs/").is_some_and(|below| {
                    let mut git = crate::testing::command("git");
                    git.arg("check-ref-format").args(deletion.then_some("--allow-onelevel")).arg(below);
                    git.status().expect("git runs").success()
                });
                assert_eq!(is_well_formed(name.into(), deletion), expected, "{name:?}, deletion {deletion}");
            }
        }
    }

    #[test]
    fn control_bytes_of_names_are_shown_escaped() {
        assert_eq!(shown(BStr::new(b"refs/\x1b[2J\xc3\xa4\xff")), "refs/\\u{1b}[2Jä\u{fffd}");
    }
}
