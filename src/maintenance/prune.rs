//! What has become superfluous goes: packs and loose objects of which everything is in a new pack.
//!
//! In: the new pack, on the disk and seen by everybody, and the packs that were found to be in it whole. Out: old ones removed, index
//! first, as git does it; but no pack that somebody has put under protection meanwhile.

use super::local;
use crate::durable;
use crate::odb::Pack;
use anyhow::{Context as _, Result};
use gix_hash::ObjectId;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// In git's order: a pack without an index is none, and a new one of this name may come once the pack itself has gone.
const EXTENSIONS: [&str; 4] = ["idx", "pack", "rev", "bitmap"];

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
