//! Puts a new table on top of a stack (reftable, «Transactions»).
//!
//! In: a stack, locked and read again under its lock, and the bytes of a table. Out: a longer list, by one rename; or a
//! list in which one table replaces the new one and small ones below it. C git may do the same at the same time: the
//! lock of the list is git's, and tables that another process is about to replace are left alone.
//!
//! The list on disk never names a table that is not on disk.

use super::Tables;
use super::compact::{self, Segment};
use super::stack::{LIST, Stack};
use super::table::Table;
use crate::durable::{self, Sync};
use crate::listing::Listing;
use crate::refs::lock::{Lock, LockError};
use crate::refs::transaction::LockPolicy;
use anyhow::Context;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The most bytes of tables that are merged while the list is locked. That takes a few milliseconds; C git waits a
/// hundred for the lock.
const FOLD_MAX: u64 = 1 << 20;

/// A locked stack that is to get a table on top.
pub(super) struct Addition<'s> {
    tables: &'s Tables,
    policy: &'s LockPolicy,
    lock: Lock,
    stack: Rc<Stack>,
}

/// Why a stack could not be locked.
#[derive(Debug)]
pub(super) enum BeginError {
    /// Another process holds its lock.
    Held,
    /// It cannot be locked or read.
    Failed(anyhow::Error),
}

impl<'s> Addition<'s> {
    /// Locks the list and reads the stack, which no other process changes until this is dropped.
    pub(super) fn begin(tables: &'s Tables, hash: gix_hash::Kind, policy: &'s LockPolicy) -> Result<Self, BeginError> {
        let lock = lock_list(tables, policy).map_err(|error| match error {
            LockError::Held => BeginError::Held,
            LockError::Blocked => BeginError::Failed(anyhow::anyhow!("something that is no directory is in the way")),
            LockError::Io(error) => BeginError::Failed(anyhow::Error::new(error).context("locking tables.list")),
        })?;
        let stack = tables.now(hash).map_err(BeginError::Failed)?;
        Ok(Addition { tables, policy, lock, stack })
    }

    /// The directory of the tables.
    pub(super) fn directory(&self) -> &Path {
        &self.tables.directory
    }

    /// The tables below the new one.
    pub(super) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Puts a table on top, durably once this returns. Returns whether the tables should be compacted.
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed, unless only forcing the list's directory to disk failed.
    pub(super) fn commit(mut self, bytes: Vec<u8>, hash: gix_hash::Kind) -> anyhow::Result<bool> {
        let directory = &self.tables.directory;
        self.remove_leftovers();
        let table = Table::in_memory(bytes, hash)?;
        let tables: Vec<&Table> = self.stack.tables().iter().chain([&table]).collect();
        // Merging only saves work: if it fails, the tables stay as they are.
        let folded = self.fold(&tables, hash).unwrap_or_default();
        let (first, mut fresh) = match &folded {
            Some(folded) => (folded.first, Fresh::write(directory, &folded.bytes, folded.range, self.policy)?),
            None => (self.stack.tables().len(), Fresh::write(directory, table.bytes(), table.range(), self.policy)?),
        };
        let is_uneven = folded.is_none() && compact::segment(&tables, self.policy.tables.geometric_factor).is_some();
        let (kept, replaced) = self.stack.tables().split_at(first);
        let names = kept.iter().map(Table::name).chain(fresh.as_ref().map(Fresh::name));
        let mut written = vec![self.lock.fill(&self.tables.journal, &list(names), self.policy.sharing)?];
        written.extend(fresh.as_ref().map(|fresh| fresh.path.clone()));
        written.push(directory.clone());
        durable::barrier(&written, directory, self.policy.sync)?;
        self.lock.commit()?;
        if let Some(fresh) = &mut fresh {
            fresh.held = false;
        }
        // If this fails, the next process that locks the list removes unlisted tables.
        settle(directory, self.policy.sync)?;
        drop(self.lock);
        remove(directory, replaced.iter().map(Table::name));
        Ok(is_uneven)
    }

    /// Merges the new table with those below it that are too small compared to it, as git would right afterwards.
    ///
    /// Doing this at once saves writing a table that is replaced immediately. `None` if there is nothing to merge, or
    /// too much for the time the list may be locked.
    fn fold(&self, tables: &[&Table], hash: gix_hash::Kind) -> anyhow::Result<Option<Folded>> {
        let Some(segment) = compact::segment(tables, self.policy.tables.geometric_factor) else { return Ok(None) };
        let Segment { mut first, end, bytes } = segment;
        if end < tables.len() || bytes > FOLD_MAX {
            return Ok(None);
        }
        // No process can start to replace tables while we hold the list's lock; one that started before holds the locks
        // of its tables.
        let mut locks = Vec::new();
        for at in (first..end - 1).rev() {
            match lock_table(self.tables, tables[at].name(), self.policy) {
                Ok(lock) => locks.extend(lock),
                Err(_) => {
                    first = at + 1;
                    break;
                }
            }
        }
        if first + 1 >= end {
            return Ok(None);
        }
        let mut merged = Vec::new();
        let mut out = |bytes: &[u8]| {
            merged.extend_from_slice(bytes);
            Ok(())
        };
        let chosen = &tables[first..end];
        let range = compact::range(chosen);
        let has_records = compact::merge(chosen, first == 0, &mut out, self.policy.tables, hash)?;
        let bytes = if has_records { merged } else { Vec::new() };
        Ok(Some(Folded { first, bytes, range, _locks: locks }))
    }

    /// Removes unlisted tables, which a killed process has not finished or not cleaned up. A process that writes a
    /// table under its final name holds the list's lock, which is ours.
    fn remove_leftovers(&self) {
        let directory = &self.tables.directory;
        let is_listed = |name: &str| self.stack.tables().iter().any(|table| table.name() == name);
        let mut leftovers = Vec::new();
        // What cannot be listed or removed does no harm.
        for entry in Listing::open(directory).into_iter().flatten().map_while(Result::ok) {
            if let Some(name) = entry.name.to_str().filter(|name| is_table_name(name) && !is_listed(name)) {
                leftovers.push(name.to_owned());
            }
        }
        remove(directory, leftovers.iter().map(String::as_str));
    }
}

/// The tables from `first` on, merged into one.
struct Folded {
    first: usize,
    /// Empty if they contain no records, because all have been deleted.
    bytes: Vec<u8>,
    range: (u64, u64),
    _locks: Vec<Lock>,
}

/// A table's file that no list names yet; removed when dropped.
pub(super) struct Fresh {
    path: PathBuf,
    name: String,
    pub(super) held: bool,
}

impl Fresh {
    /// Writes a table under a unique name; `None` if there is nothing to write.
    fn write(directory: &Path, bytes: &[u8], range: (u64, u64), policy: &LockPolicy) -> anyhow::Result<Option<Self>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let name = table_name(range);
        let path = directory.join(&name);
        let mut file = durable::create(&path, 0o666, policy.sharing).context("writing a table")?;
        let fresh = Fresh { path, name, held: true };
        durable::write_all(&mut file, bytes).context("writing a table")?;
        Ok(Some(fresh))
    }

    /// A table that is written already and has just got its name.
    pub(super) fn named(directory: &Path, name: String) -> Self {
        Fresh { path: directory.join(&name), name, held: true }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.held {
            let _ = durable::unlink(&self.path);
        }
    }
}

/// Locks the list, creating the directory if it is missing.
pub(super) fn lock_list(tables: &Tables, policy: &LockPolicy) -> Result<Lock, LockError> {
    let directory = &tables.directory;
    let root = directory.parent().unwrap_or(directory);
    let list = directory.join(LIST);
    Lock::acquire(&tables.journal, root, &list, policy.tables.lock_timeout, policy.sharing).map(|(lock, _)| lock)
}

/// Locks a table if a lock file exists, while the list is locked. Fails if another process is about to replace the
/// table; a dead owner's lock is taken over.
fn lock_table(tables: &Tables, name: &str, policy: &LockPolicy) -> Result<Option<Lock>, LockError> {
    let directory = &tables.directory;
    match directory.join(format!("{name}.lock")).symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(_) | Err(_) => {
            let path = directory.join(name);
            Lock::acquire(&tables.journal, directory, &path, Duration::ZERO, policy.sharing).map(|(lock, _)| Some(lock))
        }
    }
}

/// The content of a list.
pub(super) fn list<'n>(names: impl Iterator<Item = &'n str>) -> Vec<u8> {
    names.flat_map(|name| [name, "\n"]).flat_map(str::bytes).collect()
}

/// Forces a renamed list to disk.
pub(super) fn settle(directory: &Path, sync: Sync) -> io::Result<()> {
    if sync.is_forced() { durable::fsync_directory(directory) } else { Ok(()) }
}

/// Removes tables that are no longer listed. Processes that have them open can still read them.
pub(super) fn remove<'n>(directory: &Path, names: impl Iterator<Item = &'n str>) {
    for name in names {
        // A table that stays is not part of the refs, and a later transaction removes it.
        let _ = durable::unlink(&directory.join(name));
    }
}

/// A unique table name: the range of transactions it covers, and a random part.
pub(super) fn table_name((first, last): (u64, u64)) -> String {
    let random = RandomState::new().build_hasher().finish() >> 32;
    format!("0x{first:012x}-0x{last:012x}-{random:08x}.ref")
}

/// Whether a file has the form of a table's name.
fn is_table_name(name: &str) -> bool {
    let hex = |text: &str, prefix: &str| {
        text.strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let parts: Vec<&str> = name.strip_suffix(".ref").unwrap_or_default().split('-').collect();
    matches!(parts.as_slice(), [first, last, random] if hex(first, "0x") && hex(last, "0x") && hex(random, ""))
}
