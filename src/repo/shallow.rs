//! The file `shallow`: the commits at which a repository's own history is cut (gitrepository-layout).
//!
//! In: commits. Out: those in the file; the file with more of them; for child processes, a file that has them before
//! `shallow` does. Commits are never removed here.

use super::Repository;
use super::lock::Lock;
use crate::durable::{self, Sharing};
use crate::hex;
use crate::odb::ids::IdSet;
use anyhow::{Context as _, bail};
use bstr::ByteSlice;
use gix_hash::ObjectId;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads the commits of the file, one a line; none if the file does not exist.
///
/// # Errors
/// When it cannot be read, or a line does not begin with an object name.
pub fn read(path: &Path, hash: gix_hash::Kind) -> anyhow::Result<Vec<ObjectId>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read '{}'", path.display()))),
    };
    let id = |line: &[u8]| hex::parse(line.get(..hash.len_in_hex())?);
    let read = |line: &[u8]| id(line).with_context(|| format!("bad shallow line: {}", line.escape_ascii()));
    text.lines().map(read).collect()
}

fn lines(commits: impl Iterator<Item = ObjectId>) -> String {
    let mut text = String::new();
    commits.for_each(|id| {
        let _ = writeln!(text, "{id}");
    });
    text
}

/// A shallow file for child processes, removed when dropped (SP-04).
#[derive(Debug)]
pub struct Announced(PathBuf);

impl Announced {
    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // If it cannot be removed, the journal still names it.
        let _ = durable::unlink(&self.0);
    }
}

/// Lets child processes started after this see that history is cut at these commits too, through GIT_SHALLOW_FILE.
///
/// # Errors
/// When the file cannot be written.
pub fn announce(repository: &Repository, more: &[ObjectId]) -> anyhow::Result<()> {
    let (path, mut file) = repository.refs.journal().temporary(Sharing::Umask)?;
    // Child processes run in other directories.
    let announced = Announced(std::path::absolute(path)?);
    let text = lines(repository.objects.shallow().iter().chain(more).copied());
    durable::write_all(&mut file, text.as_bytes())?;
    let _ = repository.shallow_file.set(announced);
    Ok(())
}

/// Cuts the repository's history at these commits too, waiting up to `timeout` for a lock that another process holds.
///
/// # Errors
/// When the lock is still held, or the disk refuses. Also when a commit has left the file since this request began, as
/// after a fetch that completed history, because then it is not known whether history must be cut.
pub fn add(repository: &Repository, more: &[ObjectId], timeout: Duration) -> anyhow::Result<()> {
    let path = repository.common_dir.join("shallow");
    let (journal, sharing) = (repository.refs.journal(), repository.settings.sharing);
    let lock = Lock::acquire(journal, path.with_extension("lock"), timeout, sharing).context("it cannot be locked")?;
    let Some(_lock) = lock else { bail!("shallow.lock is held by somebody else") };
    let mut commits = read(&path, repository.hash()).context("the file cannot be read")?;
    let before: IdSet = commits.iter().copied().collect();
    if !repository.objects.shallow().iter().all(|id| before.contains(id)) {
        bail!("shallow file has changed since we read it");
    }
    commits.extend(more.iter().filter(|id| !before.contains(*id)));
    let (fresh, mut file) = repository.refs.journal().temporary(repository.settings.sharing)?;
    let sync = repository.settings.fsync.reference;
    let replaced = durable::write_all(&mut file, lines(commits.into_iter()).as_bytes())
        .and_then(|()| if sync { durable::fsync(&file) } else { Ok(()) })
        .and_then(|()| durable::rename(&fresh, &path));
    if replaced.is_err() {
        // If it cannot be removed, the journal still names it.
        let _ = durable::unlink(&fresh);
    }
    replaced?;
    if sync {
        durable::fsync_directory(&repository.common_dir)?;
    }
    Ok(())
}
