//! One transaction in progress: locked, checked, prepared, committed. Each step leaves fewer changes to make.
//!
//! In: changes. Out: refusals with their reasons; [`effect`] makes the changes that are left. No lock or temporary file
//! outlives the batch.
//!
//! A few refs are written as loose files, as C git does. Many refs, and several that must change atomically, go to
//! packed-refs: one rename with all locks held. In packed-refs the file system does not keep a name from being a
//! directory too, so the names above a created ref are locked as well.

mod effect;

use super::Files;
use super::loose::Loose;
use super::packed::Packed;
use super::reflog;
use super::rewrite::Rewrite;
use crate::protocol::report::Refusal;
use crate::refs::changes::{Changes, Steps, compare, in_the_way, is_writable};
use crate::refs::lock::{Lock, LockError, held, remove_empty_directories, unable};
use crate::refs::transaction::{LockPolicy, Peel, Refused};
use crate::refs::{SYMBOLIC_READS_MAX, Target, name};
use anyhow::Context;
use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;

/// From this many changes on they go to packed-refs together: a loose file costs several system calls and a flush, a
/// line in packed-refs none.
const MANY: usize = 64;

/// A transaction in progress.
pub(super) struct Batch<'b> {
    store: &'b Files,
    policy: &'b LockPolicy,
    peel: Option<Peel<'b>>,
    /// Directories whose entries must be on disk no later than a ref that changes.
    durable_first: &'b [PathBuf],
    changes: Changes<'b>,
    /// Whether new values go to packed-refs, except those of per-worktree refs.
    packs: bool,
    edits: Vec<Edit<'b>>,
    parent_locks: Vec<Lock>,
    packed_lock: Option<Lock>,
    rewrite: Option<Rewrite>,
    /// Directories with changed entries that are not forced to disk yet.
    unsynced: BTreeSet<PathBuf>,
}

/// One ref that is locked because a change names it or leads to it.
struct Edit<'b> {
    name: Cow<'b, BStr>,
    change: usize,
    /// How many symbolic refs were followed to get here.
    depth: usize,
    /// Whether only this ref's reflog gets an entry, because another ref changes: this one is a symbolic ref on the
    /// way, or HEAD.
    log_only: bool,
    lock: Option<Lock>,
    made_directory: bool,
    loose: bool,
    directory: bool,
    packed: bool,
    value: Option<ObjectId>,
}

impl<'b> Edit<'b> {
    fn new(name: Cow<'b, BStr>, change: usize, depth: usize) -> Self {
        Edit {
            name,
            change,
            depth,
            log_only: false,
            lock: None,
            made_directory: false,
            loose: false,
            directory: false,
            packed: false,
            value: None,
        }
    }
}

/// What a lookup of a name in packed-refs is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    /// Whether the ref of an edit exists, or refs below it, which would make it a directory.
    Of(usize),
    /// Whether it is a ref, which would make a created ref a file inside a file.
    Above,
}

impl<'b> Steps<'b> for Batch<'b> {
    fn changes(&mut self) -> &mut Changes<'b> {
        &mut self.changes
    }

    fn prepare(&mut self) {
        self.lock();
        if self.goes_on() {
            self.judge();
        }
        if self.goes_on() {
            self.write();
        }
    }

    fn updates(&self) -> Vec<(ObjectId, ObjectId, BString)> {
        let made = self.edits.iter().filter(|edit| !edit.log_only && self.is_live(edit));
        made.map(|edit| self.changes.update(edit.change, &edit.name)).collect()
    }

    fn commit(&mut self) {
        self.apply();
    }
}

impl<'b> Batch<'b> {
    /// Reads nothing yet, but refuses changes that cannot be part of an atomic one.
    pub(super) fn new(
        store: &'b Files,
        policy: &'b LockPolicy,
        peel: Option<Peel<'b>>,
        durable_first: &'b [PathBuf],
        changes: Changes<'b>,
    ) -> Self {
        let packs = if changes.is_atomic() { changes.len() > 1 } else { changes.len() >= MANY };
        let mut batch = Batch {
            store,
            policy,
            peel,
            durable_first,
            changes,
            packs,
            edits: Vec::new(),
            parent_locks: Vec::new(),
            packed_lock: None,
            rewrite: None,
            unsynced: BTreeSet::new(),
        };
        for at in 0..batch.changes.len() {
            let name = &batch.changes[at].name;
            if batch.cannot_be_packed(name.as_bstr()) {
                let name = name.clone();
                batch.refuse_lone(at, name.as_bstr());
            }
        }
        batch
    }

    fn goes_on(&self) -> bool {
        self.changes.goes_on()
    }

    fn is_live(&self, edit: &Edit<'_>) -> bool {
        self.changes.is_live(edit.change)
    }

    fn refuse_lock(&mut self, change: usize, refusal: Refusal, detail: &str) {
        self.changes.refuse_lock(change, refusal, detail);
    }

    /// Whether a name keeps a change from being atomic: atomic changes of several refs go to packed-refs, which never
    /// holds per-worktree refs.
    fn cannot_be_packed(&self, name: &BStr) -> bool {
        self.changes.is_atomic() && self.packs && name::is_per_worktree(name)
    }

    fn refuse_lone(&mut self, change: usize, name: &BStr) {
        let why = format!("'{name}' belongs to one worktree and cannot change in one step with other refs");
        self.changes.refuse(change, Refusal::UpdateFailed, why);
    }

    /// Locks all refs, in the order of their names, and reads the loose ones.
    fn lock(&mut self) {
        let names: HashSet<&BStr> = self.changes.iter().map(|change| change.name.as_bstr()).collect();
        let head = match self.store.read_loose("HEAD".into()) {
            Ok(Loose::Found(Target::Symbolic(target))) if !names.contains("HEAD".as_bytes().as_bstr()) => Some(target),
            Ok(_) | Err(_) => None,
        };
        let mut waiting: Vec<usize> = (0..self.changes.len()).filter(|at| self.changes.is_live(*at)).collect();
        // One order for all: pushes to the same refs collide at the first ref, rather than each waiting for the other's
        // lock.
        waiting.sort_by(|a, b| self.changes[*b].name.cmp(&self.changes[*a].name));
        self.edits.reserve_exact(waiting.len());
        let mut referent: Option<Edit<'b>> = None;
        let mut referents: HashSet<BString> = HashSet::new();
        while let Some(mut edit) = referent.take().or_else(|| {
            let change = waiting.pop()?;
            Some(Edit::new(Cow::Borrowed(self.changes.at(change).name.as_bstr()), change, 0))
        }) {
            if self.changes.is_atomic() && !self.goes_on() {
                return;
            }
            if !self.is_live(&edit) {
                continue;
            }
            if let Some(target) = self.lock_one(&mut edit) {
                edit.log_only = true;
                let change = edit.change;
                if !is_writable(&target, true) || edit.depth + 1 >= SYMBOLIC_READS_MAX {
                    let detail = format!("unable to resolve reference '{}': reference broken", edit.name);
                    self.refuse_lock(change, Refusal::UpdateFailed, &detail);
                } else if names.contains(target.as_bstr()) || !referents.insert(target.clone()) {
                    let detail = format!("multiple updates for '{target}' (including one via symref '{}')", edit.name);
                    self.changes.refuse(change, Refusal::NameConflict, format!("{detail} are not allowed"));
                } else if self.cannot_be_packed(target.as_bstr()) {
                    self.refuse_lone(change, target.as_bstr());
                } else {
                    referent = Some(Edit::new(Cow::Owned(target), change, edit.depth + 1));
                }
            }
            let is_head = head.as_ref().is_some_and(|head| head.as_bstr() == &*edit.name);
            let change = edit.change;
            self.edits.push(edit);
            if is_head && self.changes.is_live(change) {
                self.lock_head(change);
            }
        }
    }

    /// Locks one ref and reads it; returns its target if it is symbolic.
    fn lock_one(&mut self, edit: &mut Edit<'_>) -> Option<BString> {
        let change = &self.changes[edit.change];
        let base = self.store.base(&edit.name);
        let path = self.store.loose_path(&edit.name);
        let LockPolicy { ref_timeout, sharing, .. } = *self.policy;
        match Lock::acquire(&self.store.journal, base, &path, ref_timeout, sharing) {
            Ok((lock, made_directory)) => {
                edit.lock = Some(lock);
                edit.made_directory = made_directory;
            }
            Err(error) => {
                let must_exist = change.old.is_some_and(|old| !old.is_null());
                let (refusal, detail) = match error {
                    LockError::Blocked if must_exist => {
                        (Refusal::DoesNotExist, format!("unable to resolve reference '{}'", edit.name))
                    }
                    LockError::Blocked => (Refusal::NameConflict, self.blocked(&edit.name)),
                    LockError::Held => (Refusal::UpdateFailed, held(&edit.name)),
                    LockError::Io(error) => (Refusal::UpdateFailed, unable(&edit.name, &error)),
                };
                self.refuse_lock(edit.change, refusal, &detail);
                return None;
            }
        }
        match self.store.read_loose(&edit.name) {
            Ok(Loose::Found(Target::Direct(id))) => {
                edit.loose = true;
                edit.value = Some(id);
            }
            Ok(Loose::Found(Target::Symbolic(target))) => return Some(target),
            Ok(Loose::Missing) => {}
            Ok(Loose::Directory) => edit.directory = true,
            Ok(Loose::Broken) => {
                let detail = format!("unable to resolve reference '{}': reference broken", edit.name);
                self.refuse_lock(edit.change, Refusal::UpdateFailed, &detail);
            }
            Err(error) => self.refuse_lock(edit.change, Refusal::UpdateFailed, &format!("{error:#}")),
        }
        None
    }

    /// The refusal for a ref whose directories cannot be created: it names the ref in the way.
    fn blocked(&self, name: &BStr) -> String {
        let above = name::parents(name).find(|parent| matches!(self.store.read(parent.as_bstr()), Ok(Some(_))));
        match above {
            Some(above) => format!("'{}' exists; cannot create '{name}'", above.as_bstr()),
            None => format!("unable to create lock file {name}.lock; non-directory in the way"),
        }
    }

    /// Locks HEAD if it points to the changed branch, because HEAD's reflog gets an entry too.
    fn lock_head(&mut self, change: usize) {
        let head = BStr::new("HEAD");
        let branch = self.edits.last().map(|edit| edit.name.clone());
        let wanted = self.changes[change].reflog.as_ref().is_some_and(|entry| reflog::wanted(self.store, head, entry));
        if !wanted {
            return;
        }
        let path = self.store.loose_path(head);
        let LockPolicy { ref_timeout, sharing, .. } = *self.policy;
        match Lock::acquire(&self.store.journal, &self.store.git_dir, &path, ref_timeout, sharing) {
            Ok((lock, _)) => {
                // HEAD may have been moved to another branch before it was locked; then its reflog gets no entry.
                let now = self.store.read_loose(head);
                if matches!(now, Ok(Loose::Found(Target::Symbolic(target))) if Some(target.as_bstr()) == branch.as_deref())
                {
                    let log_only = true;
                    self.edits.push(Edit { log_only, lock: Some(lock), ..Edit::new(Cow::Borrowed(head), change, 0) });
                }
            }
            Err(LockError::Io(error)) => self.refuse_lock(change, Refusal::UpdateFailed, &unable(head, &error)),
            Err(LockError::Held | LockError::Blocked) => self.refuse_lock(change, Refusal::UpdateFailed, &held(head)),
        }
    }

    /// Reads packed-refs, compares old values, and looks for conflicting names.
    fn judge(&mut self) {
        self.drop_refused();
        let deletes = |batch: &Self| batch.edits.iter().any(|edit| !edit.log_only && batch.is_deletion(edit));
        if (self.packs || deletes(self)) && !self.lock_packed() {
            return;
        }
        // Opened with all locks held, so it contains every ref that was packed and pruned before (ST-04).
        let answers = Packed::open(&self.store.packed_path(), self.store.hash)
            .and_then(|packed| self.ask(&packed))
            .context("cannot read packed-refs");
        let mut conflicts = match answers {
            Ok(conflicts) => conflicts,
            Err(error) => {
                for edit in 0..self.edits.len() {
                    self.refuse_lock(self.edits[edit].change, Refusal::UpdateFailed, &format!("{error:#}"));
                }
                return;
            }
        };
        // Values first: a change refused because of its old value causes no name conflicts.
        for at in 0..self.edits.len() {
            let edit = &self.edits[at];
            if !edit.log_only && self.is_live(edit) {
                let (change, name) = (edit.change, edit.name.clone());
                if let Err((refusal, detail)) = compare(self.changes[change].old, edit.value, &name) {
                    self.refuse_lock(change, refusal, &detail);
                }
            }
        }
        self.drop_refused();
        let left = self.edits.iter().filter(|edit| self.is_live(edit));
        let mut names: BTreeSet<Cow<'b, BStr>> = left.map(|edit| edit.name.clone()).collect();
        for at in 0..self.edits.len() {
            let edit = &self.edits[at];
            if edit.log_only || !self.is_live(edit) || edit.value.is_some() || self.is_deletion(edit) {
                continue;
            }
            let (change, name) = (edit.change, edit.name.clone());
            let conflict = conflicts.remove(&at).map(|other| format!("'{other}' exists; cannot create '{name}'"));
            let conflict = conflict.or_else(|| {
                let other = in_the_way(&names, &name)?;
                Some(format!("cannot process '{name}' and '{other}' at the same time"))
            });
            let room = || edit.directory.then(|| self.make_room(edit)).flatten();
            if let Some(detail) = conflict.or_else(room) {
                // As in C git, a refused name no longer conflicts with others.
                names.remove(&name);
                self.refuse_lock(change, Refusal::NameConflict, &detail);
            }
        }
        self.drop_refused();
        if self.packs {
            self.lock_parents(&names);
        }
    }

    /// Whether the new value of a ref goes to packed-refs.
    fn is_packed(&self, edit: &Edit<'_>) -> bool {
        self.packs && !name::is_per_worktree(&edit.name)
    }

    fn is_deletion(&self, edit: &Edit<'_>) -> bool {
        self.changes[edit.change].new.is_none()
    }

    /// Releases the locks of refused changes.
    fn drop_refused(&mut self) {
        self.release(|batch, edit| !batch.is_live(edit));
    }

    /// Releases locks, then removes the directories that are left empty, once for each directory.
    fn release(&mut self, chosen: impl Fn(&Self, &Edit<'_>) -> bool) {
        let mut left: Vec<usize> = Vec::new();
        for at in 0..self.edits.len() {
            if chosen(self, &self.edits[at]) && self.edits[at].lock.take().is_some() {
                left.push(at);
            }
        }
        let folder = |at: &usize| name::directories(&self.edits[*at].name).last();
        left.dedup_by(|one, other| folder(one) == folder(other));
        for at in left {
            let name = &self.edits[at].name;
            reflog::remove_empty_parents(self.store.base(name), name.as_bstr());
        }
    }

    /// Locks packed-refs; returns whether anything is left to do.
    fn lock_packed(&mut self) -> bool {
        let path = self.store.packed_path();
        // If packed-refs is a symbolic link, its target is locked.
        let path = path.canonicalize().unwrap_or(path);
        let LockPolicy { packed_timeout, sharing, .. } = *self.policy;
        let why = match Lock::acquire(&self.store.journal, &self.store.common_dir, &path, packed_timeout, sharing) {
            Ok((lock, _)) => {
                self.packed_lock = Some(lock);
                return true;
            }
            Err(LockError::Io(error)) => unable("packed-refs".into(), &error),
            Err(LockError::Held | LockError::Blocked) => held("packed-refs".into()),
        };
        // Another process is packing refs for a long time. Changes that need not touch packed-refs go on without it.
        for at in 0..self.edits.len() {
            let edit = &self.edits[at];
            if self.changes.is_atomic() || self.is_deletion(edit) {
                self.refuse_lock(edit.change, Refusal::UpdateFailed, &why);
            }
        }
        self.packs = false;
        self.goes_on()
    }

    /// Adds the values from packed-refs. Returns the edits that create a ref although a packed ref conflicts, with that
    /// ref's name.
    fn ask(&mut self, packed: &Packed) -> anyhow::Result<BTreeMap<usize, BString>> {
        let creates = |edit: &Edit<'_>| edit.value.is_none() && !self.is_deletion(edit);
        let mut keys: Vec<(&[u8], Question)> = Vec::with_capacity(self.edits.len());
        let mut above: BTreeSet<&[u8]> = BTreeSet::new();
        for (at, edit) in self.edits.iter().enumerate().filter(|(_, edit)| !edit.log_only && self.is_live(edit)) {
            if edit.value.is_none() || self.is_deletion(edit) {
                keys.push((edit.name.as_bytes(), Question::Of(at)));
            }
            if creates(edit) {
                above.extend(name::parents(&edit.name));
            }
        }
        keys.extend(above.into_iter().map(|name| (name, Question::Above)));
        keys.sort_unstable();
        let mut values: Vec<(usize, ObjectId)> = Vec::new();
        let mut above: BTreeSet<BString> = BTreeSet::new();
        let mut below: Vec<(BString, usize)> = Vec::new();
        packed.probe(keys.iter().map(|(name, _)| *name), |number, record| {
            let (name, question) = keys[number];
            let Some(record) = record.filter(|record| record.name.starts_with(name)) else { return Ok(()) };
            match question {
                Question::Of(at) if record.name == name => values.push((at, record.id()?)),
                // Other names may sort between a name and its directory: `a-b` comes before `a/b`.
                Question::Of(at) if creates(&self.edits[at]) => below.push(([name, b"/"].concat().into(), at)),
                Question::Above if record.name == name => drop(above.insert(record.name.to_owned())),
                Question::Of(_) | Question::Above => {}
            }
            Ok(())
        })?;
        let mut conflicts: BTreeMap<usize, BString> = BTreeMap::new();
        below.sort_unstable();
        packed.probe(below.iter().map(|(folder, _)| folder.as_bytes()), |number, record| {
            let (folder, at) = &below[number];
            let record = record.filter(|record| record.name.starts_with(folder));
            conflicts.extend(record.map(|record| (*at, record.name.to_owned())));
            Ok(())
        })?;
        if !above.is_empty() {
            for (at, edit) in self.edits.iter().enumerate().filter(|(_, edit)| creates(edit)) {
                let blocking = name::parents(&edit.name).find_map(|parent| above.get(parent.as_bstr()));
                conflicts.extend(blocking.map(|blocking| (at, blocking.clone())));
            }
        }
        for (at, id) in values {
            let edit = &mut self.edits[at];
            edit.packed = true;
            edit.value = edit.value.or(Some(id));
        }
        Ok(conflicts)
    }

    /// Removes empty directories at the path of a created ref; returns why that is not possible.
    fn make_room(&self, edit: &Edit<'_>) -> Option<String> {
        let path = edit.lock.as_ref()?.guarded();
        let error = remove_empty_directories(path).err()?;
        Some(match error.kind() {
            io::ErrorKind::DirectoryNotEmpty => {
                format!("there is a non-empty directory blocking reference '{}'", edit.name)
            }
            _ => unable(&edit.name, &error),
        })
    }

    /// Locks the names above those that packed-refs will contain, so that no other process creates files for them
    /// meanwhile.
    fn lock_parents(&mut self, names: &BTreeSet<Cow<'_, BStr>>) {
        let is_created = |batch: &Self, edit: &Edit<'_>| {
            batch.is_packed(edit)
                && !edit.log_only
                && edit.value.is_none()
                && batch.is_live(edit)
                && !batch.is_deletion(edit)
        };
        let created = self.edits.iter().filter(|edit| is_created(self, edit));
        // Many refs share few directories.
        let parents: BTreeSet<&[u8]> = created.flat_map(|edit| name::parents(&edit.name)).collect();
        let LockPolicy { ref_timeout, sharing, .. } = *self.policy;
        let mut locks = Vec::new();
        let mut lost: BTreeSet<BString> = BTreeSet::new();
        for parent in parents.into_iter().filter(|parent| !names.contains(parent.as_bstr())) {
            let (base, path) = (self.store.base(parent), self.store.loose_path(parent));
            match Lock::acquire(&self.store.journal, base, &path, ref_timeout, sharing) {
                Ok((lock, _)) => locks.push(lock),
                Err(_) => drop(lost.insert(parent.into())),
            }
        }
        self.parent_locks = locks;
        if lost.is_empty() {
            return;
        }
        for at in 0..self.edits.len() {
            let edit = &self.edits[at];
            let lost = name::parents(&edit.name).find(|parent| lost.contains(parent.as_bstr()));
            if let Some(parent) = lost.filter(|_| is_created(self, edit)) {
                let detail = held(parent.as_bstr());
                self.refuse_lock(edit.change, Refusal::UpdateFailed, &detail);
            }
        }
    }

    /// Releases everything; returns the refusals, in C git's words.
    pub(super) fn finish(mut self) -> Vec<Refused> {
        self.rewrite = None;
        self.packed_lock = None;
        self.parent_locks.clear();
        self.release(|_, _| true);
        self.changes.finish()
    }
}
