//! The packs and loose objects of a repository's own object directory, and who says that they are to be left alone.
//!
//! In: an object database. Out: its packs of one moment, those of alternates left out. Nothing is changed.

use crate::odb::{Objects, Pack};
use anyhow::{Context as _, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files beside a pack that make it somebody's: kept for a reason, from a promisor, of objects on their way out.
const RESERVED: [&str; 3] = ["keep", "promisor", "mtimes"];

/// The object directory that is the repository's own.
pub(super) fn directory(objects: &Objects) -> Result<PathBuf> {
    let directory = objects.directories()?.into_iter().next().context("there is no object directory")?;
    std::path::absolute(directory).context("finding the object directory")
}

/// Its packs, the one with the most objects first. One of another name than packs have is about to get that, from a repack of git's.
pub(super) fn packs(objects: &Objects) -> Result<Vec<Arc<Pack>>> {
    let folder = objects.directories()?.into_iter().next().context("there is no object directory")?.join("pack");
    let packs = objects.packs(true)?.into_iter().map(|id| objects.pack(id));
    let is_named = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"pack-"));
    // A pack that is open is still known when its name is gone.
    let is_there = |path: &Path| path.parent() == Some(&folder) && is_named(path) && path.exists();
    let mut packs: Vec<Arc<Pack>> = packs.filter(|pack| is_there(pack.path())).collect();
    packs.sort_by(|one, other| (other.len(), one.path()).cmp(&(one.len(), other.path())));
    Ok(packs)
}

/// The pack at a path, as an object database that has just been opened finds it.
pub(super) fn find(objects: &Objects, path: &Path) -> Result<Arc<Pack>> {
    let found = packs(objects)?.into_iter().find(|pack| pack.path().file_name() == path.file_name());
    found.with_context(|| format!("'{}' cannot be opened", path.display()))
}

/// Whether a pack may be replaced by another one.
pub(super) fn is_free(pack: &Path) -> bool {
    RESERVED.iter().all(|extension| !pack.with_extension(extension).exists())
}
