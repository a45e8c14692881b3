//! The order in which changes reach the disk.
//!
//! In: what the next change of a name relies on. Out: no power loss leaves that change on disk without it. No change of
//! a name is ever made here.

use super::{EXT, Sync, XFS, fail_point, files_of_one_file_system, fsync_all};
use rustix::fs::{major, minor, statfs};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many files are open at once.
const OPEN_MAX: usize = 64;
/// From this version of Linux on one call of sync_file_range(2) can promise that everything was written; before, it
/// might skip pages.
const LINUX_MIN: (u32, u32) = (5, 2);

/// A barrier: no name changed in `next` from here on (rename, link, unlink) is on disk before the content of these
/// files and the entries of these directories. Files of the same directory should be adjacent.
///
/// If the file system records all changes of names in one journal, in the order in which they were made, it is enough
/// to write out the contents: they are durable with the next [`fsync_directory`](super::fsync_directory) of a directory
/// of the same file system in which a name has changed since, such as `next`. On other file systems, and with
/// [`Sync::Each`], this is [`fsync_all`].
///
/// # Errors
/// As [`fsync_all`].
pub fn barrier(paths: &[PathBuf], next: &Path, sync: Sync) -> io::Result<()> {
    if paths.is_empty() || sync != Sync::Together || !keeps_order(next) {
        return fsync_all(paths, sync);
    }
    match files_of_one_file_system(paths, Some(next)) {
        Some(files) if write_out(&files)? => Ok(()),
        Some(_) | None => fsync_all(paths, sync),
    }
}

/// Whether earlier changes of names on this file system reach its disk before later ones, and written contents before
/// later changes of names.
///
/// This is known of ext4 with its journal, and of XFS. btrfs may record a change of a name before earlier ones if that
/// file alone is forced to disk.
fn keeps_order(path: &Path) -> bool {
    #[cfg(feature = "failpoints")]
    if let Some(told) = super::failpoints::keeps_order(path) {
        return told;
    }
    let journal = match statfs(path).map(|found| found.f_type as u32) {
        Ok(EXT) => disk_of(path).and_then(|disk| has_ext4_journal(&disk)),
        Ok(XFS) => disk_of(path).and_then(|disk| has_xfs_journal(&disk)),
        Ok(_) | Err(_) => Ok(false),
    };
    journal.unwrap_or(false) && is_linux_from(LINUX_MIN)
}

/// A disk of this machine.
struct Disk {
    /// `<major>:<minor>`.
    number: String,
    /// The kernel's name for it below /proc and /sys.
    name: String,
}

/// The disk of a path; an error if the file system is on another machine.
fn disk_of(path: &Path) -> io::Result<Disk> {
    let device = fs::metadata(path)?.dev();
    let number = format!("{}:{}", major(device), minor(device));
    let link = fs::read_link(format!("/sys/dev/block/{number}"))?;
    let name = link.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidData)?.to_owned();
    Ok(Disk { number, name })
}

/// Whether ext4 keeps a journal on that disk. If so, the kernel lists it by the disk's name and the journal's inode, 8.
/// A journal on a disk of its own has another name and is not relied on; nor is one that may be committed before
/// earlier data (`journal_async_commit`).
fn has_ext4_journal(disk: &Disk) -> io::Result<bool> {
    let listed = Path::new(&format!("/proc/fs/jbd2/{}-8", disk.name)).is_dir();
    Ok(listed && !fs::read_to_string(format!("/proc/fs/ext4/{}/options", disk.name))?.contains("journal_async_commit"))
}

/// Whether XFS keeps all of its files on that disk: forcing a name flushes the cache of this disk alone.
fn has_xfs_journal(disk: &Disk) -> io::Result<bool> {
    Ok(is_xfs_alone(&fs::read_to_string("/proc/self/mountinfo")?, &disk.number))
}

/// Whether a disk is mounted as XFS without a separate one for files (proc(5), mountinfo).
fn is_xfs_alone(mounts: &str, number: &str) -> bool {
    let mut mounts = mounts.lines().filter(|line| line.split(' ').nth(2) == Some(number)).peekable();
    mounts.peek().is_some()
        && mounts.all(|line| {
            line.split_once(" - xfs ").is_some_and(|(_, source_and_options)| !source_and_options.contains("rtdev="))
        })
}

/// Whether the kernel has this version or a later one.
pub(super) fn is_linux_from(min: (u32, u32)) -> bool {
    is_release_from(min, rustix::system::uname().release().to_bytes())
}

fn is_release_from(min: (u32, u32), release: &[u8]) -> bool {
    let mut numbers = release.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        digits.parse::<u32>().ok()
    });
    let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
    matches!((major, minor), (Some(major), Some(minor)) if (major, minor) >= min)
}

/// Writes contents to the disk and waits until the disk has them, if only in its cache, which the journal flushes
/// before it records that a name has changed. `false` if the system does not support this, as in some sandboxes;
/// nothing was done then. An error of the disk is reported once per file, so it must not be mistaken for missing
/// support.
pub(super) fn write_out(files: &[&Path]) -> io::Result<bool> {
    for some in files.chunks(OPEN_MAX) {
        let open = |path: &&Path| {
            fail_point("write_out", path)?;
            File::open(path)
        };
        let files = some.iter().map(open).collect::<io::Result<Vec<File>>>()?;
        if files.first().is_some_and(|file| sync_file_range(file, 0).is_err()) {
            return Ok(false);
        }
        // Writing is started for all files before the first is waited for.
        files.iter().try_for_each(|file| sync_file_range(file, libc::SYNC_FILE_RANGE_WRITE))?;
        let whole = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        files.iter().try_for_each(|file| sync_file_range(file, whole))?;
    }
    Ok(true)
}

/// Calls `sync_file_range(2)` on a whole file.
fn sync_file_range(file: &File, flags: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is, and no memory is passed.
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
            assert_eq!(is_release_from((5, 2), release.as_bytes()), expected, "{release}");
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
        assert!(is_release_from((5, 8), b"5.8.0-rc1") && !is_release_from((5, 8), b"5.7.19"));
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
        for sync in [Sync::Together, Sync::Each, Sync::Never] {
            barrier(&[], &directory, sync).unwrap();
            barrier(&paths, &directory, sync).unwrap();
        }
        let missing = directory.join("missing");
        assert_eq!(write_out(&[&missing]).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn xfs_is_known_from_the_list_of_mounts() {
        let check = |mounts: &str, expected: bool| assert_eq!(is_xfs_alone(mounts, "254:16"), expected, "{mounts}");
        let root = "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n";
        let mount = |options: &str| format!("{root}36 21 254:16 / /srv rw,noatime shared:2 - xfs /dev/vdb {options}\n");
        check(&mount("rw,attr2,inode64,noquota"), true);
        check(&format!("{}40 21 254:16 /a /b rw - xfs /dev/vdb rw\n", mount("rw")), true);
        check(&mount("rw,rtdev=/dev/vdc,noquota"), false);
        check(&mount("rw").replace(" xfs ", " ext4 "), false);
        check(root, false);
        check("", false);
        check("36 21 254:16", false);
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn only_names_of_the_same_file_system_come_in_order() {
        let directory = std::env::temp_dir().join(super::super::unique("barrier-"));
        fs::create_dir(&directory).unwrap();
        let paths = [directory.clone(), directory.join("file")];
        fs::write(&paths[1], "content").unwrap();
        let done = |next: &Path| {
            // Other tests use directories of their own.
            let armed = super::super::failpoints::record(&directory).keeping_order();
            barrier(&paths, next, Sync::Together).unwrap();
            armed.operations().into_iter().map(|operation| operation.name).collect::<Vec<_>>()
        };
        assert_eq!(done(&directory), ["write_out"]);
        assert_eq!(done(Path::new("/proc/self")), ["fsync", "fsync"]);
        assert_eq!(files_of_one_file_system(&paths, Some(Path::new("/proc/self"))), None);
        assert_eq!(files_of_one_file_system(&paths, Some(&directory)), Some(vec![paths[1].as_path()]));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_file_system_without_a_journal_keeps_no_order() {
        for path in ["/proc", "/sys", "/dev", "/nowhere"] {
            assert!(!keeps_order(Path::new(path)), "{path}");
        }
    }
}
