//! The changes of one transaction and their refusals, in either store.
//!
//! In: changes. Out: a refusal for each change that was not made, in C git's words, and the phases every transaction
//! goes through. Nothing is read or written here.

use super::name;
use super::transaction::{RefChange, Refused, TransactionHook, TransactionState};
use crate::protocol::report::Refusal;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::ops::{Bound, Index};

/// A transaction in one of the stores, in progress.
pub(super) trait Steps<'b> {
    /// The changes it makes.
    fn changes(&mut self) -> &mut Changes<'b>;

    /// Locks the refs to change, and refuses changes that cannot be made.
    fn prepare(&mut self);

    /// The changes as they are made: symbolic refs followed, refused changes left out. Each is old value, new value,
    /// name; null means none.
    fn updates(&self) -> Vec<(ObjectId, ObjectId, BString)>;

    /// Makes the changes take effect.
    fn commit(&mut self);
}

/// Runs a transaction phase by phase; refusals are recorded in its changes.
pub(super) fn make(steps: &mut dyn Steps<'_>, hook: &mut dyn TransactionHook) {
    if !steps.changes().goes_on() {
        return;
    }
    if !hook.listens() {
        steps.prepare();
        if steps.changes().goes_on() {
            steps.commit();
        }
        return;
    }
    let asked = steps.changes().asked();
    if !hook.state(TransactionState::Preparing, &asked) {
        steps.changes().refuse_all("in 'preparing' phase, update aborted by the reference-transaction hook");
    }
    if steps.changes().goes_on() {
        steps.prepare();
    }
    if steps.changes().goes_on() && !hook.state(TransactionState::Prepared, &steps.updates()) {
        steps.changes().refuse_all("in 'prepared' phase, update aborted by the reference-transaction hook");
    }
    if steps.changes().goes_on() {
        steps.commit();
    }
    // From here on the hook cannot veto.
    if steps.changes().goes_on() {
        hook.state(TransactionState::Committed, &steps.updates());
    } else {
        hook.state(TransactionState::Aborted, &asked);
    }
}

/// Changes, and the refusal of each.
pub(super) struct Changes<'b> {
    list: &'b [&'b RefChange],
    atomic: bool,
    hash: gix_hash::Kind,
    refused: Vec<Refused>,
}

impl Index<usize> for Changes<'_> {
    type Output = RefChange;

    fn index(&self, at: usize) -> &RefChange {
        self.list[at]
    }
}

impl<'b> Changes<'b> {
    /// Refuses at once bad names, bad values, and names that occur twice.
    pub(super) fn new(list: &'b [&'b RefChange], atomic: bool, hash: gix_hash::Kind) -> Self {
        let refused = list.iter().map(|_| None).collect();
        let mut changes = Changes { list, atomic, hash, refused };
        changes.check();
        changes
    }

    fn check(&mut self) {
        let mut seen = HashSet::new();
        let names = self.list.iter().map(|change| change.name.as_bstr());
        let twice: HashSet<&BStr> = names.filter(|name| !seen.insert(*name)).collect();
        for (at, RefChange { name, new, .. }) in self.list.iter().enumerate() {
            if !is_writable(name, new.is_some()) {
                self.refuse(at, Refusal::UpdateFailed, format!("refusing to update ref with bad name '{name}'"));
            } else if new.is_some_and(|new| new.is_null() || new.kind() != self.hash) {
                self.refuse(at, Refusal::InvalidNewValue, format!("cannot update ref '{name}': invalid new value"));
            } else if twice.contains(name.as_bstr()) {
                self.refuse(at, Refusal::UpdateFailed, format!("multiple updates for ref '{name}' not allowed"));
            }
        }
    }

    /// One of the changes.
    pub(super) fn at(&self, at: usize) -> &'b RefChange {
        self.list[at]
    }

    /// All changes, in the order in which they were requested.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'b RefChange> {
        self.list.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether either all changes are made or none.
    pub(super) fn is_atomic(&self) -> bool {
        self.atomic
    }

    /// Whether anything is left to do. An atomic transaction goes on only without any refusal.
    pub(super) fn goes_on(&self) -> bool {
        if self.atomic { self.refused.iter().all(Option::is_none) } else { self.refused.iter().any(Option::is_none) }
    }

    /// Whether a change has not been refused.
    pub(super) fn is_live(&self, at: usize) -> bool {
        self.refused[at].is_none()
    }

    /// The changes as they were requested.
    fn asked(&self) -> Vec<(ObjectId, ObjectId, BString)> {
        (0..self.list.len()).map(|at| self.update(at, self.list[at].name.as_bstr())).collect()
    }

    /// A change as the hook sees it; `name` is the ref that changes.
    pub(super) fn update(&self, at: usize, name: &BStr) -> (ObjectId, ObjectId, BString) {
        let null = self.hash.null();
        (self.list[at].old.unwrap_or(null), self.list[at].new.unwrap_or(null), name.to_owned())
    }

    /// Refuses a change, unless it has been refused already.
    pub(super) fn refuse(&mut self, at: usize, refusal: Refusal, detail: String) {
        let refused = &mut self.refused[at];
        if refused.is_none() {
            *refused = Some(Box::new((refusal, Some(detail))));
        }
    }

    pub(super) fn refuse_lock(&mut self, at: usize, refusal: Refusal, detail: &str) {
        let detail = format!("cannot lock ref '{}': {detail}", self.list[at].name);
        self.refuse(at, refusal, detail);
    }

    /// Refuses several changes for one common reason, which is reported once.
    pub(super) fn refuse_together(&mut self, which: impl Fn(usize) -> bool, detail: &str) {
        let mut detail = Some(detail.to_owned());
        for (at, refused) in self.refused.iter_mut().enumerate() {
            if refused.is_none() && which(at) {
                let refusal = if self.atomic { Refusal::AtomicTransaction } else { Refusal::NoneUpdated };
                *refused = Some(Box::new((refusal, detail.take())));
            }
        }
    }

    /// Refuses all changes that are left, in our own words.
    fn refuse_all(&mut self, why: &str) {
        for refused in self.refused.iter_mut().filter(|refused| refused.is_none()) {
            *refused = Some(Box::new((Refusal::Said(why.into()), None)));
        }
    }

    /// The refusal of each change, if any.
    pub(super) fn finish(mut self) -> Vec<Refused> {
        if self.atomic && !self.goes_on() {
            for refused in self.refused.iter_mut().filter(|refused| refused.is_none()) {
                *refused = Some(Box::new((Refusal::AtomicTransaction, None)));
            }
        }
        self.refused
    }
}

/// Whether a name may be written to: it must be well-formed, or for a deletion at least not lead out of `refs/`.
pub(super) fn is_writable(name: &BString, creates: bool) -> bool {
    let is_pseudo = matches!(name.as_slice(), b"FETCH_HEAD" | b"MERGE_HEAD");
    name::is_safe(name) && !is_pseudo && (!creates || name::is_valid(name))
}

/// Checks that a ref has the value it must have.
pub(super) fn compare(
    expected: Option<ObjectId>,
    value: Option<ObjectId>,
    name: &BStr,
) -> Result<(), (Refusal, String)> {
    match (expected, value) {
        (None, _) => Ok(()),
        (Some(expected), None) if expected.is_null() => Ok(()),
        (Some(expected), Some(_)) if expected.is_null() => {
            Err((Refusal::AlreadyExists, "reference already exists".to_owned()))
        }
        (Some(_), None) => Err((Refusal::DoesNotExist, format!("unable to resolve reference '{name}'"))),
        (Some(expected), Some(value)) if expected == value => Ok(()),
        (Some(expected), Some(value)) => {
            Err((Refusal::StaleOldValue, format!("is at {value} but expected {expected}")))
        }
    }
}

/// A name among `names` that conflicts with `name`, because one of them would be a directory of the other.
pub(super) fn in_the_way<'n>(names: &'n BTreeSet<Cow<'_, BStr>>, name: &BStr) -> Option<&'n BStr> {
    let above = name::parents(name).find_map(|parent| names.get(parent.as_bstr()));
    let below = || {
        let below = BString::from([name.as_bytes(), b"/"].concat());
        let behind = (Bound::Included(below.as_bstr()), Bound::Unbounded);
        names.range::<BStr, _>(behind).next().filter(|other| other.starts_with(&below))
    };
    above.or_else(below).map(|found| &**found)
}
