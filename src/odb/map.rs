//! Maps files: the only place in this layer that needs `unsafe`.
//!
//! In: an open file. Out: its bytes. They are not interpreted here.

#![allow(unsafe_code)]

use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::path::Path;

/// Whether a file ends in the hash of everything before it, as commit-graphs, bitmaps and reverse indexes do.
///
/// # Errors
/// As `open(2)` and `mmap(2)`; `InvalidData` for an empty file.
pub fn matches_its_checksum(path: &Path, hash: gix_hash::Kind) -> io::Result<bool> {
    Ok(super::bitmap::is_sound(&map(&File::open(path)?)?, hash))
}

/// Maps a whole file for reading.
///
/// # Errors
/// As `mmap(2)`; `InvalidData` for an empty file, `FileTooLarge` for one beyond the address space.
pub(super) fn map(file: &File) -> io::Result<Mmap> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
    }
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: packs, indexes and commit-graphs are written under temporary names and never change once they have their
    // own. If one is truncated in place, SIGBUS ends this process, as it ends git. The map is private and read-only,
    // and the slice made from it is only read as bytes, for which every bit pattern is valid.
    unsafe { MmapOptions::new().len(length).map_copy_read_only(file) }
}
