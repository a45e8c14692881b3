//! Files that replace others by one rename, under git's lock for them.
//!
//! In: content. Out: the file in its place, forced to disk. Until then it is in a directory that is removed if the
//! process dies.

use crate::durable::{self, Sharing, Sync};
use crate::odb::Objects;
use crate::pack::checksummed::Checksummed;
use crate::repo::Repository;
use crate::repo::lock::Lock;
use crate::repo::quarantine::Quarantine;
use anyhow::{Context as _, Result};
use gix_hash::ObjectId;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A directory for new files until they are complete. Files that replace others are forced to disk whatever core.fsync
/// says.
pub(super) fn directory(repository: &Repository, objects: &Objects) -> Result<Quarantine> {
    let journal = Some(repository.refs.journal().clone());
    Quarantine::before(objects, Vec::new(), journal, repository.settings.sharing, Sync::Each)
        .context("cannot make a directory for new files")
}

/// A file that is not in its place yet.
pub(super) struct Fresh {
    path: PathBuf,
    /// Removes itself, and the file if it was not put in its place.
    _directory: Quarantine,
}

impl Fresh {
    /// Lets `fill` write a file that ends with its hash, and forces it to disk. Returns the hash, too.
    pub(super) fn write(
        repository: &Repository,
        objects: &Objects,
        fill: impl FnOnce(&mut Checksummed<'_>) -> Result<ObjectId>,
    ) -> Result<(Self, ObjectId)> {
        let directory = directory(repository, objects)?;
        let path = directory.path().join("file");
        // Read-only, as git makes packs and the files beside them.
        let mut file = durable::create(&path, 0o444, repository.settings.sharing)?;
        let checksum = fill(&mut Checksummed::new(&mut file, repository.hash()))?;
        durable::fsync(&file)?;
        Ok((Fresh { path, _directory: directory }, checksum))
    }

    /// Puts the file in its place.
    pub(super) fn put(self, place: &Path) -> Result<()> {
        let put = || format!("cannot put '{}' in its place", place.display());
        durable::rename(&self.path, place).with_context(put)?;
        durable::fsync_directory(place.parent().unwrap_or(place)).with_context(put)
    }
}

/// Takes git's lock for a file. Returns `None` if another process holds it.
pub(super) fn lock(repository: &Repository, file: &Path, sharing: Sharing) -> Result<Option<Lock>> {
    let mut path = file.as_os_str().to_owned();
    path.push(".lock");
    Lock::acquire(repository.refs.journal(), path.into(), Duration::ZERO, sharing)
        .with_context(|| format!("cannot lock '{}'", file.display()))
}
