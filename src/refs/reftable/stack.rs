//! A stack of tables: `tables.list` names them, oldest first (reftable, «Readers»).
//!
//! In: a directory. Out: its tables at one moment, opened. If a table is missing because it was compacted meanwhile,
//! the list is read again. No lock is ever taken or awaited here.

use super::merged::Merged;
use super::record::{Log, Ref, Value};
use super::table::Table;
use crate::refs::identity::Identity;
use anyhow::{Context, bail, ensure};
use bstr::ByteSlice;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// The name of the list in the directory.
pub(super) const LIST: &str = "tables.list";
/// The largest list in bytes: tens of thousands of tables, which git would have compacted long before.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// The most bytes of small tables held in memory; tables beyond that are kept open instead.
const MEMORY_MAX: u64 = 16 << 20;
/// How often the list is read again because tables are gone. Each round needs another process that compacts at just
/// that moment.
const ROUNDS_MAX: u32 = 64;

/// The tables at one moment.
#[derive(Debug)]
pub(super) struct Stack {
    /// The tables, oldest first.
    tables: Vec<Table>,
    list: Option<ListFile>,
}

/// The file a list was read from. It stays open, so that its inode cannot be reused and no other file is taken for it.
#[derive(Debug)]
struct ListFile {
    _open: File,
    identity: Identity,
}

impl Stack {
    /// Opens the tables that `directory` currently lists; an empty stack if there is no list.
    pub(super) fn open(directory: &Path, hash: gix_hash::Kind) -> anyhow::Result<Self> {
        let mut before = None;
        for round in 0..ROUNDS_MAX {
            let (names, list) = read_list(directory)?;
            match tables(directory, &names, hash) {
                Ok(tables) => return Ok(Stack { tables, list }),
                // If the list is the same as before, nothing will replace what is missing.
                Err(error) if !has_gone(&error) || before.as_ref() == Some(&names) => return Err(error),
                Err(_) => before = Some(names),
            }
            std::thread::sleep(Duration::from_millis(round.into()));
        }
        bail!("the tables of '{}' change faster than they can be opened", directory.display());
    }

    /// Whether these are still the current tables of `directory`.
    pub(super) fn is_current(&self, directory: &Path) -> anyhow::Result<bool> {
        let now = Identity::at(&directory.join(LIST)).context("reading tables.list")?;
        Ok(now == self.list.as_ref().map(|list| list.identity))
    }

    /// The value of a ref in the newest table that has a record of it; `None` if there is no such ref.
    pub(super) fn find(&self, name: &[u8]) -> anyhow::Result<Option<Value>> {
        for table in self.tables.iter().rev() {
            if let Some(value) = table.find(name)? {
                return Ok(Some(value).filter(|value| *value != Value::Deleted));
            }
        }
        Ok(None)
    }

    /// Walks over all refs with their newest values, starting before the first.
    pub(super) fn refs(&self) -> Merged<'_, Ref> {
        Merged::new(self.tables.iter().map(Table::refs).collect())
    }

    /// Walks over all reflog entries, starting before the first.
    pub(super) fn logs(&self) -> Merged<'_, Log> {
        Merged::new(self.tables.iter().filter(|table| table.has_logs()).map(Table::logs).collect())
    }

    /// The tables, oldest first.
    pub(super) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The number of the next transaction.
    pub(super) fn next_index(&self) -> anyhow::Result<u64> {
        let last = self.tables.last().map_or(0, |table| table.range().1);
        last.checked_add(1).context("there is no number for another transaction")
    }
}

/// The names in the list, and the list's identity; no names if there is no list.
fn read_list(directory: &Path) -> anyhow::Result<(Vec<String>, Option<ListFile>)> {
    let opened = File::open(directory.join(LIST)).and_then(|file| {
        let mut bytes = Vec::new();
        (&file).take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        let identity = Identity::of(&file.metadata()?);
        Ok((bytes, ListFile { _open: file, identity }))
    });
    let (bytes, list) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(error) => return Err(error).context("reading tables.list"),
    };
    ensure!(bytes.len() as u64 <= LIST_BYTES_MAX, "tables.list is larger than {LIST_BYTES_MAX} bytes");
    let name = |line: &[u8]| match line.to_str() {
        Ok(name) if !name.contains(['/', '\0']) && !matches!(name, "." | "..") => Ok(name.to_owned()),
        _ => bail!("tables.list has a line that names no table: {}", line.as_bstr()),
    };
    let names = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(name);
    Ok((names.collect::<Result<_, _>>()?, Some(list)))
}

fn tables(directory: &Path, names: &[String], hash: gix_hash::Kind) -> anyhow::Result<Vec<Table>> {
    let mut memory = MEMORY_MAX;
    names.iter().map(|name| Table::open(&directory.join(name), hash, &mut memory)).collect()
}

/// Whether an error means that a file is missing or has been removed.
fn has_gone(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle))
}
