//! The verdicts of a push: what is asked of each ref, and what has become of it so far.
//!
//! In: the updates of a request. Out: the report and what is audited. No ref is read or changed here.

use crate::audit::{AuditedPush, AuditedUpdate};
use crate::protocol::push::{PushRequest, RefUpdate, ReportForm};
use crate::protocol::report::{RefReport, Refusal, ReportStatus};
use bstr::{BStr, ByteSlice};
use gix_hash::ObjectId;
use std::ops::Index;

/// The most refused updates that are audited, and the most bytes of their names: otherwise a client that may push could
/// fill a disk with them.
const REFUSED_MAX: usize = 1_000;
const NAME_MAX: usize = 1_024;

/// What has become of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing has been said against it.
    Open,
    /// It is a symbolic ref whose target is updated the same way: the update at this index has its verdict.
    CoveredBy(usize),
    /// It has happened.
    Done,
    /// The proc-receive hook reports that it has handled it, and what was really done (PR-06).
    Told(Vec<RefReport>),
    /// It was to be deleted but did not exist: accepted, but not reported to post-receive hooks (UP-16).
    Gone,
    /// It does not happen.
    Refused(Refusal),
}

/// One ref and its verdict.
#[derive(Debug)]
pub(super) struct Verdict<'r> {
    pub(super) update: &'r RefUpdate,
    pub(super) state: State,
    /// Whether its history is complete only if ours is cut in new places (SP-03).
    pub(super) is_cut: bool,
}

impl Verdict<'_> {
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused(_))
    }

    /// Applies the result of a step, if the update is still open.
    pub(super) fn judge(&mut self, result: Result<(), Refusal>) {
        if let (State::Open, Err(refusal)) = (&self.state, result) {
            self.state = State::Refused(refusal);
        }
    }
}

impl Verdict<'_> {
    /// What was changed, or was to be changed: name, old and new value.
    fn changed(&self, hash: gix_hash::Kind) -> Vec<(&BStr, ObjectId, ObjectId)> {
        let (old, new) = self.update.change.old_and_new(hash);
        let name = self.update.name.as_bstr();
        match &self.state {
            State::Told(reports) if !reports.is_empty() => {
                let mut rows = Vec::with_capacity(reports.len());
                for report in reports {
                    let name = report.name.as_ref().map_or(name, |name| name.as_bstr());
                    rows.push((name, report.old.unwrap_or(old), report.new.unwrap_or(new)));
                }
                rows
            }
            State::Open | State::CoveredBy(_) | State::Done | State::Told(_) | State::Gone | State::Refused(_) => {
                vec![(name, old, new)]
            }
        }
    }
}

/// All verdicts, in the order of the request. Each step looks at those that are open.
#[derive(Debug)]
pub(super) struct Verdicts<'r>(Vec<Verdict<'r>>);

impl<'r> Verdicts<'r> {
    pub(super) fn of(request: &'r PushRequest) -> Self {
        let verdict = |update: &'r RefUpdate| Verdict { update, state: State::Open, is_cut: false };
        Verdicts(request.updates.iter().map(verdict).collect())
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Verdict<'r>> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Verdict<'r>> {
        self.0.iter_mut()
    }

    /// The updates nothing has been said against.
    pub(super) fn open(&mut self) -> impl Iterator<Item = &mut Verdict<'r>> {
        self.0.iter_mut().filter(|verdict| verdict.is_open())
    }

    /// The places of those that a step chooses.
    pub(super) fn open_where(&self, chosen: impl Fn(&RefUpdate) -> bool) -> Vec<usize> {
        let verdicts = self.0.iter().enumerate();
        verdicts.filter(|(_, verdict)| verdict.is_open() && chosen(verdict.update)).map(|(index, _)| index).collect()
    }

    pub(super) fn any_open(&self) -> bool {
        self.0.iter().any(Verdict::is_open)
    }

    pub(super) fn any_refused(&self) -> bool {
        self.0.iter().any(Verdict::is_refused)
    }

    /// Refuses everything still open, for the same reason.
    pub(super) fn refuse_open(&mut self, refusal: &Refusal) {
        for verdict in self.open() {
            verdict.state = State::Refused(refusal.clone());
        }
    }

    /// With an atomic push one refusal refuses everything. C git overlooks refusals that come before the rules for
    /// single refs (UP-21; docs/compatibility.md).
    pub(super) fn refuse_open_if_one_is(&mut self) {
        if self.any_refused() {
            self.refuse_open(&Refusal::AtomicFailure);
        }
    }

    /// Decides an update that is still open.
    pub(super) fn settle(&mut self, index: usize, state: State) {
        if let Some(verdict) = self.0.get_mut(index).filter(|verdict| verdict.is_open()) {
            verdict.state = state;
        }
    }

    /// Gives symbolic refs the verdicts of their targets.
    pub(super) fn settle_covered(&mut self) {
        for index in 0..self.0.len() {
            if let State::CoveredBy(target) = self.0[index].state
                && let Some(state) = self.0.get(target).map(|target| target.state.clone())
            {
                self.0[index].state = state;
            }
        }
    }

    /// Refuses whatever has not been refused, even what a hook has accepted.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        for verdict in self.0.iter_mut().filter(|verdict| !verdict.is_refused()) {
            verdict.state = State::Refused(refusal.clone());
        }
    }

    /// Updates that really happened: these are reported to post-receive hooks.
    pub(super) fn updated(&self) -> impl Iterator<Item = &RefUpdate> {
        let updated = |verdict: &&Verdict<'_>| matches!(verdict.state, State::Done | State::Told(_));
        self.0.iter().filter(updated).map(|verdict| verdict.update)
    }

    /// What these updates changed: name, old and new value. A hook may have changed other refs than it was asked to
    /// (PR-11).
    pub(super) fn changed(&self, hash: gix_hash::Kind) -> impl Iterator<Item = (&BStr, ObjectId, ObjectId)> {
        let updated = |verdict: &&Verdict<'_>| matches!(verdict.state, State::Done | State::Told(_));
        self.0.iter().filter(updated).flat_map(move |verdict| verdict.changed(hash))
    }

    pub(super) fn report(&self, unpack: Result<(), &str>, form: ReportForm) -> ReportStatus {
        let mut report = ReportStatus::new(unpack);
        for Verdict { update, state, .. } in &self.0 {
            match (state, form) {
                (State::Told(reports), ReportForm::V2) => report.add_reported(update.name.as_bstr(), reports),
                (state, _) => report.add(update.name.as_bstr(), result(state)),
            }
        }
        report
    }

    /// What the audit log records: everything that happened, and a limited number of refusals, so that nobody can fill
    /// a disk with them.
    pub(super) fn audited(&self, hash: gix_hash::Kind) -> AuditedPush {
        let mut push = AuditedPush::default();
        let mut refused = 0;
        for verdict in &self.0 {
            let result = result(&verdict.state);
            refused += usize::from(result.is_err());
            if result.is_err() && refused > REFUSED_MAX {
                push.refused_more += 1;
                continue;
            }
            let said = result.map_or_else(Refusal::to_string, |()| "ok".to_owned());
            push.updates.extend(verdict.changed(hash).into_iter().map(|(name, old, new)| AuditedUpdate {
                name: match name.get(..NAME_MAX) {
                    Some(begin) if result.is_err() && begin != name => format!("{}…", begin.to_str_lossy()),
                    Some(_) | None => name.to_str_lossy().into_owned(),
                },
                old: old.to_string(),
                new: new.to_string(),
                verdict: said.clone(),
            }));
        }
        push
    }
}

impl<'r> Index<usize> for Verdicts<'r> {
    type Output = Verdict<'r>;

    fn index(&self, index: usize) -> &Verdict<'r> {
        &self.0[index]
    }
}

/// The result the client is told. Nothing is open by then; an update still open has not happened.
fn result(state: &State) -> Result<(), &Refusal> {
    match state {
        State::Done | State::Told(_) | State::Gone => Ok(()),
        State::Open | State::CoveredBy(_) => Err(&Refusal::UpdateFailed),
        State::Refused(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::push::Change;

    fn request(count: usize) -> PushRequest {
        let update = |n| RefUpdate { name: format!("r{n}").into(), change: Change::Delete { old: None } };
        PushRequest { updates: (0..count).map(update).collect(), ..PushRequest::default() }
    }

    #[test]
    fn the_first_refusal_stays() {
        let request = request(2);
        let mut verdicts = Verdicts::of(&request);
        for verdict in verdicts.iter_mut().take(1) {
            verdict.judge(Ok(()));
            assert!(verdict.is_open());
            verdict.judge(Err(Refusal::HiddenDelete));
            verdict.judge(Err(Refusal::BadPack));
        }
        assert!(verdicts.any_open() && verdicts.any_refused());
        verdicts.refuse_open_if_one_is();
        let audited = verdicts.audited(gix_hash::Kind::Sha1).updates;
        let told: Vec<String> = audited.into_iter().map(|row| row.verdict).collect();
        assert_eq!(told, ["deny deleting a hidden ref", "atomic push failure"]);
    }

    #[test]
    fn all_that_happened_is_audited_and_some_of_what_did_not() {
        let mut request = request(REFUSED_MAX + 8);
        request.updates[0].name = "r".repeat(NAME_MAX + 1).into();
        request.updates[1].name = "r".repeat(NAME_MAX).into();
        let mut verdicts = Verdicts::of(&request);
        for (at, verdict) in verdicts.iter_mut().enumerate() {
            let refused = State::Refused(Refusal::BadPack);
            verdict.state = if at % 500 == 499 { State::Done } else { refused };
        }
        let audited = verdicts.audited(gix_hash::Kind::Sha1);
        assert_eq!((audited.updates.len(), audited.refused_more), (REFUSED_MAX + 2, 6));
        assert_eq!(audited.updates[0].name, "r".repeat(NAME_MAX) + "…");
        assert_eq!(audited.updates[1].name, "r".repeat(NAME_MAX));
        assert_eq!(audited.updates.iter().filter(|update| update.verdict == "ok").count(), 2);
        assert_eq!(audited.updates[999].name, "r999");
    }

    #[test]
    fn a_symbolic_ref_shares_its_targets_verdict() {
        let request = request(3);
        let mut verdicts = Verdicts::of(&request);
        verdicts.settle(0, State::CoveredBy(2));
        verdicts.settle(2, State::Refused(Refusal::BadPack));
        verdicts.settle(2, State::Done);
        verdicts.settle_covered();
        let audited = verdicts.audited(gix_hash::Kind::Sha1).updates;
        let told: Vec<String> = audited.into_iter().map(|row| row.verdict).collect();
        assert_eq!(told, ["bad pack", "failed to update ref", "bad pack"]);
    }

    #[test]
    fn without_a_refusal_nothing_is_refused() {
        let request = request(1);
        let mut verdicts = Verdicts::of(&request);
        verdicts.refuse_open_if_one_is();
        assert!(verdicts.any_open());
    }

    #[test]
    fn what_was_not_there_is_well_but_not_updated() {
        let request = request(2);
        let mut verdicts = Verdicts::of(&request);
        for (verdict, state) in verdicts.iter_mut().zip([State::Gone, State::Done]) {
            verdict.state = state;
        }
        assert_eq!(verdicts.updated().map(|update| update.name.to_string()).collect::<Vec<_>>(), ["r1"]);
        assert_eq!(verdicts.report(Ok(()), ReportForm::V2).into_bytes(), b"000eunpack ok\n000aok r0\n000aok r1\n0000");
    }
}
