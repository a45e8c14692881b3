//! The reftable of a new repository: one table, in which HEAD points to an unborn branch.
//!
//! In: the git directory of a repository that is not in use yet. Out: the files that store its refs, on disk. Git
//! programs without reftable support find placeholders that make them refuse the repository; they never see wrong refs.

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

/// The content of the file HEAD, for programs without reftable support: a branch name that cannot exist.
const NO_HEAD: &str = "ref: refs/heads/.invalid\n";
/// A file in place of the directory of branches.
const NO_BRANCHES: &str = "this repository uses the reftable format\n";

/// git's defaults, because a new repository has no configuration yet.
const POLICY: TablePolicy = TablePolicy {
    lock_timeout: Duration::ZERO,
    block_size: 4096,
    restart_interval: 16,
    index_objects: true,
    geometric_factor: 2,
};

/// Creates the refs of a new repository whose HEAD points to `branch`, and forces them to disk.
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
