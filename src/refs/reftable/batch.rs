//! One transaction in progress: stacks locked, changes checked, a table written.
//!
//! In: changes. Out: refusals with their reasons, in C git's words. All refs of a stack change by one rename, and every
//! check is made under the lock of the ref's stack.

use super::append::{Addition, BeginError};
use super::record::{Log, Ref, Value, log_key, log_prefix};
use super::stack::Stack;
use super::writer::{TableWriter, fits};
use super::{Reftable, compact};
use crate::durable;
use crate::protocol::report::Refusal;
use crate::refs::changes::{Changes, Steps, compare, in_the_way, is_writable};
use crate::refs::transaction::{LockPolicy, Peel, RefChange, ReflogEntry, Refused};
use crate::refs::{SYMBOLIC_READS_MAX, Target, name};
use anyhow::Context;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

/// A transaction in progress.
pub(super) struct Batch<'b> {
    store: &'b Reftable,
    policy: &'b LockPolicy,
    peel: Option<Peel<'b>>,
    /// Directories whose entries must be on disk no later than a ref that changes.
    durable_first: &'b [PathBuf],
    changes: Changes<'b>,
    edits: Vec<Edit>,
    /// For each stack of the store the table to be put on top; `None` if the stack is not locked.
    additions: Vec<Option<Addition<'b>>>,
}

/// One ref that changes.
struct Edit {
    name: BString,
    change: usize,
    /// The symbolic refs that led here, HEAD among them: their reflogs get an entry too.
    via: Vec<BString>,
    value: Option<ObjectId>,
}

/// What happens to a ref's reflog.
enum LogEdit<'e> {
    /// An entry is added, if the ref has a reflog or is to get one.
    Line(ObjectId, ObjectId, &'e ReflogEntry),
    /// It is deleted with the ref.
    Gone,
}

impl<'b> Steps<'b> for Batch<'b> {
    fn changes(&mut self) -> &mut Changes<'b> {
        &mut self.changes
    }

    fn prepare(&mut self) {
        self.lock();
        let mut directories = self.additions.iter().flatten().map(Addition::directory);
        let mut force = || {
            let forced = directories.try_for_each(|next| durable::barrier(self.durable_first, next, self.policy.sync));
            forced.map_err(anyhow::Error::new)
        };
        if self.changes.goes_on()
            && let Err(error) = force().and_then(|()| self.resolve()).and_then(|()| self.judge())
        {
            self.changes.refuse_together(|_| true, &format!("reftable: transaction prepare: {error:#}"));
        }
    }

    fn updates(&self) -> Vec<(ObjectId, ObjectId, BString)> {
        let made = self.edits.iter().filter(|edit| self.changes.is_live(edit.change));
        made.map(|edit| self.changes.update(edit.change, edit.name.as_bstr())).collect()
    }

    fn commit(&mut self) {
        let mut stacks: Vec<usize> = (0..self.additions.len()).collect();
        // Stacks that get only reflog entries come first: an entry too many is better than a missing one.
        stacks.sort_by_key(|stack| self.active().any(|edit| self.stack_of(edit) == *stack));
        for stack in stacks {
            if let Some(addition) = self.additions[stack].take().filter(|_| self.changes.goes_on())
                && let Err(error) = self.write(stack, addition)
            {
                self.refuse_stack(stack, &format!("reftable: transaction failure: {error:#}"));
            }
        }
    }
}

impl<'b> Batch<'b> {
    /// Nothing is locked yet.
    pub(super) fn new(
        store: &'b Reftable,
        policy: &'b LockPolicy,
        peel: Option<Peel<'b>>,
        durable_first: &'b [PathBuf],
        changes: Changes<'b>,
    ) -> Self {
        let additions = store.stacks().map(|_| None).collect();
        Batch { store, policy, peel, durable_first, changes, edits: Vec::new(), additions }
    }

    /// Releases everything; returns the refusals, in C git's words.
    pub(super) fn finish(self) -> Vec<Refused> {
        drop(self.additions);
        self.changes.finish()
    }

    /// The edits that are not refused and change something.
    fn active(&self) -> impl Iterator<Item = &Edit> {
        let changes = &self.changes;
        self.edits.iter().filter(|edit| changes.is_live(edit.change) && edit.value != changes[edit.change].new)
    }

    fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.changes.len()).filter(|at| self.changes.is_live(*at))
    }

    fn stack_of(&self, edit: &Edit) -> usize {
        self.store.number_of(edit.name.as_bstr())
    }

    /// A stack that is locked.
    fn stack(&self, number: usize) -> anyhow::Result<&Stack> {
        self.additions[number].as_ref().map(Addition::stack).context("the stack is not locked")
    }

    /// Locks the stacks of all refs that changes name.
    fn lock(&mut self) {
        let stacks: BTreeSet<usize> =
            self.live().map(|at| self.store.number_of(self.changes[at].name.as_bstr())).collect();
        for stack in stacks {
            if let Err(why) = self.lock_stack(stack) {
                let store = self.store;
                let names: Vec<usize> =
                    self.changes.iter().map(|change| store.number_of(change.name.as_bstr())).collect();
                self.changes.refuse_together(|at| names[at] == stack, &why);
            }
        }
    }

    fn lock_stack(&mut self, stack: usize) -> Result<(), String> {
        if self.additions[stack].is_some() {
            return Ok(());
        }
        let tables = self.store.stacks().nth(stack).expect("there is an addition for each stack");
        let begun = Addition::begin(tables, self.store.hash, self.policy).map_err(|error| match error {
            BeginError::Held => "cannot lock references".to_owned(),
            BeginError::Failed(error) => format!("reftable: transaction prepare: {error:#}"),
        });
        self.additions[stack] = Some(begun?);
        Ok(())
    }

    /// Refuses all changes that affect a stack.
    fn refuse_stack(&mut self, stack: usize, why: &str) {
        let is_there = |name: &BString| self.store.number_of(name.as_bstr()) == stack;
        let there = |edit: &&Edit| is_there(&edit.name) || edit.via.iter().any(is_there);
        let concerned: HashSet<usize> = self.edits.iter().filter(there).map(|edit| edit.change).collect();
        self.changes.refuse_together(|at| concerned.contains(&at), why);
    }

    /// Finds out which refs change, following symbolic refs, and their current values.
    fn resolve(&mut self) -> anyhow::Result<()> {
        let names: HashSet<BString> = self.changes.iter().map(|change| change.name.clone()).collect();
        let head = match self.store.read("HEAD".into()) {
            Ok(Some(Target::Symbolic(target))) if !names.contains("HEAD".as_bytes().as_bstr()) => Some(target),
            Ok(_) | Err(_) => None,
        };
        let mut referents = HashSet::new();
        for (at, found) in self.values()? {
            let mut edit = Edit { name: self.changes[at].name.clone(), change: at, via: Vec::new(), value: None };
            let mut value = found;
            while let Some(Value::Symbolic(target)) = value {
                value = self.follow(&mut edit, target, &names, &mut referents)?;
            }
            if let Some(Value::Direct(id, _)) = value {
                edit.value = Some(id);
            }
            if let Some(head) = &head
                && (edit.name == *head || edit.via.contains(head))
            {
                self.log_head(&mut edit)?;
            }
            self.edits.push(edit);
        }
        self.edits.sort_by_key(|edit| edit.change);
        Ok(())
    }

    /// The values of the named refs, in the order of their names.
    fn values(&self) -> anyhow::Result<Vec<(usize, Option<Value>)>> {
        let mut wanted: Vec<usize> = self.live().collect();
        wanted.sort_by_key(|at| &self.changes[*at].name);
        let mut values = Vec::with_capacity(wanted.len());
        for number in 0..self.additions.len() {
            let here = |at: &&usize| self.store.number_of(self.changes[**at].name.as_bstr()) == number;
            let mut wanted = wanted.iter().filter(here).peekable();
            if wanted.peek().is_none() {
                continue;
            }
            let mut refs = self.stack(number)?.refs();
            for at in wanted {
                let name = &self.changes[*at].name;
                refs.seek(name)?;
                let found = refs.current().filter(|(found, _)| *found == name.as_slice());
                values.push((*at, found.map(|(_, record)| record.value.clone())));
            }
        }
        Ok(values)
    }

    /// Follows a symbolic ref to its target; returns the target's value.
    fn follow(
        &mut self,
        edit: &mut Edit,
        target: BString,
        names: &HashSet<BString>,
        referents: &mut HashSet<BString>,
    ) -> anyhow::Result<Option<Value>> {
        edit.via.push(std::mem::replace(&mut edit.name, target));
        let (target, via) = (&edit.name, edit.via.last().map(|via| via.as_bstr()).unwrap_or_default());
        if !is_writable(target, true) || edit.via.len() >= SYMBOLIC_READS_MAX {
            let detail = format!("unable to resolve reference '{via}': reference broken");
            self.changes.refuse_lock(edit.change, Refusal::UpdateFailed, &detail);
        } else if names.contains(target) || !referents.insert(target.clone()) {
            let detail = format!("multiple updates for '{target}' (including one via symref '{via}') are not allowed");
            self.changes.refuse(edit.change, Refusal::NameConflict, detail);
        } else {
            let number = self.store.number_of(target.as_bstr());
            match self.lock_stack(number) {
                Ok(()) => return self.stack(number)?.find(target),
                Err(why) => self.changes.refuse(edit.change, Refusal::UpdateFailed, why),
            }
        }
        Ok(None)
    }

    /// HEAD's reflog gets an entry for each change of the branch it points to.
    fn log_head(&mut self, edit: &mut Edit) -> anyhow::Result<()> {
        let head = BStr::new("HEAD");
        let number = self.store.number_of(head);
        let Some(entry) = &self.changes[edit.change].reflog else { return Ok(()) };
        if self.additions[number].is_none() {
            // A linked worktree's stack is locked only if it will be written to.
            let tables = self.store.stacks().nth(number).context("HEAD has a stack")?;
            if !entry.creates(head) && !has_log(&mut tables.now(self.store.hash)?.logs(), head)? {
                return Ok(());
            }
            if let Err(why) = self.lock_stack(number) {
                self.changes.refuse(edit.change, Refusal::UpdateFailed, why);
                return Ok(());
            }
        }
        edit.via.push(head.to_owned());
        Ok(())
    }

    /// Compares old values, and looks for conflicting names and for records too large for any table.
    fn judge(&mut self) -> anyhow::Result<()> {
        let mut stacks: HashSet<usize> = HashSet::new();
        let mut names: BTreeSet<Cow<'_, BStr>> = BTreeSet::new();
        for at in 0..self.edits.len() {
            let edit = &self.edits[at];
            if !self.changes.is_live(edit.change) {
                continue;
            }
            let RefChange { old, name, .. } = &self.changes[edit.change];
            stacks.insert(self.stack_of(edit));
            if self.changes.is_atomic() && stacks.len() > 1 {
                let why = format!("'{name}' cannot change in one step with refs of another worktree");
                self.changes.refuse(edit.change, Refusal::UpdateFailed, why);
            } else if let Err((refusal, detail)) = compare(*old, edit.value, edit.name.as_bstr()) {
                self.changes.refuse_lock(edit.change, refusal, &detail);
            } else if !self.fits(edit)? {
                let why = "reftable: transaction failure: entry too large".to_owned();
                self.changes.refuse(edit.change, Refusal::UpdateFailed, why);
            } else {
                names.extend([edit.name.clone(), name.clone()].map(Cow::Owned));
            }
        }
        // As in C git, a refused name no longer conflicts with others.
        for (at, conflict) in self.conflicts()? {
            let edit = &self.edits[at];
            let conflict = conflict.map(|other| format!("'{other}' exists; cannot create '{}'", edit.name));
            let conflict = conflict.or_else(|| {
                let other = in_the_way(&names, edit.name.as_bstr())?;
                Some(format!("cannot process '{}' and '{other}' at the same time", edit.name))
            });
            if let Some(detail) = conflict {
                names.remove(edit.name.as_bstr());
                self.changes.refuse(edit.change, Refusal::NameConflict, detail);
            }
        }
        Ok(())
    }

    /// For each created ref, an existing one whose name is above or below its name.
    fn conflicts(&self) -> anyhow::Result<BTreeMap<usize, Option<BString>>> {
        let mut conflicts = BTreeMap::new();
        let mut questions: Vec<(BString, usize)> = Vec::new();
        for (at, edit) in self.edits.iter().enumerate() {
            let change = &self.changes[edit.change];
            if self.changes.is_live(edit.change) && edit.value.is_none() && change.new.is_some() {
                conflicts.insert(at, None);
                questions.extend(name::parents(&edit.name).map(|parent| (parent.into(), at)));
                questions.push(([edit.name.as_slice(), b"/"].concat().into(), at));
            }
        }
        questions.sort_unstable();
        for number in 0..self.additions.len() {
            let Ok(stack) = self.stack(number) else { continue };
            let mut refs = stack.refs();
            for (key, at) in questions.iter().filter(|(key, _)| self.store.number_of(key.as_bstr()) == number) {
                refs.seek(key)?;
                let Some((found, _)) = refs.current() else { break };
                let is_in_the_way = if key.ends_with(b"/") { found.starts_with(key) } else { found == key.as_slice() };
                if is_in_the_way {
                    conflicts.insert(*at, Some(found.into()));
                }
            }
        }
        Ok(conflicts)
    }

    /// Whether the records of a ref fit into a block.
    fn fits(&self, edit: &Edit) -> anyhow::Result<bool> {
        let index = self.stack(self.stack_of(edit))?.next_index()?;
        let tables = self.policy.tables;
        let line = match (&self.changes[edit.change].reflog, self.changes[edit.change].new) {
            (Some(entry), Some(new)) => self.line(edit.value.unwrap_or(new), new, entry),
            (None, _) | (_, None) => Log::Deleted,
        };
        Ok(fits(&edit.name, &self.record(edit, index), tables) && fits(&log_key(&edit.name, index), &line, tables))
    }

    fn record(&self, edit: &Edit, index: u64) -> Ref {
        let value = match self.changes[edit.change].new {
            None => Value::Deleted,
            // A branch is never a tag.
            Some(id) if edit.name.starts_with(b"refs/heads/") => Value::Direct(id, None),
            Some(id) => Value::Direct(id, self.peel.and_then(|peel| peel(id).target())),
        };
        Ref { index, value }
    }

    fn line(&self, old: ObjectId, new: ObjectId, entry: &ReflogEntry) -> Log {
        // Of a message at most half a block is kept, as C git does.
        let message_max = usize::try_from(self.policy.tables.block_size / 2).unwrap_or(usize::MAX);
        Log::line(old, new, entry, message_max)
    }

    /// Writes what changes in one stack.
    fn write(&mut self, number: usize, addition: Addition<'b>) -> anyhow::Result<()> {
        let stack = addition.stack();
        let index = stack.next_index()?;
        let refs: BTreeMap<&BString, Ref> = self
            .active()
            .filter(|edit| self.stack_of(edit) == number)
            .map(|edit| (&edit.name, self.record(edit, index)))
            .collect();
        let logs = self.logs(number, stack, index)?;
        if refs.is_empty() && logs.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let mut out = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let hash = self.store.hash;
        let mut writer = TableWriter::new(&mut out, self.policy.tables, hash, (index, index));
        for (name, record) in &refs {
            writer.add(name, record)?;
        }
        for (name, line) in &logs {
            writer.add(name, line)?;
        }
        writer.finish()?;
        if addition.commit(bytes, hash)?
            && let Some(tables) = self.store.stacks().nth(number)
        {
            // Without compaction the tables are still correct; the next transaction tries again.
            let _ = compact::compact(tables, hash, self.policy);
        }
        Ok(())
    }

    /// The new reflog records of one stack: added entries, and deletions of those that go.
    fn logs(&self, number: usize, stack: &Stack, index: u64) -> anyhow::Result<Vec<(Vec<u8>, Log)>> {
        let null = self.store.hash.null();
        let mut edits: BTreeMap<&BString, LogEdit<'_>> = BTreeMap::new();
        for edit in self.active() {
            let RefChange { new, reflog, .. } = &self.changes[edit.change];
            if let Some(entry) = reflog {
                let names = edit.via.iter().chain(new.is_some().then_some(&edit.name));
                let line = |name| (name, LogEdit::Line(edit.value.unwrap_or(null), new.unwrap_or(null), entry));
                edits.extend(names.map(line));
            }
            if new.is_none() {
                edits.insert(&edit.name, LogEdit::Gone);
            }
        }
        edits.retain(|name, _| self.store.number_of(name.as_bstr()) == number);
        let mut records = Vec::new();
        let mut logs = stack.logs();
        for (name, edit) in edits {
            match edit {
                LogEdit::Line(old, new, entry) => {
                    if entry.creates(name.as_bstr()) || has_log(&mut logs, name.as_bstr())? {
                        records.push((log_key(name, index), self.line(old, new, entry)));
                    }
                }
                LogEdit::Gone => {
                    let prefix = log_prefix(name);
                    logs.seek(&prefix)?;
                    while let Some((key, _)) = logs.current().filter(|(key, _)| key.starts_with(&prefix)) {
                        records.push((key.to_vec(), Log::Deleted));
                        logs.advance()?;
                    }
                }
            }
        }
        Ok(records)
    }
}

/// Whether a ref has a reflog. Names must ascend.
fn has_log(logs: &mut super::merged::Merged<'_, Log>, name: &BStr) -> anyhow::Result<bool> {
    let prefix = log_prefix(name);
    logs.seek(&prefix)?;
    Ok(logs.current().is_some_and(|(key, _)| key.starts_with(&prefix)))
}
