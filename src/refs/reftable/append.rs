//! A new table on top of a stack (reftable, «Transactions»).
//!
//! In: a stack, locked and read again under its lock, and the bytes of a table. Out: a longer list, by one rename; or a list in which the
//! new table and small ones below it have become one. C git may do the same at the same time: the lock of the list is its lock, and
//! tables that somebody is about to replace are left alone.
//!
//! Nothing is named by the list on the disk that is not there too.

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

/// So many bytes of tables become one while the list is locked. It takes a few milliseconds; C git waits a hundred.
const FOLD_MAX: u64 = 1 << 20;

/// A stack that is locked, to get a table on top.
pub(super) struct Addition<'s> {
    tables: &'s Tables,
    policy: &'s LockPolicy,
    lock: Lock,
    stack: Rc<Stack>,
}

/// Why a stack was not locked.
#[derive(Debug)]
pub(super) enum BeginError {
    /// Somebody else holds its lock.
    Held,
    /// It cannot be locked or read.
    Failed(anyhow::Error),
}

impl<'s> Addition<'s> {
    /// Locks the list and reads the stack as it is from then on.
    pub(super) fn begin(tables: &'s Tables, hash: gix_hash::Kind, policy: &'s LockPolicy) -> Result<Self, BeginError> {
        let lock = lock_list(tables, policy).map_err(|error| match error {
            LockError::Held => BeginError::Held,
            LockError::Blocked => BeginError::Failed(anyhow::anyhow!("something that is no directory is in the way")),
            LockError::Io(error) => BeginError::Failed(anyhow::Error::new(error).context("locking tables.list")),
        })?;
        let stack = tables.now(hash).map_err(BeginError::Failed)?;
        Ok(Addition { tables, policy, lock, stack })
    }

    /// Where the tables lie.
    pub(super) fn directory(&self) -> &Path {
        &self.tables.directory
    }

    /// The tables below the new one.
    pub(super) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Puts a table on top. When this returns it is there for good; returns whether the tables should be made fewer.
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed, unless only forcing the list's directory to the disk has failed.
    pub(super) fn commit(mut self, bytes: Vec<u8>, hash: gix_hash::Kind) -> anyhow::Result<bool> {
        let directory = &self.tables.directory;
        self.remove_leftovers();
        let table = Table::in_memory(bytes, hash)?;
        let tables: Vec<&Table> = self.stack.tables().iter().chain([&table]).collect();
        // One table of several is a saving, no more: where it cannot be made, they stay.
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
        // Whoever has the lock next removes what is not listed.
        settle(directory, self.policy.sync)?;
        drop(self.lock);
        remove(directory, replaced.iter().map(Table::name));
        Ok(is_uneven)
    }

    /// Makes one table of the new one and of those below it that are too small beside it, as git would right after it.
    ///
    /// Done at once it spares the disk a table that is replaced as soon as it is written. `None`: there is nothing to do, or too much
    /// for the time the list may be locked.
    fn fold(&self, tables: &[&Table], hash: gix_hash::Kind) -> anyhow::Result<Option<Folded>> {
        let Some(segment) = compact::segment(tables, self.policy.tables.geometric_factor) else { return Ok(None) };
        let Segment { mut first, end, bytes } = segment;
        if end < tables.len() || bytes > FOLD_MAX {
            return Ok(None);
        }
        // Nobody can begin to replace tables while we hold the list's lock; who has begun before holds theirs.
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

    /// Removes tables that nobody lists: what a killed process has not finished, or not cleaned up. Whoever writes one under its name
    /// holds the lock that we hold.
    fn remove_leftovers(&self) {
        let directory = &self.tables.directory;
        let is_listed = |name: &str| self.stack.tables().iter().any(|table| table.name() == name);
        let mut leftovers = Vec::new();
        // What cannot be listed or removed harms nobody.
        for entry in Listing::open(directory).into_iter().flatten().map_while(Result::ok) {
            if let Some(name) = entry.name.to_str().filter(|name| is_table_name(name) && !is_listed(name)) {
                leftovers.push(name.to_owned());
            }
        }
        remove(directory, leftovers.iter().map(String::as_str));
    }
}

/// Tables from `first` on as one.
struct Folded {
    first: usize,
    /// None where the last of them was deleted.
    bytes: Vec<u8>,
    range: (u64, u64),
    _locks: Vec<Lock>,
}

/// A table's file that no list names yet: removed when dropped.
pub(super) struct Fresh {
    path: PathBuf,
    name: String,
    pub(super) held: bool,
}

impl Fresh {
    /// Writes a table under a name of its own; none where there is nothing to write.
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

/// Takes the lock of the list, making the directory where it is missing.
pub(super) fn lock_list(tables: &Tables, policy: &LockPolicy) -> Result<Lock, LockError> {
    let directory = &tables.directory;
    let root = directory.parent().unwrap_or(directory);
    let list = directory.join(LIST);
    Lock::acquire(&tables.journal, root, &list, policy.tables.lock_timeout, policy.sharing).map(|(lock, _)| lock)
}

/// Finds out, while the list is locked, whether somebody is about to replace a table; the lock of one that is dead is taken over.
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

/// Forces a renamed list to the disk.
pub(super) fn settle(directory: &Path, sync: Sync) -> io::Result<()> {
    if sync.is_forced() { durable::fsync_directory(directory) } else { Ok(()) }
}

/// Removes tables that are not listed any more. Whoever has them open reads on.
pub(super) fn remove<'n>(directory: &Path, names: impl Iterator<Item = &'n str>) {
    for name in names {
        // One that stays is no part of the refs, and removed by a later transaction.
        let _ = durable::unlink(&directory.join(name));
    }
}

/// A name no other table has: what it tells of, and a random part.
pub(super) fn table_name((first, last): (u64, u64)) -> String {
    let random = RandomState::new().build_hasher().finish() >> 32;
    format!("0x{first:012x}-0x{last:012x}-{random:08x}.ref")
}

/// Whether a file is named as a table is.
fn is_table_name(name: &str) -> bool {
    let hex = |text: &str, prefix: &str| {
        text.strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let parts: Vec<&str> = name.strip_suffix(".ref").unwrap_or_default().split('-').collect();
    matches!(parts.as_slice(), [first, last, random] if hex(first, "0x") && hex(last, "0x") && hex(random, ""))
}
