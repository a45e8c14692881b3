//! The refs of a new repository: HEAD, which points to an unborn branch.
//!
//! In: the git directory of a repository that is not in use yet. Out: the files that store its refs, on disk. Existing
//! refs are never touched.

use super::{Format, reftable};
use crate::durable::{self, Sharing};
use bstr::BStr;
use std::path::Path;

/// Creates the refs of a new repository whose HEAD points to `branch`, and forces them to disk. The caller forces the
/// entries of the git directory itself.
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
