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
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    share(path, sharing)?;
    Ok(file)
}

/// Writes all bytes.
///
/// # Errors
/// As `write(2)`.
pub fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(file, bytes)
}

/// Forces a file's content to the disk.
///
/// # Errors
/// As `fsync(2)`.
pub fn fsync(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// Forces a directory's entries to the disk.
///
/// # Errors
/// As `open(2)` and `fsync(2)`.
pub fn fsync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// As `rename(2)`.
///
/// # Errors
/// As `rename(2)`.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// As `link(2)`.
///
/// # Errors
/// As `link(2)`.
pub fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)
}

/// As `unlink(2)`.
///
/// # Errors
/// As `unlink(2)`.
pub fn unlink(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

/// Creates one directory.
///
/// # Errors
/// As `mkdir(2)`.
pub fn mkdir(path: &Path, sharing: Sharing) -> io::Result<()> {
    std::fs::create_dir(path)?;
    share(path, sharing)
}

/// Creates a directory and its missing parents below `root`, which exists.
///
/// # Errors
/// As `mkdir(2)`.
pub fn mkdir_all(root: &Path, path: &Path, sharing: Sharing) -> io::Result<()> {
    if path == root {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        mkdir_all(root, parent, sharing)?;
    }
    match mkdir(path, sharing) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// As `rmdir(2)`.
///
/// # Errors
/// As `rmdir(2)`.
pub fn rmdir(path: &Path) -> io::Result<()> {
    std::fs::remove_dir(path)
}

/// A name no other process uses: prefix, process and random part.
pub fn unique(prefix: &str) -> String {
    let mut random = [0; 8];
    let _ = rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty());
    format!("{prefix}{}-{:016x}", std::process::id(), u64::from_ne_bytes(random))
}

/// Applies `sharing` to a new file or directory.
fn share(path: &Path, sharing: Sharing) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let bits = match sharing {
        Sharing::Umask => return Ok(()),
        Sharing::Group => 0o660,
        Sharing::Everybody => 0o664,
        Sharing::Mode(bits) => bits,
    };
    let directory = std::fs::metadata(path)?.is_dir();
    let mode = if directory { bits | (bits & 0o444) >> 2 } else { bits };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
