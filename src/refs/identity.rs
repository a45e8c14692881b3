//! Which file stands under a name: one that is replaced by renames only.
//!
//! In: a path, or an open file's metadata. Out: a value to compare. Nothing is read of the file itself.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which file a name led to: when two are equal, nobody has replaced it in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity([i64; 4], [u64; 3]);

impl Identity {
    /// Of an open file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Identity(
            [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()],
            [metadata.dev(), metadata.ino(), metadata.size()],
        )
    }

    /// The file of that name now; `None` where there is none.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Identity::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
