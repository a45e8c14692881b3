//! The reftable of a new repository: one table, in which HEAD names a branch that is not born yet.
//!
//! In: a git directory that nobody uses yet. Out: the files in it that hold its refs, on the disk. What git programs that know no
//! reftables would take for refs is such that they refuse it.

use super::DIRECTORY;
use super::append::{list, table_name};
use super::record::{Ref, Value};
use super::stack::LIST;
use super::writer::TableWriter;
use crate::durable::{self, Sharing};
use crate::refs::transaction::TablePolicy;
use bstr::BStr;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What HEAD says for who looks there in vain: no branch can have that name.
const NO_HEAD: &str = "ref: refs/heads/.invalid\n";
/// Stands where others have their branches.
const NO_BRANCHES: &str = "this repository uses the reftable format\n";

/// git's defaults: what is made has no configuration yet.
const POLICY: TablePolicy = TablePolicy {
    lock_timeout: Duration::ZERO,
    block_size: 4096,
    restart_interval: 16,
    index_objects: true,
    geometric_factor: 2,
};

/// Makes the refs of a new repository whose HEAD names `branch`, and forces them to the disk.
///
/// # Errors
/// When the disk refuses.
pub(in crate::refs) fn create(git_dir: &Path, branch: &BStr, hash: gix_hash::Kind) -> anyhow::Result<()> {
    let range = (1, 1);
    let mut table = Vec::new();
    let mut out = |bytes: &[u8]| {
        table.extend_from_slice(bytes);
        Ok(())
    };
    let mut writer = TableWriter::new(&mut out, POLICY, hash, range);
    writer.add(b"HEAD", &Ref { index: 1, value: Value::Symbolic(branch.to_owned()) })?;
    writer.finish()?;
    let (refs, tables, name) = (git_dir.join("refs"), git_dir.join(DIRECTORY), table_name(range));
    durable::mkdir(&refs, Sharing::Umask)?;
    durable::mkdir(&tables, Sharing::Umask)?;
    write(&git_dir.join("HEAD"), NO_HEAD.as_bytes())?;
    write(&refs.join("heads"), NO_BRANCHES.as_bytes())?;
    write(&tables.join(&name), &table)?;
    write(&tables.join(LIST), &list([name.as_str()].into_iter()))?;
    durable::fsync_directory(&refs)?;
    Ok(durable::fsync_directory(&tables)?)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = durable::create(path, 0o666, Sharing::Umask)?;
    durable::write_all(&mut file, bytes)?;
    durable::fsync(&file)
}
