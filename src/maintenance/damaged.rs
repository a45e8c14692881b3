//! What can be made again, and does not match its checksum: it goes before anything is read from it. Who believed it would hand on what is
//! wrong: a commit-graph with a wrong parent makes bitmaps that leave out history, and have a good checksum of their own.
//!
//! In: an object directory. Out: it, without damaged commit-graphs, bitmaps and reverse indexes. Packs, their indexes and what tells of
//! several of them are not looked at here.

use crate::durable;
use crate::listing::{Listed, Listing};
use crate::odb;
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where such files are, below the object directory.
const FOLDERS: [&str; 4] = ["info", "info/commit-graphs", "pack", "pack/multi-pack-index.d"];
/// A commit-graph that is one file.
const GRAPH: &str = "commit-graph";
/// What belongs to several packs begins with this.
const MIDX: &[u8] = b"multi-pack-index-";

/// Whether it is certain that a file does not match its checksum. Who may not read it does not know.
fn is_damaged(path: &Path, hash: gix_hash::Kind) -> bool {
    odb::matches_its_checksum(path, hash)
        .map_or_else(|error| error.kind() == ErrorKind::InvalidData, |matches| !matches)
}

/// The damaged files. Each byte of all that could be is looked at.
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
                // What belongs to no pack, or not yet, is none of this.
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

/// Removes them; returns how many there were.
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
