//! Merges tables, so that there are never many (git-config, reftable.geometricFactor).
//!
//! In: a stack. Out: the same refs and reflogs in fewer tables. The replaced tables are locked as C git locks them; the
//! list is locked only while it is read and while it is replaced, so others go on writing meanwhile. If anything goes
//! wrong, the tables stay as they are.

use super::Tables;
use super::append::{Fresh, list, lock_list, remove, settle, table_name};
use super::merged::Merged;
use super::stack::Stack;
use super::table::Table;
use super::writer::{Out, TableWriter};
use crate::durable::{self, Sync};
use crate::refs::lock::Lock;
use crate::refs::transaction::{LockPolicy, TablePolicy};
use anyhow::{Context, bail};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many bytes are collected before they are written.
const BUFFER: usize = 64 << 10;

/// Consecutive tables that are to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: usize,
    /// One past the last.
    pub(super) end: usize,
    /// Their total weight.
    pub(super) bytes: u64,
}

/// The tables to merge so that each table is at least `factor` times as heavy as the next newer one; `None` if that
/// holds already.
///
/// Going from the newest to older ones, the segment ends with the first table that is too heavy for the one below it.
/// From there on the tables passed count as one, and the segment begins at the oldest table that is too light for those
/// above it.
pub(super) fn segment(tables: &[&Table], factor: u8) -> Option<Segment> {
    let weights: Vec<u64> = tables.iter().map(|table| table.weight()).collect();
    segment_of(&weights, factor)
}

fn segment_of(weights: &[u64], factor: u8) -> Option<Segment> {
    let is_light = |weight: u64, above: u64| weight < above.saturating_mul(factor.into());
    let last = (1..weights.len()).rev().find(|at| is_light(weights[at - 1], weights[*at]))?;
    let mut found = None;
    let mut bytes = weights[last];
    for first in (0..last).rev() {
        let above = bytes;
        bytes = bytes.saturating_add(weights[first]);
        if is_light(weights[first], above) {
            found = Some(Segment { first, end: last + 1, bytes });
        }
    }
    found
}

/// The first and the last transaction that tables cover.
pub(super) fn range(tables: &[&Table]) -> (u64, u64) {
    let first = tables.iter().map(|table| table.range().0).min().unwrap_or(0);
    (first, tables.iter().map(|table| table.range().1).max().unwrap_or(0))
}

/// Merges tables, given oldest first, into one; returns whether it has any records. If no table is below them
/// (`is_bottom`), deletions are left out.
pub(super) fn merge(
    tables: &[&Table],
    is_bottom: bool,
    out: &mut Out<'_>,
    policy: TablePolicy,
    hash: gix_hash::Kind,
) -> anyhow::Result<bool> {
    let mut writer = TableWriter::new(out, policy, hash, range(tables));
    let refs = tables.iter().map(|table| table.refs()).collect();
    let mut refs = if is_bottom { Merged::new(refs) } else { Merged::with_deleted(refs) };
    while refs.advance()? {
        let (name, record) = refs.current().context("there is one")?;
        writer.add(name, record)?;
    }
    let logs = tables.iter().filter(|table| table.has_logs()).map(|table| table.logs()).collect();
    let mut logs = if is_bottom { Merged::new(logs) } else { Merged::with_deleted(logs) };
    while logs.advance()? {
        let (name, record) = logs.current().context("there is one")?;
        writer.add(name, record)?;
    }
    writer.finish()
}

/// Compacts a stack with too many tables.
///
/// # Errors
/// When another process is compacting it, or the disk refuses; the refs stay the same in any case.
pub(super) fn compact(tables: &Tables, hash: gix_hash::Kind, policy: &LockPolicy) -> anyhow::Result<()> {
    let directory = &tables.directory;
    let lock = lock_list(tables, policy).map_err(|_| anyhow::anyhow!("tables.list is locked"))?;
    let stack = Stack::open(directory, hash)?;
    let all: Vec<&Table> = stack.tables().iter().collect();
    let Some(Segment { mut first, end, .. }) = segment(&all, policy.tables.geometric_factor) else { return Ok(()) };
    let mut locks = Vec::new();
    // The newest first: if another process is replacing older tables, those added since can still be merged.
    for at in (first..end).rev() {
        let path = directory.join(all[at].name());
        match Lock::acquire(&tables.journal, directory, &path, Duration::ZERO, policy.sharing) {
            Ok((lock, _)) => locks.push(lock),
            Err(_) => {
                first = at + 1;
                break;
            }
        }
    }
    drop(lock);
    if first + 1 >= end {
        return Ok(());
    }
    let chosen = &all[first..end];
    let mut merged = Unnamed::create(tables, policy)?;
    let has_records = merged.write(policy.sync, |out| merge(chosen, first == 0, out, policy.tables, hash))?;

    let mut lock = lock_list(tables, policy).map_err(|_| anyhow::anyhow!("tables.list is locked"))?;
    let now = Stack::open(directory, hash)?;
    let names: Vec<&str> = now.tables().iter().map(Table::name).collect();
    let old: Vec<&str> = chosen.iter().map(|table| table.name()).collect();
    let Some(at) = names.windows(old.len()).position(|names| names == old) else {
        bail!("the tables have been replaced meanwhile");
    };
    let mut fresh = None;
    if has_records {
        let name = table_name(range(chosen));
        merged.rename(&directory.join(&name))?;
        fresh = Some(Fresh::named(directory, name));
    }
    let (below, above) = (&names[..at], &names[at + old.len()..]);
    let middle = fresh.as_ref().map(Fresh::name);
    let list = list(below.iter().copied().chain(middle).chain(above.iter().copied()));
    let list = lock.fill(&tables.journal, &list, policy.sharing)?;
    durable::barrier(&[directory.clone(), list], directory, policy.sync)?;
    lock.commit()?;
    if let Some(fresh) = &mut fresh {
        fresh.held = false;
    }
    settle(directory, policy.sync)?;
    drop(lock);
    remove(directory, old.into_iter());
    Ok(())
}

/// A table that has no name yet and is in the journal's directory, where nobody takes it for one; removed when dropped.
struct Unnamed {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    held: bool,
}

impl Unnamed {
    fn create(tables: &Tables, policy: &LockPolicy) -> anyhow::Result<Self> {
        let (path, file) = tables.journal.temporary(policy.sharing).context("writing a table")?;
        Ok(Unnamed { path, file, buffer: Vec::with_capacity(BUFFER), held: true })
    }

    /// Writes what `write` produces, and forces it to disk.
    fn write(&mut self, sync: Sync, write: impl FnOnce(&mut Out<'_>) -> anyhow::Result<bool>) -> anyhow::Result<bool> {
        let (file, buffer) = (&mut self.file, &mut self.buffer);
        let has_records = write(&mut |bytes| {
            if buffer.len() + bytes.len() > BUFFER {
                durable::write_all(file, buffer)?;
                buffer.clear();
            }
            buffer.extend_from_slice(bytes);
            Ok(())
        })?;
        durable::write_all(&mut self.file, &self.buffer)?;
        if sync.is_forced() {
            durable::fsync(&self.file)?;
        }
        Ok(has_records)
    }

    fn rename(&mut self, path: &Path) -> io::Result<()> {
        durable::rename(&self.path, path)?;
        self.held = false;
        Ok(())
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if self.held {
            let _ = durable::unlink(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_are_too_light_for_those_above_them_are_made_one() {
        let check = |weights: &[u64], factor: u8, expected: Option<(usize, usize, u64)>| {
            let found = segment_of(weights, factor).map(|found| (found.first, found.end, found.bytes));
            assert_eq!(found, expected, "{weights:?}");
        };
        check(&[], 2, None);
        check(&[5], 2, None);
        check(&[64, 32, 16, 8, 4, 2, 1], 2, None);
        check(&[64, 32, 16, 8, 4, 3, 1], 2, Some((0, 6, 127)));
        check(&[128, 32, 16, 8, 4, 3, 1], 2, Some((1, 6, 63)));
        check(&[100, 1, 1], 2, Some((1, 3, 2)));
        check(&[8, 4, 1], 3, Some((0, 2, 12)));
        check(&[u64::MAX - 1, u64::MAX], 255, Some((0, 2, u64::MAX)));
    }
}
