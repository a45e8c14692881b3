//! Removes what has become superfluous: packs and loose objects that are entirely in a new pack, and files of packs
//! that never had an index, or have lost it.
//!
//! In: the new pack, on disk and visible to everybody, and the packs that are known to be entirely in it. Out: the old
//! ones removed, index first, as git does; never a pack that was protected in the meantime.

use super::local;
use crate::durable;
use crate::listing::Listing;
use crate::odb::Pack;
use anyhow::{Context as _, Result};
use gix_hash::ObjectId;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// In git's order: a pack without an index does not count, and a new one of the same name may come once the pack itself
/// is removed.
const EXTENSIONS: [&str; 4] = ["idx", "pack", "rev", "bitmap"];

/// What is left of a pack if a process died after removing the index, or before putting it in place.
const REMAINS: [&str; 4] = ["pack", "rev", "bitmap", "mtimes"];
/// How many seconds such a file must not have been touched. A process that puts a pack in place adds the index a moment
/// later, but a copy of a repository may take hours in between.
const REMAINS_SECONDS_MIN: u64 = 24 * 3600;

/// Finds files of packs that have no index and will not get one, without those that are protected. A pack comes after
/// the files beside it.
pub(super) fn remains(directory: &Path, now: u64) -> Result<Vec<PathBuf>> {
    let folder = directory.join("pack");
    let reading = || format!("cannot read '{}'", folder.display());
    let entries = match Listing::open(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(reading)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.with_context(reading)?.name;
        let path = folder.join(&name);
        let is_of_a_pack = name.as_bytes().starts_with(b"pack-")
            && path.extension().is_some_and(|extension| REMAINS.iter().any(|remains| extension == *remains));
        if is_of_a_pack && is_given_up(&path, now) {
            found.push(path);
        }
    }
    found.sort_by_key(|path| path.extension().is_some_and(|extension| extension == "pack"));
    Ok(found)
}

/// Whether a pack file has been without an index for so long that none is to be expected. Renames and links count as
/// changes, although they leave the modification time as it was.
fn is_given_up(path: &Path, now: u64) -> bool {
    let is_old = |file: fs::Metadata| {
        let touched = u64::try_from(file.mtime().max(file.ctime())).unwrap_or(u64::MAX);
        now.saturating_sub(touched) > REMAINS_SECONDS_MIN
    };
    let is_somebodys = |extension| path.with_extension(extension).exists();
    fs::symlink_metadata(path).is_ok_and(is_old) && !["idx", "keep", "promisor"].into_iter().any(is_somebodys)
}

/// Removes such files, checking each again. Returns how many were removed.
pub(super) fn remove_remains(found: &[PathBuf], now: u64) -> Result<usize> {
    let mut removed = 0;
    for path in found.iter().filter(|path| is_given_up(path, now)) {
        removed += usize::from(remove(path)?);
    }
    Ok(removed)
}

/// Removes packs. Returns how many.
pub(super) fn packs(made: &Pack, old: &[Arc<Pack>]) -> Result<usize> {
    let mut removed = 0;
    for pack in old {
        if pack.path().file_name() == made.path().file_name() || !local::is_free(pack.path()) {
            continue;
        }
        for extension in EXTENSIONS {
            remove(&pack.path().with_extension(extension))?;
        }
        removed += 1;
    }
    Ok(removed)
}

/// Removes loose objects. Returns how many.
pub(super) fn loose(made: &Pack, directory: &Path, ids: &[ObjectId]) -> Result<usize> {
    let mut removed = 0;
    for id in ids.iter().filter(|id| made.position(id).is_some()) {
        let hex = id.to_string();
        let folder = directory.join(&hex[..2]);
        if remove(&folder.join(&hex[2..]))? {
            removed += 1;
        }
        // Fails if other objects are there. As in git, a process that adds an object makes the directory again.
        let _ = durable::rmdir(&folder);
    }
    Ok(removed)
}

/// Removes a file. Returns whether it existed.
fn remove(path: &Path) -> Result<bool> {
    match durable::unlink(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove '{}'", path.display())),
    }
}
