//! The disk usage of objects.
//!
//! In: an object directory. Out: bytes. No file is opened, and quarantines of other pushes do not count.

use crate::listing::Listing;
use rustix::fs::FileType;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Directories deeper than this are ignored; objects are not stored there.
const DEPTH_MAX: u32 = 4;

/// The total size of all files below. Files that vanish meanwhile do not count.
///
/// # Errors
/// When a directory cannot be read.
pub fn disk_usage(directory: &Path) -> io::Result<u64> {
    below(directory, 0)
}

fn below(directory: &Path, depth: u32) -> io::Result<u64> {
    let listing = match Listing::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        listing => listing?,
    };
    let mut bytes = 0_u64;
    for entry in listing {
        let entry = entry?;
        let path = directory.join(&entry.name);
        let more = match entry.kind {
            FileType::Directory if entry.name.as_bytes().starts_with(b"tmp_objdir-") || depth == DEPTH_MAX => 0,
            FileType::Directory => below(&path, depth + 1)?,
            FileType::RegularFile => fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len()),
            _ => 0,
        };
        bytes = bytes.saturating_add(more);
    }
    Ok(bytes)
}
