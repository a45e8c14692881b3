//! The changes of one transaction and what was said against them, whatever store they are made in.
//!
//! In: changes. Out: a refusal for each that was not made, in C git's words, and the stations every transaction passes. Nothing is read
//! or written here.

use super::name;
use super::transaction::{RefChange, Refused, TransactionHook, TransactionState};
use crate::protocol::report::Refusal;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::ops::{Bound, Index};

/// A transaction of one of the stores, under way.
pub(super) trait Steps<'b> {
    /// What it is about.
    fn changes(&mut self) -> &mut Changes<'b>;

    /// Locks what is to change and refuses what cannot be changed.
    fn prepare(&mut self);

    /// The changes as they are made: symbolic refs followed, without what was refused. Old, new, name; null where there is none.
    fn updates(&self) -> Vec<(ObjectId, ObjectId, BString)>;

    /// Brings everything into effect.
    fn commit(&mut self);
}

/// Makes the changes, station by station; what is refused on the way stands in them.
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
    // From here on nobody can object.
    if steps.changes().goes_on() {
        hook.state(TransactionState::Committed, &steps.updates());
    } else {
        hook.state(TransactionState::Aborted, &asked);
    }
}

/// Changes, and what was said against each.
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
    /// Bad names and values, and names that come twice, are refused at once.
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

    /// One of them.
    pub(super) fn at(&self, at: usize) -> &'b RefChange {
        self.list[at]
    }

    /// In the order in which they were asked for.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'b RefChange> {
        self.list.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether it is all of them or none.
    pub(super) fn is_atomic(&self) -> bool {
        self.atomic
    }

    /// Whether there is anything left to do: of an atomic transaction everything must be.
    pub(super) fn goes_on(&self) -> bool {
        if self.atomic { self.refused.iter().all(Option::is_none) } else { self.refused.iter().any(Option::is_none) }
    }

    /// Whether nothing was said against a change.
    pub(super) fn is_live(&self, at: usize) -> bool {
        self.refused[at].is_none()
    }

    /// The changes as they were asked for.
    fn asked(&self) -> Vec<(ObjectId, ObjectId, BString)> {
        (0..self.list.len()).map(|at| self.update(at, self.list[at].name.as_bstr())).collect()
    }

    /// A change as the hook hears of it; `name` is the ref it is made to.
    pub(super) fn update(&self, at: usize, name: &BStr) -> (ObjectId, ObjectId, BString) {
        let null = self.hash.null();
        (self.list[at].old.unwrap_or(null), self.list[at].new.unwrap_or(null), name.to_owned())
    }

    /// The first refusal stays.
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

    /// Refuses several for a reason that is none of theirs, which is said once.
    pub(super) fn refuse_together(&mut self, which: impl Fn(usize) -> bool, detail: &str) {
        let mut detail = Some(detail.to_owned());
        for (at, refused) in self.refused.iter_mut().enumerate() {
            if refused.is_none() && which(at) {
                let refusal = if self.atomic { Refusal::AtomicTransaction } else { Refusal::NoneUpdated };
                *refused = Some(Box::new((refusal, detail.take())));
            }
        }
    }

    /// Refuses everything that is left, in words of our own.
    fn refuse_all(&mut self, why: &str) {
        for refused in self.refused.iter_mut().filter(|refused| refused.is_none()) {
            *refused = Some(Box::new((Refusal::Said(why.into()), None)));
        }
    }

    /// What was refused, and why.
    pub(super) fn finish(mut self) -> Vec<Refused> {
        if self.atomic && !self.goes_on() {
            for refused in self.refused.iter_mut().filter(|refused| refused.is_none()) {
                *refused = Some(Box::new((Refusal::AtomicTransaction, None)));
            }
        }
        self.refused
    }
}

/// Whether a name may be written to: well-formed, or for deletions at least no path out of `refs/`.
pub(super) fn is_writable(name: &BString, creates: bool) -> bool {
    let is_pseudo = matches!(name.as_slice(), b"FETCH_HEAD" | b"MERGE_HEAD");
    name::is_safe(name) && !is_pseudo && (!creates || name::is_valid(name))
}

/// Whether a ref has the value it must have.
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

/// Another name that is above or below a name.
pub(super) fn in_the_way<'n>(names: &'n BTreeSet<Cow<'_, BStr>>, name: &BStr) -> Option<&'n BStr> {
    let above = name::parents(name).find_map(|parent| names.get(parent.as_bstr()));
    let below = || {
        let below = BString::from([name.as_bytes(), b"/"].concat());
        let behind = (Bound::Included(below.as_bstr()), Bound::Unbounded);
        names.range::<BStr, _>(behind).next().filter(|other| other.starts_with(&below))
    };
    above.or_else(below).map(|found| &**found)
}
