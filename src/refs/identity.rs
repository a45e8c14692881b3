//! Tells whether a name still leads to the same file, for files that are only ever replaced by renames.
//!
//! In: a path, or an open file's metadata. Out: a value to compare. The file's content is never read.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identifies the file a name led to: if two are equal, the file was not replaced in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity([i64; 4], [u64; 3]);

impl Identity {
    /// The identity of an open file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Identity(
            [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()],
            [metadata.dev(), metadata.ino(), metadata.size()],
        )
    }

    /// The identity of the file that has the name now; `None` if there is none.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Identity::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
