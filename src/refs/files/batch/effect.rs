//! What a transaction does on disk, once its refs are locked and checked: it writes new files, then renames them.
//!
//! In: a batch with the changes that are left. Out: the same batch, with failed changes refused. Updates come before
//! deletions, so that live objects stay referenced. After a power loss, nothing is ever on disk without what it relies
//! on.

use super::super::packed::Packed;
use super::super::reflog;
use super::super::rewrite::{self, Rewrite, Value};
use super::{Batch, Edit};
use crate::durable;
use crate::protocol::report::Refusal;
use crate::refs::Peeled;
use bstr::ByteSlice;
use gix_hash::ObjectId;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

impl Batch<'_> {
    /// Whether an edit changes anything.
    fn is_active(&self, edit: &Edit) -> bool {
        let new = self.changes[edit.change].new;
        !edit.log_only && self.is_live(edit) && edit.value != new
    }

    fn active(&self) -> Vec<usize> {
        (0..self.edits.len()).filter(|at| self.is_active(&self.edits[*at])).collect()
    }

    /// Writes everything that renames will make take effect; none of it is visible before.
    pub(super) fn write(&mut self) {
        self.drop_refused();
        let (packed, loose): (Vec<usize>, Vec<usize>) = self
            .active()
            .into_iter()
            .partition(|at| self.is_packed(&self.edits[*at]) || self.is_deletion(&self.edits[*at]));
        let mut written = self.durable_first.to_vec();
        self.prepare_loose(&loose, &mut written);
        // An entry of a reflog is appended in place, so no rename delays it, and everything must be forced to disk
        // first. For many refs, looking for each one's reflog would cost too much.
        let forced = if self.packs || self.writes_logs() {
            durable::fsync_all(&written, self.policy.sync)
        } else {
            durable::barrier(&written, &self.store.common_dir, self.policy.sync)
        };
        if let Err(error) = forced {
            for at in loose.iter().chain(&packed) {
                self.refuse_update(self.edits[*at].change, &error);
            }
        }
        if self.goes_on()
            && let Err(error) = self.prepare_packed(&packed)
        {
            for at in packed {
                self.refuse_update(self.edits[at].change, &error);
            }
        }
    }

    fn prepare_loose(&mut self, chosen: &[usize], written: &mut Vec<PathBuf>) {
        for at in chosen {
            let edit = &mut self.edits[*at];
            let content = self.changes[edit.change].new.map(|id| format!("{id}\n")).unwrap_or_default();
            let Some(lock) = &mut edit.lock else { continue };
            match lock.fill(&self.store.journal, content.as_bytes(), self.policy.sharing) {
                Ok(path) => written.push(path),
                Err(error) => {
                    let change = edit.change;
                    self.refuse_update(change, &error);
                }
            }
        }
    }

    fn refuse_update(&mut self, change: usize, error: &dyn Display) {
        let detail = format!("cannot update ref '{}': {error:#}", self.changes[change].name);
        self.changes.refuse(change, Refusal::UpdateFailed, detail);
    }

    fn prepare_packed(&mut self, chosen: &[usize]) -> anyhow::Result<()> {
        let Some(lock) = &self.packed_lock else { return Ok(()) };
        let mut edits: Vec<rewrite::Edit<'_>> = Vec::with_capacity(chosen.len());
        for edit in chosen.iter().map(|at| &self.edits[*at]) {
            let before = match edit.value {
                Some(id) if self.changes.is_atomic() && self.packs && edit.loose => {
                    Some(Box::new(self.packed_value(edit, id)))
                }
                Some(_) | None => None,
            };
            let after = match self.changes[edit.change].new {
                Some(id) => self.packed_value(edit, id),
                None if edit.packed => Value::Gone,
                None => Value::AsIs,
            };
            if before.is_some() || after != Value::AsIs {
                // A value that packed-refs holds only for a moment is gone in the end.
                let after = if after == Value::AsIs { Value::Gone } else { after };
                edits.push(rewrite::Edit { name: edit.name.as_bstr(), before, after });
            }
        }
        if !edits.is_empty() {
            edits.sort_unstable_by_key(|edit| edit.name);
            // Nobody has replaced the file since it was checked, because we hold its lock.
            let packed = Packed::open(&self.store.packed_path(), self.store.hash)?;
            self.rewrite = Some(Rewrite::write(&packed, &edits, lock.guarded(), &self.store.journal, self.policy)?);
        }
        Ok(())
    }

    fn packed_value(&self, edit: &Edit, id: ObjectId) -> Value {
        let is_branch = edit.name.starts_with(b"refs/heads/");
        let peel = self.peel.filter(|_| !is_branch);
        Value::At(id, peel.map_or(Peeled::Unknown, |peel| peel(id)))
    }

    /// Makes the changes take effect: updates first, so that live objects stay referenced, then deletions.
    pub(super) fn apply(&mut self) {
        let (mut packed, mut deleted, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        let companions: Vec<usize> = (0..self.edits.len()).filter(|at| self.edits[*at].log_only).collect();
        for at in self.active() {
            let edit = &self.edits[at];
            if let Err(error) = self.log(edit, &companions) {
                failed.push((edit.change, error));
                if self.changes.is_atomic() {
                    break;
                }
                continue;
            }
            if self.is_deletion(edit) {
                deleted.push(at);
            }
            if self.is_packed(edit) || self.is_deletion(edit) {
                packed.push(at);
            } else if let Err(error) = self.commit_loose(at) {
                failed.push((self.edits[at].change, error));
            }
        }
        let is_any_refused = !failed.is_empty();
        self.refuse_failed(failed);
        let is_any_refused = self.refuse_blocked(&packed) || is_any_refused;
        let is_stale = is_any_refused && self.rewrite.take().is_some();
        if let Err(error) = self.sync_directories() {
            self.refuse_everything(&error);
        }
        if is_stale && self.goes_on() {
            // What was written for packed-refs contains changes that have been refused since.
            self.write();
        }
        if !self.goes_on() {
            return;
        }
        packed.retain(|at| self.is_live(&self.edits[*at]));
        deleted.retain(|at| self.is_live(&self.edits[*at]));
        // A ref without its reflog is better than a reflog without its ref. But an atomic change is the one rename, so
        // its reflogs go after it.
        if !self.packs {
            self.remove_logs(&deleted);
        }
        if let Err(error) = self.commit_packed(&packed) {
            for at in packed {
                self.refuse_update(self.edits[at].change, &error);
            }
        } else if self.packs {
            self.remove_logs(&deleted);
        }
    }

    fn refuse_failed(&mut self, failed: Vec<(usize, io::Error)>) {
        for (change, error) in failed {
            self.refuse_update(change, &error);
        }
    }

    /// Refuses refs that packed-refs would create although refs were created below their names since the check: C git
    /// creates such directories without locking the name above. Returns whether there are any.
    fn refuse_blocked(&mut self, packed: &[usize]) -> bool {
        let is_created = |edit: &Edit| edit.value.is_none() && self.is_live(edit) && !self.is_deletion(edit);
        let blocked = |edit: &Edit| {
            let is_there = fs::symlink_metadata(self.store.loose_path(&edit.name)).is_ok_and(|found| found.is_dir());
            Some((edit.change, is_there.then(|| self.make_room(edit)).flatten()?))
        };
        let created = packed.iter().map(|at| &self.edits[*at]).filter(|edit| is_created(edit));
        let blocked: Vec<_> = created.filter_map(blocked).collect();
        let is_any = !blocked.is_empty();
        for (change, detail) in blocked {
            self.changes.refuse(change, Refusal::NameConflict, detail);
        }
        is_any
    }

    fn refuse_everything(&mut self, error: &io::Error) {
        for change in 0..self.changes.len() {
            self.refuse_update(change, error);
        }
    }

    /// Appends the entries of a change: to the ref's own reflog and those of its companions, the symbolic refs that led
    /// to it and HEAD.
    fn log(&self, edit: &Edit, companions: &[usize]) -> io::Result<()> {
        let change = &self.changes[edit.change];
        let Some(entry) = &change.reflog else { return Ok(()) };
        let null = self.store.hash.null();
        let (old, new) = (edit.value.unwrap_or(null), change.new.unwrap_or(null));
        if change.new.is_some() {
            reflog::append(self.store, edit.name.as_bstr(), old, new, entry, self.policy)?;
        }
        for other in companions.iter().map(|at| &self.edits[*at]).filter(|other| other.change == edit.change) {
            reflog::append(self.store, other.name.as_bstr(), old, new, entry, self.policy)?;
        }
        Ok(())
    }

    /// Whether any reflog entry will be written.
    fn writes_logs(&self) -> bool {
        self.edits.iter().any(|edit| {
            let entry = self.changes[edit.change].reflog.as_ref().filter(|_| self.is_live(edit));
            entry.is_some_and(|entry| reflog::wanted(self.store, edit.name.as_bstr(), entry))
        })
    }

    fn commit_loose(&mut self, at: usize) -> io::Result<()> {
        let edit = &mut self.edits[at];
        let Some(lock) = &mut edit.lock else { return Ok(()) };
        lock.commit()?;
        let path = lock.guarded().to_owned();
        edit.lock = None;
        let made_directory = edit.made_directory;
        let root = self.store.base(&self.edits[at].name).to_owned();
        self.changed(&path, made_directory.then_some(root.as_path()));
        Ok(())
    }

    /// Notes that an entry of a directory has changed; with `root`, entries of the directories above it up to there as
    /// well.
    fn changed(&mut self, path: &Path, root: Option<&Path>) {
        let above = path.ancestors().skip(1);
        let count = root.map_or(1, |root| above.clone().take_while(|directory| *directory != root).count());
        self.unsynced.extend(above.take(count).map(Path::to_owned));
    }

    fn sync_directories(&mut self) -> io::Result<()> {
        for directory in std::mem::take(&mut self.unsynced) {
            if self.policy.sync.is_forced() {
                durable::fsync_what_is_left(&directory)?;
            }
        }
        Ok(())
    }

    /// Replaces packed-refs and removes the loose files of the refs that have changed there.
    ///
    /// An atomic change first moves the loose values into packed-refs: once the loose files are gone, one rename
    /// changes all refs.
    fn commit_packed(&mut self, chosen: &[usize]) -> io::Result<()> {
        let mut rewrite = self.rewrite.take();
        let in_one_step = rewrite.as_ref().is_some_and(Rewrite::has_before);
        if let Some(rewrite) = &mut rewrite {
            rewrite.commit()?;
        }
        let mut failed = Vec::new();
        for at in chosen {
            let edit = &self.edits[*at];
            if !edit.loose {
                continue;
            }
            let path = self.store.loose_path(&edit.name);
            match durable::unlink(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    if self.changes.is_atomic() {
                        return Err(error);
                    }
                    // The ref keeps its old value, because a loose ref overrides the packed one.
                    failed.push((edit.change, error));
                }
                Ok(()) | Err(_) => self.changed(&path, None),
            }
        }
        self.refuse_failed(failed);
        self.sync_directories()?;
        match rewrite {
            Some(mut rewrite) if in_one_step => rewrite.commit(),
            Some(_) | None => Ok(()),
        }
    }

    fn remove_logs(&mut self, deleted: &[usize]) {
        for at in deleted {
            // A reflog that cannot be removed does no harm: the ref is already deleted or about to be.
            let _ = reflog::remove(self.store, self.edits[*at].name.as_bstr());
        }
    }
}
