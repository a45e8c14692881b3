//! Rewrites packed-refs: with the new values, and before that, if an atomic transaction needs it, once with the current
//! ones.
//!
//! In: the file, opened under its lock, and the refs to change. Out: one or two complete files, which become
//! packed-refs by a rename each. They are written in the journal's directory, where a leftover blocks nobody, as
//! `packed-refs.new` would block C git. Both are written in one pass, because C git waits only a second for the lock.

use super::packed::{Packed, Promise, Record};
use crate::durable::{self, Sync};
use crate::journal::Journal;
use crate::refs::Peeled;
use crate::refs::transaction::LockPolicy;
use anyhow::Context;
use bstr::BStr;
use gix_hash::ObjectId;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many bytes are collected before they are written.
const BUFFER: usize = 64 << 10;

/// What a file is to contain for one ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// The same as now.
    AsIs,
    /// No value: the ref is left out.
    Gone,
    /// An object, and what it peels to.
    At(ObjectId, Peeled<ObjectId>),
}

/// One ref to change.
#[derive(Debug)]
pub(super) struct Edit<'a> {
    /// The ref's full name.
    pub(super) name: &'a BStr,
    /// The value in the first file, unless that is [`Value::AsIs`].
    pub(super) before: Option<Box<Value>>,
    /// The value in the last file.
    pub(super) after: Value,
}

/// The files written, in the order in which they become packed-refs. Those that have not become it are removed when
/// dropped.
pub(super) struct Rewrite {
    /// If packed-refs is a symbolic link into another repository, this is that repository's journal: a rename works
    /// within one file system only.
    _journal: Arc<Journal>,
    target: PathBuf,
    sync: Sync,
    files: Vec<Temporary>,
    done: usize,
}

struct Temporary {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    held: bool,
}

impl Rewrite {
    /// Writes the files: two if any edit has a value before its change, else one. `edits` ascend by name.
    pub(super) fn write(
        packed: &Packed,
        edits: &[Edit<'_>],
        target: &Path,
        journal: &Arc<Journal>,
        policy: &LockPolicy,
    ) -> anyhow::Result<Self> {
        let mut values: Vec<fn(&Edit<'_>) -> Value> = Vec::new();
        if edits.iter().any(|edit| edit.before.is_some()) {
            values.push(|edit| edit.before.as_deref().copied().unwrap_or(Value::AsIs));
        }
        values.push(|edit| edit.after);
        let directory = target.parent().context("packed-refs has no directory")?;
        let journal = if journal.is_of(directory) { journal.clone() } else { Arc::new(Journal::of(directory)) };
        let mut rewrite = Rewrite {
            _journal: journal.clone(),
            target: target.to_owned(),
            sync: policy.sync,
            files: Vec::new(),
            done: 0,
        };
        for value in &values {
            let mut temporary = Temporary::create(&journal, policy).context("writing packed-refs")?;
            temporary.put(header(promise(packed, edits, *value)).as_bytes())?;
            rewrite.files.push(temporary);
        }
        let mut records = packed.records();
        let mut more = records.advance()?;
        let mut edits = edits.iter().peekable();
        while more || edits.peek().is_some() {
            let record = more.then(|| records.record());
            let edit = edits.next_if(|edit| record.is_none_or(|record| *edit.name <= *record.name));
            // A record is handled with the edit of its name, or alone.
            let record = record.filter(|record| edit.is_none_or(|edit| edit.name == record.name));
            for (temporary, value) in rewrite.files.iter_mut().zip(&values) {
                temporary.put_ref(record, edit, edit.map_or(Value::AsIs, value))?;
            }
            if record.is_some() {
                more = records.advance()?;
            }
        }
        for temporary in &mut rewrite.files {
            temporary.flush().context("writing packed-refs")?;
        }
        let written: Vec<PathBuf> = rewrite.files.iter().map(|temporary| temporary.path.clone()).collect();
        durable::barrier(&written, directory, policy.sync).context("writing packed-refs")?;
        Ok(rewrite)
    }

    /// Whether two files were written, of which the first only moves loose values into packed-refs.
    pub(super) fn has_before(&self) -> bool {
        self.files.len() == 2
    }

    /// Makes the next file packed-refs, durably once this returns.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        if let Some(temporary) = self.files.get_mut(self.done) {
            durable::rename(&temporary.path, &self.target)?;
            temporary.held = false;
            self.done += 1;
            if let Some(directory) = self.target.parent().filter(|_| self.sync.is_forced()) {
                durable::fsync_directory(directory)?;
            }
        }
        Ok(())
    }
}

impl Temporary {
    fn create(journal: &Journal, policy: &LockPolicy) -> io::Result<Self> {
        let (path, file) = journal.temporary(policy.sharing)?;
        Ok(Temporary { path, file, buffer: Vec::with_capacity(BUFFER), held: true })
    }

    fn put_ref(&mut self, record: Option<Record<'_>>, edit: Option<&Edit<'_>>, value: Value) -> io::Result<()> {
        match (value, record, edit) {
            (Value::AsIs, Some(record), _) => self.put(record.raw),
            (Value::At(id, peeled), _, Some(edit)) => {
                let mut lines = format!("{id} ").into_bytes();
                lines.extend_from_slice(edit.name);
                lines.push(b'\n');
                if let Peeled::To(target) = peeled {
                    lines.extend_from_slice(format!("^{target}\n").as_bytes());
                }
                self.put(&lines)
            }
            (Value::AsIs, None, _) | (Value::Gone, ..) | (Value::At(..), _, None) => Ok(()),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        durable::write_all(&mut self.file, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.held {
            let _ = durable::unlink(&self.path);
        }
    }
}

/// What a new file's header may promise: what the old one promised, as far as the new values allow.
fn promise(packed: &Packed, edits: &[Edit<'_>], value: fn(&Edit<'_>) -> Value) -> Promise {
    let keeps = |edit: &Edit<'_>| match value(edit) {
        // Everything below refs/heads/ is a commit, which peels to nothing.
        Value::At(_, Peeled::Unknown) if edit.name.starts_with(b"refs/heads/") => Promise::All,
        Value::At(_, Peeled::Unknown) if edit.name.starts_with(b"refs/tags/") => Promise::Unknown,
        Value::At(_, Peeled::Unknown) => Promise::Tags,
        Value::At(_, Peeled::NotATag | Peeled::To(_)) | Value::AsIs | Value::Gone => Promise::All,
    };
    edits.iter().map(keeps).min().unwrap_or(Promise::All).min(packed.promise())
}

fn header(promise: Promise) -> &'static str {
    match promise {
        Promise::All => "# pack-refs with: peeled fully-peeled sorted \n",
        Promise::Tags => "# pack-refs with: peeled sorted \n",
        Promise::Unknown => "# pack-refs with: sorted \n",
    }
}
