//! A stack of tables: `tables.list` names them, the oldest first (reftable, «Readers»).
//!
//! In: a directory. Out: its tables of one moment, opened. A table that is missing was compacted away between two looks: the list is
//! read again. Nothing is waited for but that.

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

/// The list of a directory.
pub(super) const LIST: &str = "tables.list";
/// No list is longer: ten thousands of tables, which git would have made one long before.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// The most bytes of small tables held in memory; those beyond are kept open instead.
const MEMORY_MAX: u64 = 16 << 20;
/// How often the list is read anew because tables had gone. Each round needs somebody who compacted in just that moment.
const ROUNDS_MAX: u32 = 64;

/// The tables of one moment.
#[derive(Debug)]
pub(super) struct Stack {
    /// The oldest first.
    tables: Vec<Table>,
    list: Option<ListFile>,
}

/// Which file a list was read from. It stays open, so that no other one can be taken for it.
#[derive(Debug)]
struct ListFile {
    _open: File,
    identity: Identity,
}

impl Stack {
    /// Opens the tables that `directory` lists now; none where it lists none.
    pub(super) fn open(directory: &Path, hash: gix_hash::Kind) -> anyhow::Result<Self> {
        let mut before = None;
        for round in 0..ROUNDS_MAX {
            let (names, list) = read_list(directory)?;
            match tables(directory, &names, hash) {
                Ok(tables) => return Ok(Stack { tables, list }),
                // Still the same list: nobody replaces what is missing.
                Err(error) if !has_gone(&error) || before.as_ref() == Some(&names) => return Err(error),
                Err(_) => before = Some(names),
            }
            std::thread::sleep(Duration::from_millis(round.into()));
        }
        bail!("the tables of '{}' change faster than they can be opened", directory.display());
    }

    /// Whether these are still the tables of `directory`.
    pub(super) fn is_current(&self, directory: &Path) -> anyhow::Result<bool> {
        let now = Identity::at(&directory.join(LIST)).context("reading tables.list")?;
        Ok(now == self.list.as_ref().map(|list| list.identity))
    }

    /// What the newest table that says something of a ref says; `None`: there is no such ref.
    pub(super) fn find(&self, name: &[u8]) -> anyhow::Result<Option<Value>> {
        for table in self.tables.iter().rev() {
            if let Some(value) = table.find(name)? {
                return Ok(Some(value).filter(|value| *value != Value::Deleted));
            }
        }
        Ok(None)
    }

    /// All refs, what is newest of each. It begins before the first.
    pub(super) fn refs(&self) -> Merged<'_, Ref> {
        Merged::new(self.tables.iter().map(Table::refs).collect())
    }

    /// All lines of logs. It begins before the first.
    pub(super) fn logs(&self) -> Merged<'_, Log> {
        Merged::new(self.tables.iter().filter(|table| table.has_logs()).map(Table::logs).collect())
    }

    /// The tables, the oldest first.
    pub(super) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The number of the next transaction.
    pub(super) fn next_index(&self) -> anyhow::Result<u64> {
        let last = self.tables.last().map_or(0, |table| table.range().1);
        last.checked_add(1).context("there is no number for another transaction")
    }
}

/// The names in the list, and which file it is; none where there is no list.
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

/// Whether a file was not there, or is no more.
fn has_gone(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle))
}
