//! The packs of a repository's own object directory, and whether they must be left alone.
//!
//! In: an object database. Out: its packs at one moment, without those of alternates. Nothing is changed.

use crate::odb::{Objects, Pack};
use anyhow::{Context as _, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files beside a pack that reserve it: kept on purpose, from a promisor, or of unreachable objects that will expire.
const RESERVED: [&str; 3] = ["keep", "promisor", "mtimes"];

/// The repository's own object directory.
pub(super) fn directory(objects: &Objects) -> Result<PathBuf> {
    let directory = objects.directories()?.into_iter().next().context("there is no object directory")?;
    std::path::absolute(directory).context("finding the object directory")
}

/// Its packs, the one with the most objects first. A pack whose name does not begin with `pack-` is left out: a git
/// repack is about to rename it.
pub(super) fn packs(objects: &Objects) -> Result<Vec<Arc<Pack>>> {
    let folder = objects.directories()?.into_iter().next().context("there is no object directory")?.join("pack");
    let packs = objects.packs(true)?.into_iter().map(|id| objects.pack(id));
    let is_named = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"pack-"));
    // An open pack is still listed after its file is removed.
    let is_there = |path: &Path| path.parent() == Some(&folder) && is_named(path) && path.exists();
    let mut packs: Vec<Arc<Pack>> = packs.filter(|pack| is_there(pack.path())).collect();
    packs.sort_by(|one, other| (other.len(), one.path()).cmp(&(one.len(), other.path())));
    Ok(packs)
}

/// Finds the pack at a path in an object database that has just been opened.
pub(super) fn find(objects: &Objects, path: &Path) -> Result<Arc<Pack>> {
    let found = packs(objects)?.into_iter().find(|pack| pack.path().file_name() == path.file_name());
    found.with_context(|| format!("'{}' cannot be opened", path.display()))
}

/// Whether a pack may be replaced by another one.
pub(super) fn is_free(pack: &Path) -> bool {
    RESERVED.iter().all(|extension| !pack.with_extension(extension).exists())
}
