//! The only module that changes the disk: create, write, rename, link, unlink, mkdir, rmdir, fsync.
//!
//! Every operation passes a named fail point, which only builds with the feature `failpoints` have.
//! Nothing here knows what the files mean.

use std::fs::File;
use std::io;
use std::path::Path;

/// How much is forced to the disk: `core.fsync` and `core.fsyncMethod`, already decided for one kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// Forced before the call returns.
    #[default]
    Now,
    /// Left to the kernel.
    Never,
}

/// Modes of new files and directories: `core.sharedRepository` on top of the umask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// As the umask says.
    #[default]
    Umask,
    /// Readable and writable for the group, directories set-gid.
    Group,
    /// The same, and readable for everybody.
    Everybody,
    /// Exactly these permission bits for files (octal in the configuration).
    Mode(u32),
}

/// Creates a file that must not exist yet (`O_EXCL`), `mode` before umask and sharing.
///
/// # Errors
/// As `open(2)`.
pub fn create(path: &Path, mode: u32, sharing: Sharing) -> io::Result<File> {
    let _ = (path, mode, sharing);
    unimplemented!()
}

/// Writes all bytes.
///
/// # Errors
/// As `write(2)`.
pub fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let _ = (file, bytes);
    unimplemented!()
}

/// Forces a file's content to the disk.
///
/// # Errors
/// As `fsync(2)`.
pub fn fsync(file: &File) -> io::Result<()> {
    let _ = file;
    unimplemented!()
}

/// Forces a directory's entries to the disk.
///
/// # Errors
/// As `open(2)` and `fsync(2)`.
pub fn fsync_directory(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}

/// As `rename(2)`.
///
/// # Errors
/// As `rename(2)`.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let _ = (from, to);
    unimplemented!()
}

/// As `link(2)`.
///
/// # Errors
/// As `link(2)`.
pub fn link(from: &Path, to: &Path) -> io::Result<()> {
    let _ = (from, to);
    unimplemented!()
}

/// As `unlink(2)`.
///
/// # Errors
/// As `unlink(2)`.
pub fn unlink(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}

/// Creates one directory.
///
/// # Errors
/// As `mkdir(2)`.
pub fn mkdir(path: &Path, sharing: Sharing) -> io::Result<()> {
    let _ = (path, sharing);
    unimplemented!()
}

/// Creates a directory and its missing parents below `root`, which exists.
///
/// # Errors
/// As `mkdir(2)`.
pub fn mkdir_all(root: &Path, path: &Path, sharing: Sharing) -> io::Result<()> {
    let _ = (root, path, sharing);
    unimplemented!()
}

/// As `rmdir(2)`.
///
/// # Errors
/// As `rmdir(2)`.
pub fn rmdir(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}

/// A name no other process uses: prefix, process and random part.
pub fn unique(prefix: &str) -> String {
    let _ = prefix;
    unimplemented!()
}
