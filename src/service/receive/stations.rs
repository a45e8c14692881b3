//! The steps of each ref update once the objects are in place: rules, update hook, rules, transaction.
//!
//! In: open verdicts. Out: the same verdicts, settled. Nothing here fails because the client has gone.

use super::checkout;
use super::client::{Client, Hooked, Unspoken};
use super::connected::Boundary;
use super::run_hook;
use super::verdicts::{State, Verdict, Verdicts};
use crate::auth::WriteGrant;
use crate::durable::Sync;
use crate::odb::Objects;
use crate::protocol::push::RefUpdate;
use crate::protocol::report::Refusal;
use crate::refs::transaction::{RefChange, ReflogEntry, TablePolicy};
use crate::refs::{LockPolicy, LogRefs, RefTransaction};
use crate::repo::Repository;
use crate::repo::hooks::{self, Hook, ReferenceTransaction, Told};
use crate::repo::worktrees::Worktree;
use crate::repo::{shallow, visible};
use crate::service::policy::{Passed, Policy, Remarks, Stop};
use bstr::ByteSlice;
use gix_hash::ObjectId;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// The steps of each ref update, with what they need.
pub(super) struct Stations<'a> {
    repository: &'a Repository,
    proof: &'a WriteGrant,
    policy: Policy<'a>,
    objects: &'a Objects,
    boundary: &'a Boundary,
    has_update_hook: bool,
    /// Object directories whose entries must be on disk before a ref moves.
    unforced: Vec<PathBuf>,
    /// The entry for the reflogs, and which refs get a log.
    reflog: Rc<ReflogEntry>,
}

impl<'a> Stations<'a> {
    /// `objects` are seen as history will be, cut where `boundary` says.
    pub(super) fn of(
        repository: &'a Repository,
        proof: &'a WriteGrant,
        objects: &'a Objects,
        boundary: &'a Boundary,
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
        Stations {
            repository,
            proof,
            policy: Policy::of(repository, objects),
            objects,
            boundary,
            has_update_hook,
            unforced,
            reflog,
        }
    }

    /// Applies either the deletions or everything else, in a transaction in which each ref fails alone (UP-19).
    pub(super) fn each(&self, verdicts: &mut Verdicts<'_>, client: &mut Client<'_>, deletions: bool) -> io::Result<()> {
        let of_this_kind = |verdict: &&mut Verdict<'_>| verdict.update.change.is_deletion() == deletions;
        let count = verdicts.open().filter(of_this_kind).count();
        let (mut changes, mut changed) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for verdict in verdicts.open().filter(of_this_kind) {
            let judged = self.judge(verdict, client).and_then(|passed| {
                if let Passed::Change { old } = passed
                    && self.follower(verdict).is_some()
                    && self.stands(verdict.update, old)
                {
                    self.follow(verdict, client)?;
                }
                Ok(passed)
            });
            match judged {
                Ok(Passed::Change { old }) => {
                    changes.push(self.change(verdict, old));
                    changed.push(verdict);
                }
                Ok(Passed::Gone) => verdict.state = State::Gone,
                Err(Stop::Refused(refusal)) => verdict.state = State::Refused(refusal),
                Err(Stop::ClientGone(error)) => return Err(error),
            }
        }
        if let Some(refusal) = self.cut(changed.iter().map(|verdict| &**verdict), client)? {
            let mut is_cut = changed.iter().map(|verdict| verdict.is_cut);
            changes.retain(|_| !is_cut.next().unwrap_or_default());
            for verdict in changed.extract_if(.., |verdict| verdict.is_cut) {
                verdict.state = State::Refused(refusal.clone());
            }
        }
        let results = match self.forbidden(&changes) {
            Some(text) => {
                client.message(text)?;
                changes.iter().map(|_| Err(Refusal::NoneUpdated)).collect()
            }
            None => self.transact(changes, client, |transaction| transaction.commit_each())?,
        };
        for (verdict, result) in changed.into_iter().zip(results) {
            verdict.state = result.map_or_else(State::Refused, |()| State::Done);
        }
        Ok(())
    }

    /// Applies all open updates, or none of them (UP-20).
    pub(super) fn all_or_none(&self, verdicts: &mut Verdicts<'_>, client: &mut Client<'_>) -> io::Result<()> {
        if !verdicts.any_open() {
            return Ok(());
        }
        let mut changes = Vec::new();
        let mut changed = Vec::new();
        let mut gone = Vec::new();
        for (index, verdict) in verdicts.iter_mut().enumerate().filter(|(_, verdict)| verdict.is_open()) {
            match self.judge(verdict, client) {
                Ok(Passed::Change { old }) => {
                    changes.push(self.change(verdict, old));
                    changed.push(index);
                }
                Ok(Passed::Gone) => gone.push(index),
                Err(Stop::Refused(refusal)) => {
                    verdict.state = State::Refused(refusal);
                    break;
                }
                Err(Stop::ClientGone(error)) => return Err(error),
            }
        }
        if !verdicts.any_refused() {
            self.follow_all(verdicts, &changed, &changes, client)?;
        }
        if !verdicts.any_refused()
            && let Some(refusal) = self.cut(changed.iter().filter_map(|index| verdicts.iter().nth(*index)), client)?
        {
            verdicts.open().filter(|verdict| verdict.is_cut).for_each(|verdict| verdict.judge(Err(refusal.clone())));
        }
        if verdicts.any_refused() {
            verdicts.refuse_all(&Refusal::AtomicFailure);
            return Ok(());
        }
        let results = match self.forbidden(&changes) {
            Some(text) => {
                client.message(text)?;
                changes.iter().map(|_| Err(Refusal::AtomicTransaction)).collect()
            }
            None => self.transact(changes, client, |transaction| transaction.commit_atomic())?,
        };
        for (index, result) in changed.into_iter().zip(results) {
            let state = match result {
                Ok(()) => State::Done,
                // As in git, the report says the same of all refs; a message says which one failed.
                Err(refusal) => {
                    if refusal != Refusal::AtomicTransaction {
                        let name = verdicts.iter_mut().nth(index).map(|verdict| verdict.update.name.clone());
                        client.message(&format!("error: {}: {refusal}", name.unwrap_or_default()))?;
                    }
                    State::Refused(Refusal::AtomicTransaction)
                }
            };
            verdicts.settle(index, state);
        }
        if verdicts.any_refused() {
            verdicts.refuse_all(&Refusal::AtomicTransaction);
        }
        gone.into_iter().for_each(|index| verdicts.settle(index, State::Gone));
        Ok(())
    }

    /// Rules, update hook, rules (UP-01).
    fn judge(&self, verdict: &Verdict<'_>, client: &mut Client<'_>) -> Result<Passed, Stop> {
        let update = verdict.update;
        let mut remarks = Remarks::default();
        let allowed = self.policy.check_before_hook(update, &mut Unspoken(client), &mut remarks);
        client.pass_on(remarks)?;
        allowed?;
        if !self.update_hook(verdict, client)? {
            client.message(&format!("error: hook declined to update {}", update.name))?;
            return Err(Refusal::HookDeclined.into());
        }
        let mut remarks = Remarks::default();
        let settled = self.policy.check_after_hook(update, &mut remarks);
        client.pass_on(remarks)?;
        Ok(settled?)
    }

    /// The work tree that is updated along with a ref, if there is one.
    fn follower(&self, Verdict { update, .. }: &Verdict<'_>) -> Option<&Worktree> {
        self.policy.follower(update).filter(|_| !self.repository.context.in_quarantine)
    }

    /// Updates that work tree. This comes after all rules, so that it never follows an update that is refused.
    fn follow(&self, verdict: &Verdict<'_>, client: &mut Client<'_>) -> Result<(), Stop> {
        let Some(worktree) = self.follower(verdict) else { return Ok(()) };
        let (_, new) = verdict.update.change.old_and_new(self.repository.hash());
        checkout::follow(self.repository, worktree, new, client)
    }

    /// The same for refs that change together: nothing is touched if one of them does not have its expected value.
    fn follow_all(
        &self,
        verdicts: &mut Verdicts<'_>,
        changed: &[usize],
        changes: &[RefChange],
        client: &mut Client<'_>,
    ) -> io::Result<()> {
        let is_true = |index: usize, of: &dyn Fn(&Verdict<'_>) -> bool| verdicts.iter().nth(index).is_some_and(of);
        let following: Vec<usize> = changed
            .iter()
            .copied()
            .filter(|index| is_true(*index, &|verdict| self.follower(verdict).is_some()))
            .collect();
        let stands =
            |(index, change): (&usize, &RefChange)| is_true(*index, &|verdict| self.stands(verdict.update, change.old));
        if following.is_empty() || !changed.iter().zip(changes).all(stands) {
            return Ok(());
        }
        for index in following {
            let Some(verdict) = verdicts.iter().nth(index) else { continue };
            match self.follow(verdict, client) {
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

    /// Whether a ref has its expected value. If not, the transaction reports it.
    fn stands(&self, update: &RefUpdate, old: Option<ObjectId>) -> bool {
        let name = visible::full_name(self.repository, update.name.as_bstr());
        let current = self.repository.refs.resolve(name.as_bstr());
        old.is_none_or(|old| current.is_ok_and(|current| current.unwrap_or(self.repository.hash().null()) == old))
    }

    /// Cuts our history for the accepted updates that need it, before a ref leads there (SP-03). If that fails, those
    /// updates are to be refused.
    fn cut<'v, 'r: 'v>(
        &self,
        accepted: impl Iterator<Item = &'v Verdict<'r>>,
        client: &mut Client<'_>,
    ) -> io::Result<Option<Refusal>> {
        if self.boundary.cut.is_empty() {
            return Ok(None);
        }
        let tips: Vec<_> =
            accepted.filter(|verdict| verdict.is_cut).filter_map(|one| one.update.change.new_value()).collect();
        if tips.is_empty() {
            return Ok(None);
        }
        let commits = self.boundary.of(self.objects, &tips, client);
        let timeout = locks(self.repository).packed_timeout;
        match commits.and_then(|commits| shallow::add(self.repository, &commits, timeout)) {
            Ok(()) => Ok(None),
            Err(error) => {
                client.message(&format!("error: cannot update the shallow file: {error}"))?;
                Ok(Some(Refusal::ShallowError))
            }
        }
    }

    /// The update hook. It sees neither push options nor the quarantine (HO-06, HO-07).
    fn update_hook(&self, Verdict { update, .. }: &Verdict<'_>, client: &mut Client<'_>) -> io::Result<bool> {
        if !self.has_update_hook {
            return Ok(true);
        }
        let (old, new) = update.change.old_and_new(self.repository.hash());
        let arguments = vec![hooks::word(&update.name), old.to_string().into(), new.to_string().into()];
        let told = Told { arguments, environment: Vec::new(), lines: &hooks::no_lines };
        run_hook(self.repository, Hook::Update, &told, client)
    }

    fn change(&self, Verdict { update, .. }: &Verdict<'_>, old: Option<ObjectId>) -> RefChange {
        let name = visible::full_name(self.repository, update.name.as_bstr());
        RefChange { name, old, new: update.change.new_value(), reflog: Some(Rc::clone(&self.reflog)) }
    }

    /// Why no ref may be updated at all, in git's words (QU-05).
    fn forbidden(&self, changes: &[RefChange]) -> Option<&'static str> {
        (self.repository.context.in_quarantine && !changes.is_empty())
            .then_some("error: ref updates forbidden inside quarantine environment")
    }

    fn transact(
        &self,
        changes: Vec<RefChange>,
        client: &mut Client<'_>,
        commit: impl FnOnce(RefTransaction<'_>) -> Vec<Result<(), Refusal>>,
    ) -> io::Result<Vec<Result<(), Refusal>>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let objects = &self.repository.objects;
        let peel = |id: ObjectId| match objects.header(&id) {
            Ok(Some(header)) if header.kind == gix_object::Kind::Tag => {
                objects.peel(&id).ok().flatten().map(|(peeled, _)| Some(peeled))
            }
            Ok(Some(_)) => Some(None),
            Ok(None) | Err(_) => None,
        };
        let mut ticked = Hooked(client);
        let mut hook = ReferenceTransaction::new(self.repository, &mut ticked);
        let mut transaction =
            RefTransaction::begin(&self.repository.refs, self.proof, locks(self.repository), &mut hook);
        transaction.peel_with(&peel);
        if changes.iter().any(|change| change.new.is_some()) {
            transaction.rest_on(self.unforced.clone());
        }
        transaction.add(changes);
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
