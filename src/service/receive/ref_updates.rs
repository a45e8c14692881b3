//! The steps of each ref update once the objects are in place: rules, update hook, rules, transaction.
//!
//! In: open verdicts. Out: the same verdicts, settled. Nothing here fails because the client has gone.

use super::checkout;
use super::client::{ChildOutput, Client, KeepAlives};
use super::connected::NewCut;
use super::run_hook;
use super::verdicts::{State, Verdicts};
use crate::auth::WriteGrant;
use crate::durable::Sync;
use crate::odb::Objects;
use crate::protocol::push::RefUpdate;
use crate::protocol::report::Refusal;
use crate::refs::transaction::{RefChange, ReflogEntry, TablePolicy};
use crate::refs::{LockPolicy, LogRefs, Peeled, RefTransaction};
use crate::repo::Repository;
use crate::repo::hooks::{self, Hook, HookInput, ReferenceTransaction};
use crate::repo::worktrees::Worktree;
use crate::repo::{shallow, visible};
use crate::service::policy::{Passed, Policy, Remarks, Stop};
use bstr::ByteSlice;
use gix_hash::ObjectId;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::slice;
use std::time::Duration;

/// An update that has passed the rules.
struct Accepted {
    /// Its place among the verdicts.
    index: usize,
    change: RefChange,
}

/// The steps of each ref update, with what they need.
pub(super) struct RefUpdates<'a> {
    repository: &'a Repository,
    proof: &'a WriteGrant,
    policy: Policy<'a>,
    objects: &'a Objects,
    new_cut: &'a NewCut,
    has_update_hook: bool,
    /// Object directories whose entries must be on disk before a ref moves.
    unforced: Vec<PathBuf>,
    /// The entry for the reflogs, and which refs get a log.
    reflog: Rc<ReflogEntry>,
}

impl<'a> RefUpdates<'a> {
    /// `objects` are seen as history will be, cut where `new_cut` says.
    pub(super) fn of(
        repository: &'a Repository,
        proof: &'a WriteGrant,
        objects: &'a Objects,
        new_cut: &'a NewCut,
        has_update_hook: bool,
        unforced: Vec<PathBuf>,
    ) -> Self {
        let settings = &repository.settings;
        let is_bare = || settings.is_bare(&repository.common_dir);
        let create = settings
            .log_all_ref_updates
            .unwrap_or_else(|| if is_bare() { LogRefs::Existing } else { LogRefs::Branches });
        let (who, when) = (repository.context.identity.clone(), repository.context.now);
        let reflog = Rc::new(ReflogEntry { who, when, message: "push".into(), create });
        RefUpdates {
            repository,
            proof,
            policy: Policy::of(repository, objects),
            objects,
            new_cut,
            has_update_hook,
            unforced,
            reflog,
        }
    }

    /// Applies open updates, each of which may fail alone (UP-19). Deletions have gone through all steps before anything
    /// else begins: hooks see that order, and deleted names do not conflict with created ones.
    pub(super) fn each(&self, verdicts: &mut Verdicts<'_>, client: &mut Client<'_>) -> io::Result<()> {
        for deletions in [true, false] {
            let chosen = verdicts.open_where(|update| update.change.is_deletion() == deletions);
            let mut accepted = Vec::with_capacity(chosen.len());
            for index in chosen {
                if let Some(one) = self.accept(index, verdicts, client)? {
                    self.follow(slice::from_ref(&one), verdicts, client)?;
                    accepted.push(one);
                }
            }
            self.cut(&accepted, verdicts, client)?;
            accepted.retain(|one| verdicts[one.index].is_open());
            let results =
                self.transact(accepted, client, &Refusal::NoneUpdated, |transaction| transaction.commit_each())?;
            for (index, result) in results {
                verdicts.settle(index, result.map_or_else(State::Refused, |()| State::Done));
            }
        }
        Ok(())
    }

    /// Applies all open updates, or none of them (UP-20).
    pub(super) fn all_or_none(&self, verdicts: &mut Verdicts<'_>, client: &mut Client<'_>) -> io::Result<()> {
        if !verdicts.any_open() {
            return Ok(());
        }
        let mut accepted = Vec::new();
        for index in verdicts.open_where(|_| true) {
            accepted.extend(self.accept(index, verdicts, client)?);
            if verdicts[index].is_refused() {
                break;
            }
        }
        if !verdicts.any_refused() {
            self.follow(&accepted, verdicts, client)?;
        }
        if !verdicts.any_refused() {
            self.cut(&accepted, verdicts, client)?;
        }
        if verdicts.any_refused() {
            verdicts.refuse_all(&Refusal::AtomicFailure);
            return Ok(());
        }
        let forbidden = Refusal::AtomicTransaction;
        let results = self.transact(accepted, client, &forbidden, |transaction| transaction.commit_atomic())?;
        for (index, result) in results {
            let state = match result {
                Ok(()) => State::Done,
                // As in git, the report says the same of all refs; a message says which one failed.
                Err(refusal) => {
                    if refusal != Refusal::AtomicTransaction {
                        client.message(&format!("error: {}: {refusal}", verdicts[index].update.name))?;
                    }
                    State::Refused(Refusal::AtomicTransaction)
                }
            };
            verdicts.settle(index, state);
        }
        if verdicts.any_refused() {
            verdicts.refuse_all(&Refusal::AtomicTransaction);
        }
        Ok(())
    }

    /// Judges one update. It is settled by that unless it is returned.
    fn accept(
        &self,
        index: usize,
        verdicts: &mut Verdicts<'_>,
        client: &mut Client<'_>,
    ) -> io::Result<Option<Accepted>> {
        let update = verdicts[index].update;
        let state = match self.judge(update, client) {
            Ok(Passed::Change { old }) => {
                return Ok(Some(Accepted { index, change: self.change(update, old) }));
            }
            Ok(Passed::Gone) => State::Gone,
            Err(Stop::Refused(refusal)) => State::Refused(refusal),
            Err(Stop::ClientGone(error)) => return Err(error),
        };
        verdicts.settle(index, state);
        Ok(None)
    }

    /// Rules, update hook, rules (UP-01).
    fn judge(&self, update: &RefUpdate, client: &mut Client<'_>) -> Result<Passed, Stop> {
        let mut remarks = Remarks::default();
        let allowed = self.policy.check_before_hook(update, &mut KeepAlives(client), &mut remarks);
        client.pass_on(remarks)?;
        allowed?;
        if !self.update_hook(update, client)? {
            client.message(&format!("error: hook declined to update {}", update.name))?;
            return Err(Refusal::HookDeclined.into());
        }
        let mut remarks = Remarks::default();
        let settled = self.policy.check_after_hook(update, &mut remarks);
        client.pass_on(remarks)?;
        Ok(settled?)
    }

    /// Updates the work trees that follow some of the accepted refs, up to the first that cannot be. This comes after
    /// all rules, so that a work tree never follows an update that is refused; for the same reason none is touched if
    /// one of the refs does not have its expected value.
    fn follow(&self, accepted: &[Accepted], verdicts: &mut Verdicts<'_>, client: &mut Client<'_>) -> io::Result<()> {
        let follower = |one: &Accepted| {
            let update = verdicts[one.index].update;
            let (_, new) = update.change.old_and_new(self.repository.hash());
            self.follower(update).map(|worktree| (one.index, worktree, new))
        };
        let following: Vec<_> = accepted.iter().filter_map(follower).collect();
        if following.is_empty() || !accepted.iter().all(|one| self.stands(&one.change)) {
            return Ok(());
        }
        for (index, worktree, new) in following {
            match checkout::follow(self.repository, worktree, new, client) {
                Ok(()) => {}
                Err(Stop::Refused(refusal)) => {
                    verdicts.settle(index, State::Refused(refusal));
                    break;
                }
                Err(Stop::ClientGone(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// The work tree that is updated along with a ref, if there is one.
    fn follower(&self, update: &RefUpdate) -> Option<&Worktree> {
        self.policy.follower(update).filter(|_| !self.repository.context.in_quarantine)
    }

    /// Whether a ref has its expected value. If not, the transaction reports it.
    fn stands(&self, change: &RefChange) -> bool {
        let current = self.repository.refs.resolve(change.name.as_bstr());
        change
            .old
            .is_none_or(|old| current.is_ok_and(|current| current.unwrap_or(self.repository.hash().null()) == old))
    }

    /// Cuts our history for the accepted updates that need it, before a ref leads there (SP-03). If that fails, they are
    /// refused.
    fn cut(&self, accepted: &[Accepted], verdicts: &mut Verdicts<'_>, client: &mut Client<'_>) -> io::Result<()> {
        if self.new_cut.commits.is_empty() {
            return Ok(());
        }
        let is_cut = |one: &&Accepted| verdicts[one.index].is_open() && verdicts[one.index].is_cut;
        let (indexes, tips): (Vec<usize>, Vec<ObjectId>) =
            accepted.iter().filter(is_cut).filter_map(|one| Some((one.index, one.change.new?))).unzip();
        if tips.is_empty() {
            return Ok(());
        }
        let commits = self.new_cut.needed_by(self.objects, &tips, client);
        let timeout = locks(self.repository).packed_timeout;
        if let Err(error) = commits.and_then(|commits| shallow::add(self.repository, &commits, timeout)) {
            client.message(&format!("error: cannot update the shallow file: {error}"))?;
            indexes.into_iter().for_each(|index| verdicts.settle(index, State::Refused(Refusal::ShallowError)));
        }
        Ok(())
    }

    /// The update hook. It sees neither push options nor the quarantine (HO-06, HO-07).
    fn update_hook(&self, update: &RefUpdate, client: &mut Client<'_>) -> io::Result<bool> {
        if !self.has_update_hook {
            return Ok(true);
        }
        let (old, new) = update.change.old_and_new(self.repository.hash());
        let arguments = vec![hooks::word(&update.name), old.to_string().into(), new.to_string().into()];
        let told = HookInput { arguments, environment: Vec::new(), lines: &hooks::no_lines };
        run_hook(self.repository, Hook::Update, &told, client)
    }

    fn change(&self, update: &RefUpdate, old: Option<ObjectId>) -> RefChange {
        let name = visible::full_name(self.repository, update.name.as_bstr());
        RefChange { name, old, new: update.change.new_value(), reflog: Some(Rc::clone(&self.reflog)) }
    }

    /// Makes the changes in one transaction, unless no ref may be updated at all: then all have the result `forbidden`
    /// (QU-05).
    fn transact(
        &self,
        accepted: Vec<Accepted>,
        client: &mut Client<'_>,
        forbidden: &Refusal,
        commit: impl FnOnce(RefTransaction<'_>) -> Vec<Result<(), Refusal>>,
    ) -> io::Result<Vec<(usize, Result<(), Refusal>)>> {
        let indexes: Vec<usize> = accepted.iter().map(|one| one.index).collect();
        let results = if accepted.is_empty() {
            Vec::new()
        } else if self.repository.context.in_quarantine {
            client.message("error: ref updates forbidden inside quarantine environment")?;
            vec![Err(forbidden.clone()); accepted.len()]
        } else {
            self.commit(accepted, client, commit)?
        };
        Ok(indexes.into_iter().zip(results).collect())
    }

    fn commit(
        &self,
        accepted: Vec<Accepted>,
        client: &mut Client<'_>,
        commit: impl FnOnce(RefTransaction<'_>) -> Vec<Result<(), Refusal>>,
    ) -> io::Result<Vec<Result<(), Refusal>>> {
        let objects = &self.repository.objects;
        let peel = |id: ObjectId| match objects.header(&id) {
            Ok(Some(header)) if header.kind == gix_object::Kind::Tag => {
                objects.peel(&id).ok().flatten().map_or(Peeled::Unknown, |(target, _)| Peeled::To(target))
            }
            Ok(Some(_)) => Peeled::NotATag,
            Ok(None) | Err(_) => Peeled::Unknown,
        };
        let mut output = ChildOutput(client);
        let mut hook = ReferenceTransaction::new(self.repository, &mut output);
        let mut transaction =
            RefTransaction::begin(&self.repository.refs, self.proof, locks(self.repository), &mut hook);
        transaction.peel_with(&peel);
        if accepted.iter().any(|one| one.change.new.is_some()) {
            transaction.force_first(self.unforced.clone());
        }
        transaction.add(accepted.into_iter().map(|one| one.change));
        let results = commit(transaction);
        let details = hook.into_details();
        // The operator hears of failures on the server's side, not of requests that were refused.
        if results.iter().any(|result| matches!(result, Err(Refusal::UpdateFailed | Refusal::NoneUpdated))) {
            details.iter().for_each(|detail| client.keep_fault(detail.clone()));
        }
        details.iter().try_for_each(|detail| client.message(&format!("error: {detail}")))?;
        Ok(results)
    }
}

/// How refs are forced to disk.
pub(super) fn sync(repository: &Repository) -> Sync {
    repository.settings.sync(repository.settings.fsync.reference)
}

fn locks(repository: &Repository) -> LockPolicy {
    let settings = &repository.settings;
    // Negative: wait forever.
    let timeout = |millis: i64| u64::try_from(millis).map_or(Duration::MAX, Duration::from_millis);
    LockPolicy {
        ref_timeout: timeout(settings.files_ref_lock_timeout_ms),
        packed_timeout: timeout(settings.packed_refs_timeout_ms),
        tables: TablePolicy {
            lock_timeout: timeout(settings.reftable_lock_timeout_ms),
            block_size: settings.reftable_block_size,
            restart_interval: settings.reftable_restart_interval,
            index_objects: settings.reftable_index_objects,
            geometric_factor: settings.reftable_geometric_factor,
        },
        sync: sync(repository),
        sharing: settings.sharing,
    }
}
