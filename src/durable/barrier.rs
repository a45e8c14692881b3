//! In which order the disk gets to know of things.
//!
//! In: what a name that changes next will rely on. Out: no loss of power leaves that change without it.

use super::{Sync, fail_point, files_of_one_file_system, fsync_all};
use rustix::fs::{major, minor, statfs};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// How many files are open at once.
const OPEN_MAX: usize = 64;
/// Since this version of Linux one call of sync_file_range(2) can promise that all was written; before, it might skip pages.
const LINUX_MIN: (u32, u32) = (5, 2);

/// A barrier: a name that is changed from here on (rename, link, unlink) is not on the disk before the content of these files
/// and the entries of these directories. Directories stand before files.
///
/// Where the file system notes all changes of names in one journal, in the order in which they were made, nothing is waited for but that contents
/// are written out: the next [`fsync_directory`](super::fsync_directory) waits for everything at once. Anywhere else, and where each
/// file is to be forced by itself, this is [`fsync_all`].
///
/// # Errors
/// As [`fsync_all`].
pub fn barrier(paths: &[PathBuf], sync: Sync) -> io::Result<()> {
    let Some(first) = paths.first().filter(|_| sync == Sync::Now) else { return fsync_all(paths, sync) };
    if !keeps_order(first) {
        return fsync_all(paths, sync);
    }
    match files_of_one_file_system(paths) {
        Some(files) => write_out(&files).or_else(|error| match error.kind() {
            // Sandboxes do not know every call.
            io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => fsync_all(paths, sync),
            _ => Err(error),
        }),
        None => fsync_all(paths, sync),
    }
}

/// Whether what was done first to the names of this file system is on its disk first, and written contents before what was done later.
///
/// Of ext4 with its journal and of XFS that is known. btrfs may note one change of a name before earlier ones, where somebody forces that
/// file alone.
fn keeps_order(path: &Path) -> bool {
    #[cfg(feature = "failpoints")]
    if let Some(told) = super::failpoints::keeps_order(path) {
        return told;
    }
    let known = match statfs(path).map(|found| found.f_type) {
        // XFS, which always has a journal.
        Ok(0x5846_5342) => true,
        // ext2, ext3 and ext4, of which some have one.
        Ok(0xef53) => has_journal(path).unwrap_or(false),
        _ => false,
    };
    known && is_linux_from(LINUX_MIN, rustix::system::uname().release().to_bytes())
}

/// Whether ext4 keeps a journal on the disk that `path` is on: where it does, the kernel lists it by the disk's name and the journal's
/// inode, 8. One on a disk of its own has another name, and is not relied on.
fn has_journal(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(path)?.dev();
    let disk = fs::read_link(format!("/sys/dev/block/{}:{}", major(device), minor(device)))?;
    let Some(name) = disk.file_name().and_then(|name| name.to_str()) else { return Ok(false) };
    Ok(Path::new(&format!("/proc/fs/jbd2/{name}-8")).is_dir())
}

fn is_linux_from(min: (u32, u32), release: &[u8]) -> bool {
    let mut numbers = release.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        digits.parse::<u32>().ok()
    });
    let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
    matches!((major, minor), (Some(major), Some(minor)) if (major, minor) >= min)
}

/// Writes contents to the disk and waits until it has them, be it in its own cache: whoever forces a name to the disk empties that.
fn write_out(files: &[&Path]) -> io::Result<()> {
    for some in files.chunks(OPEN_MAX) {
        let begin = |path: &&Path| {
            fail_point("write_out", path)?;
            let file = File::open(path)?;
            sync_file_range(&file, libc::SYNC_FILE_RANGE_WRITE)?;
            Ok(file)
        };
        // All are under way before the first is waited for.
        let files = some.iter().map(begin).collect::<io::Result<Vec<File>>>()?;
        let whole = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        files.iter().try_for_each(|file| sync_file_range(file, whole))?;
    }
    Ok(())
}

/// As `sync_file_range(2)` of a whole file.
fn sync_file_range(file: &File, flags: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is, and no memory is handed over.
    #[allow(unsafe_code, reason = "no crate has a safe call for this")]
    match unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_linux_are_understood() {
        let check = |release: &str, expected: bool| {
            assert_eq!(is_linux_from((5, 2), release.as_bytes()), expected, "{release}");
        };
        check("5.2.0", true);
        check("5.2", true);
        check("5.10.0-21-amd64", true);
        check("6.1-rc3", true);
        check("5.1.21", false);
        check("4.18.0-553.el8_10.x86_64", false);
        check("", false);
        check("linux", false);
        check("99999999999.1", false);
    }

    #[test]
    fn contents_are_written_out_and_what_is_missing_is_an_error() {
        let directory = std::env::temp_dir().join(super::super::unique("barrier-"));
        fs::create_dir(&directory).unwrap();
        let mut paths = Vec::new();
        for n in 0..OPEN_MAX + 3 {
            paths.push(directory.join(n.to_string()));
            fs::write(&paths[n], "content").unwrap();
        }
        let files: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        write_out(&files).unwrap();
        for sync in [Sync::Now, Sync::Each, Sync::Never] {
            barrier(&[], sync).unwrap();
            barrier(&paths, sync).unwrap();
        }
        let missing = directory.join("missing");
        assert_eq!(write_out(&[&missing]).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_file_system_without_a_journal_keeps_no_order() {
        for path in ["/proc", "/sys", "/dev", "/nowhere"] {
            assert!(!keeps_order(Path::new(path)), "{path}");
        }
    }
}
