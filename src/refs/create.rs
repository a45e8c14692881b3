//! The refs of a new repository: HEAD, which names a branch that is not born yet.
//!
//! In: a git directory that nobody uses yet. Out: the files in it that hold its refs, on the disk.

use super::{Format, reftable};
use crate::durable::{self, Sharing};
use bstr::BStr;
use std::path::Path;

/// Makes the refs of a new repository whose HEAD names `branch`, and forces them to the disk; the caller forces the git directory's
/// own entries there.
///
/// # Errors
/// When the disk refuses.
pub fn create(git_dir: &Path, format: Format, branch: &BStr, hash: gix_hash::Kind) -> anyhow::Result<()> {
    if format == Format::Reftable {
        return reftable::create(git_dir, branch, hash);
    }
    let directories = ["refs", "refs/heads", "refs/tags"].map(|name| git_dir.join(name));
    for directory in &directories {
        durable::mkdir(directory, Sharing::Umask)?;
    }
    let mut head = durable::create(&git_dir.join("HEAD"), 0o666, Sharing::Umask)?;
    durable::write_all(&mut head, &[&b"ref: "[..], branch, b"\n"].concat())?;
    durable::fsync(&head)?;
    for directory in directories.iter().rev() {
        durable::fsync_directory(directory)?;
    }
    Ok(())
}
