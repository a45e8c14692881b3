//! Removes files that can be made again and do not match their checksum, before anything is read from them. Otherwise
//! their errors would spread: a commit-graph with a wrong parent leads to bitmaps that leave out history but have a
//! valid checksum.
//!
//! In: an object directory. Out: the same without damaged commit-graphs, bitmaps and reverse indexes. Packs, their
//! indexes and multi-pack-indexes are never checked here.

use crate::durable;
use crate::listing::{Listed, Listing};
use crate::odb;
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directories of such files, below the object directory.
const FOLDERS: [&str; 4] = ["info", "info/commit-graphs", "pack", "pack/multi-pack-index.d"];
/// A commit-graph in one file.
const GRAPH: &str = "commit-graph";
/// The prefix of files that belong to a multi-pack-index.
const MIDX: &[u8] = b"multi-pack-index-";

/// Whether a file certainly does not match its checksum. A file that cannot be read does not count.
fn is_damaged(path: &Path, hash: gix_hash::Kind) -> bool {
    odb::matches_its_checksum(path, hash)
        .map_or_else(|error| error.kind() == ErrorKind::InvalidData, |matches| !matches)
}

/// Finds the damaged files. Reads every byte of all that might be.
pub(super) fn find(directory: &Path, hash: gix_hash::Kind) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in FOLDERS.map(|folder| directory.join(folder)) {
        let entries = match Listing::open(&folder) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            entries => entries.with_context(|| format!("cannot read '{}'", folder.display()))?,
        };
        for entry in entries {
            let Listed { name, .. } = entry?;
            let path = folder.join(&name);
            let is_one = match path.extension().and_then(OsStr::to_str) {
                None => name == GRAPH,
                Some("graph") => true,
                // Files that belong to no pack, or not yet, are ignored.
                Some("bitmap" | "rev") => name.as_bytes().starts_with(MIDX) || path.with_extension("idx").exists(),
                Some(_) => false,
            };
            if is_one && path.is_file() && is_damaged(&path, hash) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Removes the damaged files, and returns how many there were.
pub(super) fn remove(directory: &Path, hash: gix_hash::Kind) -> Result<usize> {
    let found = find(directory, hash)?;
    for path in &found {
        match durable::unlink(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.with_context(|| format!("cannot remove '{}', which is damaged", path.display()))?,
        }
    }
    Ok(found.len())
}
