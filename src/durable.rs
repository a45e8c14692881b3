//! The only module that changes a repository on disk: create, write, rename, link, unlink, mkdir, rmdir, fsync.
//!
//! In: paths and bytes. Out: what the operating system returns. Every operation passes a named fail point, which exists
//! only in builds with the feature `failpoints`. Nothing here knows what the files mean.

use crate::listing::Listing;
use rustix::fs::FileType;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is forced to disk, and how: `core.fsync` and `core.fsyncMethod`, resolved for one kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// Forced before the call returns; many files together, by one flush of their file system where possible.
    #[default]
    Together,
    /// Forced before the call returns, each file by a call of its own.
    Each,
    /// Left to the kernel.
    Never,
}

impl Sync {
    /// Whether anything is forced at all.
    pub fn is_forced(self) -> bool {
        self != Sync::Never
    }
}

/// Modes of new files and directories: `core.sharedRepository` applied after the umask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// As the umask says.
    #[default]
    Umask,
    /// Readable and writable for the group, directories set-gid.
    Group,
    /// As `Group`, and readable for everybody.
    Everybody,
    /// Exactly these permission bits for files (octal in the configuration).
    Mode(u32),
}

impl Sharing {
    /// The mode for something that the umask left with `mode` (permission bits and set-gid, set-uid, sticky).
    ///
    /// If the owner may not write, nobody may. Execute bits follow read bits if the owner has execute permission, and
    /// in directories. A directory that grants its group anything is set-gid.
    fn adjusted(self, mode: u32, directory: bool) -> u32 {
        let (bits, exact) = match self {
            Sharing::Umask => return mode,
            Sharing::Group => (0o660, false),
            Sharing::Everybody => (0o664, false),
            Sharing::Mode(bits) => (bits & 0o777, true),
        };
        let mut bits = if mode & 0o200 == 0 { bits & !0o222 } else { bits };
        if mode & 0o100 != 0 {
            bits |= (bits & 0o444) >> 2;
        }
        let mut adjusted = if exact { (mode & !0o777) | bits } else { mode | bits };
        if directory {
            adjusted |= (adjusted & 0o444) >> 2;
            if adjusted & 0o060 != 0 {
                adjusted |= 0o2000;
            }
        }
        adjusted
    }
}

/// How many threads force files to disk at once.
const FSYNC_THREADS: usize = 16;
/// How long files are forced one after the other before threads are started: for a short process threads cost more than
/// a fast disk.
const FSYNC_PATIENCE: Duration = Duration::from_millis(2);
/// File system types as statfs(2) returns them; the first is that of ext2, ext3 and ext4.
const EXT: u32 = 0xef53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683e;
const TMPFS: u32 = 0x0102_1994;
/// From how many files on their file system is flushed as a whole: one commit of its journal instead of several.
const FLUSH_FROM: usize = 3;
/// From this version of Linux on syncfs(2) reports write errors; before, they were silently lost.
const FLUSH_LINUX_MIN: (u32, u32) = (5, 8);
/// A flush also writes other processes' data. It is used only if that is at most this many bytes per file of ours.
const FLUSH_BYTES_EACH: u64 = 1 << 20;
/// How many bytes of such data are assumed if the kernel does not tell.
const UNWRITTEN_BYTES: u64 = 16 << 20;
/// How often a directory that another machine has just created or removed is tried again, and after which first pause.
const FOLDER_RETRIES: u32 = 5;
const FOLDER_PAUSE: Duration = Duration::from_millis(2);

/// Creates a file that must not exist yet (`O_EXCL`), with `mode` before umask and sharing.
///
/// # Errors
/// As `open(2)`.
pub fn create(path: &Path, mode: u32, sharing: Sharing) -> io::Result<File> {
    fail_point("create", path)?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)?;
    if sharing != Sharing::Umask {
        share(&file, sharing).inspect_err(|_| {
            let _ = fs::remove_file(path);
        })?;
    }
    Ok(file)
}

/// Opens a file for appending; a missing one is created with mode 0666 before umask and sharing.
///
/// # Errors
/// As `open(2)`.
pub fn append(path: &Path, sharing: Sharing) -> io::Result<File> {
    fail_point("append", path)?;
    let mut options = OpenOptions::new();
    options.append(true).mode(0o666);
    loop {
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => return file,
        }
        match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => {
                let file = file?;
                if sharing != Sharing::Umask {
                    share(&file, sharing)?;
                }
                return Ok(file);
            }
        }
    }
}

/// Opens an existing file for reading and writing.
///
/// # Errors
/// As `open(2)`.
pub fn reopen(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Writes all bytes.
///
/// # Errors
/// As `write(2)`.
pub fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = fail_point_of_write(file, bytes) {
        // A full disk or a crash leaves a part of the bytes.
        let _ = file.write_all(&bytes[..bytes.len() / 2]);
        return Err(error);
    }
    file.write_all(bytes)
}

/// Forces a file's content to disk.
///
/// # Errors
/// As `fsync(2)`.
pub fn fsync(file: &File) -> io::Result<()> {
    fail_point_of_file("fsync", file)?;
    file.sync_all()
}

/// Forces a directory's entries to disk. File systems that reject this for directories are assumed not to need it.
///
/// # Errors
/// As `open(2)` and `fsync(2)`.
pub fn fsync_directory(path: &Path) -> io::Result<()> {
    fail_point("fsync_directory", path)?;
    match File::open(path)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}

/// Forces a directory's entries to disk. If it has been removed, forces the nearest directory left above it, which records that.
///
/// # Errors
/// As [`fsync_directory`].
pub fn fsync_what_is_left(directory: &Path) -> io::Result<()> {
    for directory in directory.ancestors() {
        match fsync_directory(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
    }
    Ok(())
}

/// Forces the content of files and the entries of directories to disk, as `sync` says. A directory must come before
/// files with the same parent. For a path that has been removed meanwhile, as gc removes empty fan-out directories, the
/// directory above it is forced.
///
/// # Errors
/// As [`fsync`] and [`fsync_directory`]; the first one.
pub fn fsync_all(paths: &[PathBuf], sync: Sync) -> io::Result<()> {
    match (sync, paths.first()) {
        (Sync::Never, _) | (_, None) => Ok(()),
        (Sync::Together, Some(first))
            if paths.len() >= FLUSH_FROM
                && barrier::is_linux_from(FLUSH_LINUX_MIN)
                && flushes_its_files(first)
                && unwritten() <= FLUSH_BYTES_EACH * paths.len() as u64 =>
        {
            let Some(files) = files_of_one_file_system(paths, None) else { return fsync_each(paths) };
            let is_flushed = match flush(first) {
                // A write error is reported to the first process that flushes the file system, which may have been
                // another one a moment ago. But each file reports it once more.
                Ok(()) => barrier::write_out(&files)?,
                Err(error) if is_unavailable(&error) => false,
                Err(error) => return Err(error),
            };
            if is_flushed { Ok(()) } else { fsync_each(paths) }
        }
        (Sync::Together | Sync::Each, Some(_)) => fsync_each(paths),
    }
}

/// The files among `paths`, if one flush reaches all of these and `next`, or `None`: a directory of a repository may be
/// on another disk, or a link to one. A file that follows another one of its directory is not examined.
fn files_of_one_file_system<'p>(paths: &'p [PathBuf], next: Option<&Path>) -> Option<Vec<&'p Path>> {
    let mut device = match next {
        Some(next) => Some(fs::metadata(next).ok()?.dev()),
        None => None,
    };
    let mut directory = None;
    let mut files = Vec::new();
    for path in paths {
        if directory.is_none() || directory != path.parent() {
            let metadata = fs::metadata(path).ok()?;
            if *device.get_or_insert(metadata.dev()) != metadata.dev() {
                return None;
            }
            directory = path.parent().filter(|_| metadata.is_file());
            if metadata.is_dir() {
                continue;
            }
        }
        files.push(path.as_path());
    }
    Some(files)
}

/// Whether the error means that flushing is not available here, as in sandboxes that forbid the call. Such a failure
/// does not swallow an error that forcing a file would report.
fn is_unavailable(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), Unsupported | PermissionDenied | InvalidInput)
}

/// Whether a flush of this file system has the same effect on each file as forcing it, and reports write errors. FUSE
/// does not pass it on to its daemon, a network file system not to its server, and an overlay flushes only pages of its
/// own, of which it has none.
fn flushes_its_files(path: &Path) -> bool {
    #[cfg(feature = "failpoints")]
    if failpoints::keeps_order(path).is_some() {
        return true;
    }
    is_local(path)
}

/// Whether a file system is known to be used by this kernel alone, so that it knows of everything open or locked there.
pub fn is_local(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| is_kind_local(found.f_type as u32))
}

/// The same, for a type that statfs(2) returns.
fn is_kind_local(kind: u32) -> bool {
    matches!(kind, EXT | XFS | BTRFS | TMPFS)
}

/// How many bytes wait to be written to any disk of this machine.
#[cfg(not(feature = "failpoints"))]
fn unwritten() -> u64 {
    use std::io::Read as _;
    // The relevant lines are near the beginning.
    let mut meminfo = [0; 4096];
    let read = File::open("/proc/meminfo").and_then(|mut file| file.read(&mut meminfo));
    unwritten_of(&meminfo[..read.unwrap_or_default()])
}

/// With fail points the result is fixed, so that each run has the same operations.
#[cfg(feature = "failpoints")]
fn unwritten() -> u64 {
    unwritten_of(b"Dirty: 0 kB")
}

fn unwritten_of(meminfo: &[u8]) -> u64 {
    let kib = |line: &[u8]| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        let value = value.trim().strip_suffix(" kB").filter(|_| matches!(name, "Dirty" | "Writeback"))?;
        value.parse::<u64>().ok()
    };
    let counts = meminfo.split(|byte| *byte == b'\n').filter_map(kib);
    let bytes = counts.map(|kib| kib.saturating_mul(1 << 10)).reduce(u64::saturating_add);
    bytes.unwrap_or(UNWRITTEN_BYTES)
}

/// Forces everything written so far to the file system of `path`, as `syncfs(2)`.
fn flush(path: &Path) -> io::Result<()> {
    fail_point("flush", path)?;
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Forces files one after the other while that is quick. On a slow disk several are forced at once, because a journal
/// commits in one go what is waited for together.
fn fsync_each(paths: &[PathBuf]) -> io::Result<()> {
    let start = Instant::now();
    let mut left = paths;
    while let Some((path, behind)) = left.split_first() {
        if left.len() > 1 && start.elapsed() > FSYNC_PATIENCE {
            return fsync_together(left);
        }
        fsync_path(path)?;
        left = behind;
    }
    Ok(())
}

fn fsync_together(paths: &[PathBuf]) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outcome = Ok(());
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            outcome = outcome.and(fsync_path(path));
        }
        outcome
    };
    std::thread::scope(|scope| {
        // If no more threads can be started, fewer do the work.
        let others: Vec<_> = (1..paths.len().min(FSYNC_THREADS))
            .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mine = work();
        others.into_iter().fold(mine, |outcome, other| match other.join() {
            Ok(theirs) => outcome.and(theirs),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn fsync_path(path: &Path) -> io::Result<()> {
    fail_point("fsync", path)?;
    let file = match File::open(path) {
        // It was removed, which the directory above records.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return path.parent().map_or(Err(error), fsync_what_is_left);
        }
        file => file?,
    };
    match file.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput && file.metadata()?.is_dir() => Ok(()),
        outcome => outcome,
    }
}

/// As `rename(2)`.
///
/// # Errors
/// As `rename(2)`.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fail_point_of_two("rename", from, to)?;
    fs::rename(from, to)
}

/// As `link(2)`.
///
/// # Errors
/// As `link(2)`.
pub fn link(from: &Path, to: &Path) -> io::Result<()> {
    fail_point_of_two("link", from, to)?;
    fs::hard_link(from, to)
}

/// As `unlink(2)`.
///
/// # Errors
/// As `unlink(2)`.
pub fn unlink(path: &Path) -> io::Result<()> {
    fail_point("unlink", path)?;
    fs::remove_file(path)
}

/// Sets a file's times to the current time, as writing it would.
///
/// # Errors
/// As `utimensat(2)`.
pub fn touch(path: &Path) -> io::Result<()> {
    fail_point("touch", path)?;
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())?)
}

/// As [`touch`] for an open file, whatever name it has.
///
/// # Errors
/// As `futimens(2)`.
pub fn touch_file(file: &File) -> io::Result<()> {
    fail_point_of_file("touch", file)?;
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    Ok(rustix::fs::futimens(file, &rustix::fs::Timestamps { last_access: now, last_modification: now })?)
}

/// Gives an open file the permission bits of another file.
///
/// # Errors
/// As `stat(2)` and `fchmod(2)`.
pub fn copy_mode(from: &Path, to: &File) -> io::Result<()> {
    fail_point("copy_mode", from)?;
    to.set_permissions(Permissions::from_mode(fs::metadata(from)?.mode() & 0o777))
}

/// Fills a fresh file and renames it over another one; both are on disk when the call returns.
///
/// # Errors
/// As `write(2)`, `fsync(2)` and `rename(2)`; then the fresh file is removed and the old one kept. If only forcing the
/// directory to disk failed, the new file is in place.
pub fn replace(path: &Path, bytes: &[u8], fresh: &Path, mut file: File) -> io::Result<()> {
    let written = write_all(&mut file, bytes).and_then(|()| fsync(&file)).and_then(|()| rename(fresh, path));
    if written.is_err() {
        // No other process uses the fresh file, so it does no harm if it cannot be removed.
        let _ = unlink(fresh);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    written.and_then(|()| fsync_directory(parent))
}

/// Creates one directory.
///
/// # Errors
/// As `mkdir(2)`.
pub fn mkdir(path: &Path, sharing: Sharing) -> io::Result<()> {
    fail_point("mkdir", path)?;
    DirBuilder::new().mode(0o777).create(path)?;
    if sharing == Sharing::Umask { Ok(()) } else { share(&File::open(path)?, sharing) }
}

/// Creates a directory and its missing parents, accessible to the owner alone. Existing ones are left as they are.
///
/// # Errors
/// As `mkdir(2)`.
pub fn mkdir_private(path: &Path) -> io::Result<()> {
    fail_point("mkdir", path)?;
    DirBuilder::new().mode(0o700).recursive(true).create(path)
}

/// Creates a directory and its missing parents below `root`, which exists. Existing ones are left as they are.
///
/// # Errors
/// As `mkdir(2)`; `NotADirectory` if something else is in the way.
pub fn mkdir_all(root: &Path, path: &Path, sharing: Sharing) -> io::Result<()> {
    let mut attempt = 0;
    loop {
        // Another process may remove a directory we have just found, because it is empty; or another machine's cache
        // may be stale. Both are over after a moment.
        match mkdir_once(root, path, sharing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < FOLDER_RETRIES => {
                std::thread::sleep(FOLDER_PAUSE * (1 << attempt));
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

fn mkdir_once(root: &Path, path: &Path, sharing: Sharing) -> io::Result<()> {
    if path.as_os_str().len() <= root.as_os_str().len() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        mkdir_once(root, parent, sharing)?;
    }
    match mkdir(path, sharing) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
            Err(error) => Err(error),
        },
        outcome => outcome,
    }
}

/// As `rmdir(2)`.
///
/// # Errors
/// As `rmdir(2)`.
pub fn rmdir(path: &Path) -> io::Result<()> {
    fail_point("rmdir", path)?;
    fs::remove_dir(path)
}

/// Removes a directory and everything in it.
///
/// # Errors
/// As `unlink(2)` and `rmdir(2)`.
pub fn remove_all(path: &Path) -> io::Result<()> {
    for entry in Listing::open(path)? {
        let entry = entry?;
        let inside = path.join(entry.name);
        if entry.kind == FileType::Directory {
            remove_all(&inside)?;
        } else {
            unlink(&inside)?;
        }
    }
    rmdir(path)
}

/// A name that no other process uses, on this machine or another: prefix, machine, process and random part.
pub fn unique(prefix: &str) -> String {
    // FNV-1a: the same machine always gets the same digits, which helps to find out where a file comes from.
    let node = rustix::system::uname()
        .nodename()
        .to_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let random = RandomState::new().build_hasher().finish();
    format!("{prefix}{node:08x}-{:x}-{random:016x}", std::process::id())
}

fn share(file: &File, sharing: Sharing) -> io::Result<()> {
    let metadata = file.metadata()?;
    let before = metadata.mode() & 0o7777;
    let after = sharing.adjusted(before, metadata.is_dir());
    // Only the owner may change a mode; a file of another user may already have the right one.
    if before == after { Ok(()) } else { file.set_permissions(Permissions::from_mode(after)) }
}

#[cfg(not(feature = "failpoints"))]
use passing::{fail_point, fail_point_of_file, fail_point_of_two, fail_point_of_write};

/// The fail points of builds without the feature: they do nothing.
#[cfg(not(feature = "failpoints"))]
#[allow(clippy::unnecessary_wraps, reason = "the builds with fail points return their errors")]
mod passing {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    #[inline]
    pub(super) fn fail_point(_name: &'static str, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    pub(super) fn fail_point_of_file(_name: &'static str, _file: &File) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    pub(super) fn fail_point_of_write(_file: &File, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    pub(super) fn fail_point_of_two(_name: &'static str, _from: &Path, _to: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "failpoints")]
use failpoints::{fail_point, fail_point_of_file, fail_point_of_two, fail_point_of_write};

#[cfg(feature = "failpoints")]
pub mod failpoints;

mod barrier;

pub use barrier::barrier;

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path = std::env::temp_dir().join(unique("durable-"));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn many_files_and_folders_are_forced_to_disk_together() {
        let scratch = Scratch::new();
        let mut paths = vec![scratch.0.clone()];
        for n in 0..40 {
            paths.push(scratch.0.join(n.to_string()));
            fs::write(&paths[n + 1], "content").unwrap();
        }
        for count in [0, 1, 2, paths.len()] {
            fsync_all(&paths[..count], Sync::Together).unwrap();
            fsync_all(&paths[..count], Sync::Each).unwrap();
            fsync_together(&paths[..count]).unwrap();
            fsync_all(&paths[..count], Sync::Never).unwrap();
        }
        // What was removed is recorded by the directory above; what cannot be looked at is an error.
        paths.push(scratch.0.join("gone/deep/missing"));
        fsync_all(&paths, Sync::Each).unwrap();
        fsync_together(&paths).unwrap();
        paths.push(scratch.0.join("0/below a file"));
        assert_eq!(fsync_all(&paths, Sync::Each).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(fsync_together(&paths).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn sharing_gives_the_bits_git_gives() {
        let check = |sharing: Sharing, mode: u32, directory: bool, expected: u32| {
            let got = sharing.adjusted(mode, directory);
            assert_eq!(got, expected, "{sharing:?} of {mode:o}: {got:o}, not {expected:o}");
        };
        check(Sharing::Umask, 0o600, false, 0o600);
        check(Sharing::Group, 0o644, false, 0o664);
        check(Sharing::Group, 0o444, false, 0o444);
        check(Sharing::Group, 0o600, false, 0o660);
        check(Sharing::Group, 0o755, true, 0o2775);
        check(Sharing::Group, 0o700, true, 0o2770);
        check(Sharing::Everybody, 0o600, false, 0o664);
        check(Sharing::Everybody, 0o700, true, 0o2775);
        check(Sharing::Mode(0o640), 0o666, false, 0o640);
        check(Sharing::Mode(0o640), 0o444, false, 0o440);
        check(Sharing::Mode(0o600), 0o755, true, 0o700);
        check(Sharing::Mode(0o640), 0o755, true, 0o2750);
    }

    #[test]
    fn a_file_is_created_once() {
        let scratch = Scratch::new();
        let path = scratch.0.join("file");
        write_all(&mut create(&path, 0o666, Sharing::Mode(0o640)).unwrap(), b"first").unwrap();
        assert_eq!(create(&path, 0o666, Sharing::Umask).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn directories_are_made_with_their_parents_and_something_else_in_the_way_is_an_error() {
        let scratch = Scratch::new();
        let deep = scratch.0.join("a/b/c");
        mkdir_all(&scratch.0, &deep, Sharing::Group).unwrap();
        mkdir_all(&scratch.0, &deep, Sharing::Group).unwrap();
        assert_eq!(fs::metadata(scratch.0.join("a/b")).unwrap().mode() & 0o2770, 0o2770);
        fs::write(scratch.0.join("a/file"), "").unwrap();
        let blocked = mkdir_all(&scratch.0, &scratch.0.join("a/file/d"), Sharing::Umask);
        assert_eq!(blocked.unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn names_are_unique_and_keep_their_prefix() {
        let names: std::collections::HashSet<String> = (0..100).map(|_| unique("x-")).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.starts_with("x-") && !name.contains('/')));
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn the_nth_operation_fails_and_the_later_ones_as_planned() {
        use failpoints::Action;
        let scratch = Scratch::new();
        let run = || -> (bool, bool) {
            let file = scratch.0.join(unique("f"));
            let made = create(&file, 0o666, Sharing::Umask).is_ok();
            (made, mkdir(&file.with_extension("d"), Sharing::Umask).is_ok())
        };
        let check = |n, action, expected| {
            let armed = failpoints::arm(&scratch.0, n, action);
            assert_eq!(run(), expected, "{n} {action:?}");
            drop(armed);
            assert_eq!(run(), (true, true));
        };
        check(0, Action::Fail(io::ErrorKind::StorageFull), (false, true));
        check(1, Action::Fail(io::ErrorKind::StorageFull), (true, false));
        check(0, Action::FailFromHere(io::ErrorKind::StorageFull), (false, false));
        let recorded = failpoints::record(&scratch.0);
        run();
        assert_eq!(recorded.seen().len(), 2);
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn what_takes_the_place_of_a_file_is_on_the_disk_first_and_what_fails_leaves_nothing() {
        use failpoints::Action;
        let scratch = Scratch::new();
        let (place, fresh) = (scratch.0.join("place"), scratch.0.join("fresh"));
        let run = || replace(&place, b"new", &fresh, create(&fresh, 0o666, Sharing::Umask).unwrap());
        fs::write(&place, "old").unwrap();
        // It cannot be written, not be forced to the disk, not get its name.
        for n in 1..4 {
            let armed = failpoints::arm(&scratch.0, n, Action::Fail(io::ErrorKind::StorageFull));
            run().unwrap_err();
            drop(armed);
            assert_eq!((fs::read(&place).unwrap(), fresh.exists()), (b"old".to_vec(), false), "{n}");
        }
        let recorded = failpoints::record(&scratch.0);
        run().unwrap();
        assert_eq!(recorded.seen(), ["create fresh", "write fresh", "fsync fresh", "rename place", "fsync_directory "]);
        assert_eq!(fs::read(&place).unwrap(), b"new");
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn what_a_disk_did_not_take_of_a_file_is_an_error_though_a_flush_of_all_went_well() {
        use failpoints::Action;
        let scratch = Scratch::new();
        let paths = ["a", "b", "c"].map(|name| scratch.0.join(name));
        paths.iter().for_each(|path| fs::write(path, "content").unwrap());
        let recorded = failpoints::record(&scratch.0);
        fsync_all(&paths, Sync::Together).unwrap();
        assert_eq!(recorded.seen(), ["flush a", "write_out a", "write_out b", "write_out c"]);
        drop(recorded);
        for n in 0..4 {
            let _armed = failpoints::arm(&scratch.0, n, Action::FailAs(rustix::io::Errno::IO.raw_os_error()));
            fsync_all(&paths, Sync::Together).unwrap_err();
        }
    }

    #[test]
    fn one_flush_is_for_one_file_system() {
        let scratch = Scratch::new();
        let own = |name: &str| scratch.0.join(name);
        for name in ["a", "b"] {
            fs::write(own(name), "content").unwrap();
        }
        let elsewhere = || PathBuf::from("/proc/self/stat");
        let check = |paths: &[PathBuf], files: Option<&[PathBuf]>| {
            let found = files_of_one_file_system(paths, None);
            assert_eq!(found, files.map(|files| files.iter().map(PathBuf::as_path).collect()), "{paths:?}");
        };
        check(&[scratch.0.clone(), own("a"), own("b")], Some(&[own("a"), own("b")]));
        check(&[scratch.0.clone(), elsewhere(), own("b")], None);
        check(&[own("a"), own("b"), elsewhere()], None);
        check(&["/proc".into(), own("a")], None);
        check(&[own("nothing"), own("a")], None);
    }

    #[test]
    fn few_file_systems_are_known_to_be_this_machines_alone() {
        let check = |kind: u32, expected: bool| assert_eq!(is_kind_local(kind), expected, "{kind:#x}");
        [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994].into_iter().for_each(|kind| check(kind, true));
        // FUSE, an overlay, NFS, SMB in two forms, 9p, FAT, none.
        let others = [0x6573_5546, 0x794c_7630, 0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x4d44, 0];
        others.into_iter().for_each(|kind| check(kind, false));
        assert!(!flushes_its_files(Path::new("/proc")) && !flushes_its_files(Path::new("/nowhere")));
    }

    #[test]
    fn the_kernel_tells_what_waits_to_be_written() {
        let check =
            |meminfo: &str, expected: u64| assert_eq!(unwritten_of(meminfo.as_bytes()), expected, "{meminfo:?}");
        check("MemTotal:  24 kB\nDirty:            276 kB\nWriteback:    4 kB\nWritebackTmp: 7 kB\n", 280 << 10);
        check("Dirty: 0 kB\nWriteback: 0 kB", 0);
        check("Dirty: 99999999999999999999 kB\nWriteback: 18446744073709551615 kB\n", u64::MAX);
        for unclear in ["", "Dirty: many kB\n", "MemTotal: 1 kB\n", "Dirty 1 kB"] {
            check(unclear, UNWRITTEN_BYTES);
        }
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn a_directory_that_has_gone_is_forced_by_the_one_above() {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.0.join("refs/heads")).unwrap();
        let tried = |force: &dyn Fn(&Path)| {
            let armed = failpoints::record(&scratch.0);
            force(&scratch.0.join("refs/heads/gone/deep"));
            armed.seen()
        };
        let above = ["refs/heads/gone", "refs/heads"].map(|path| format!("fsync_directory {path}"));
        let expected = |first: &str| [&[format!("{first} refs/heads/gone/deep")], &above[..]].concat();
        assert_eq!(tried(&|path| fsync_what_is_left(path).unwrap()), expected("fsync_directory"));
        assert_eq!(tried(&|path| fsync_all(&[path.to_owned()], Sync::Each).unwrap()), expected("fsync"));
    }

    #[test]
    fn only_a_log_that_is_made_gets_the_modes_of_a_shared_repository() {
        let scratch = Scratch::new();
        let mode = |name: &str| fs::metadata(scratch.0.join(name)).unwrap().mode() & 0o777;
        append(&scratch.0.join("new"), Sharing::Group).unwrap();
        assert_eq!(mode("new") & 0o060, 0o060);
        // Another user's file would refuse the change, and needs none to be written.
        let path = scratch.0.join("old");
        fs::write(&path, "a").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        append(&path, Sharing::Group).unwrap().write_all(b"b").unwrap();
        assert_eq!((mode("old"), fs::read(&path).unwrap()), (0o600, b"ab".to_vec()));
    }
}
