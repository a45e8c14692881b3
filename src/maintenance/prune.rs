//! What has become superfluous goes: packs and loose objects of which everything is in a new pack, and files of packs that never had an
//! index, or have lost it.
//!
//! In: the new pack, on the disk and seen by everybody, and the packs that were found to be in it whole. Out: old ones removed, index
//! first, as git does it; but no pack that somebody has put under protection meanwhile.

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

/// In git's order: a pack without an index is none, and a new one of this name may come once the pack itself has gone.
const EXTENSIONS: [&str; 4] = ["idx", "pack", "rev", "bitmap"];

/// What is left of a pack where a process died between removing its index and the rest, or before the index was put in its place.
const REMAINS: [&str; 4] = ["pack", "rev", "bitmap", "mtimes"];
/// So many seconds nothing may have happened to such a file. Whoever puts a pack in its place puts the index there in the next moment; whoever
/// copies a repository may need hours in between.
const REMAINS_SECONDS_MIN: u64 = 24 * 3600;

/// Files of packs that have no index and will get none; those that somebody protects are left out. A pack comes after what stands beside it.
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

/// Whether a file of a pack has been without an index for so long that nobody is about to put one there. A rename and a link count, which
/// leave the time of the content as it was.
fn is_given_up(path: &Path, now: u64) -> bool {
    let is_old = |file: fs::Metadata| {
        let touched = u64::try_from(file.mtime().max(file.ctime())).unwrap_or(u64::MAX);
        now.saturating_sub(touched) > REMAINS_SECONDS_MIN
    };
    let is_somebodys = |extension| path.with_extension(extension).exists();
    fs::symlink_metadata(path).is_ok_and(is_old) && !["idx", "keep", "promisor"].into_iter().any(is_somebodys)
}

/// Removes such files, each looked at again; returns how many.
pub(super) fn remove_remains(found: &[PathBuf], now: u64) -> Result<usize> {
    let mut removed = 0;
    for path in found.iter().filter(|path| is_given_up(path, now)) {
        removed += usize::from(remove(path)?);
    }
    Ok(removed)
}

/// Removes packs; returns how many.
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

/// Removes loose objects; returns how many.
pub(super) fn loose(made: &Pack, directory: &Path, ids: &[ObjectId]) -> Result<usize> {
    let mut removed = 0;
    for id in ids.iter().filter(|id| made.position(id).is_some()) {
        let hex = id.to_string();
        let folder = directory.join(&hex[..2]);
        if remove(&folder.join(&hex[2..]))? {
            removed += 1;
        }
        // Not where others lie there; who is about to put one there makes the directory again, as with git.
        let _ = durable::rmdir(&folder);
    }
    Ok(removed)
}

/// Whether there was such a file.
fn remove(path: &Path) -> Result<bool> {
    match durable::unlink(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove '{}'", path.display())),
    }
}
