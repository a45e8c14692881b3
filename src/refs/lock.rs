//! Lock files: `<file>.lock`, created exclusively beside the file it guards, removed when dropped.
//!
//! In: the file to guard and how long to wait. Out: a lock, and new content for the file. The protocol is git's, so
//! git's processes and ours exclude each other. A lock of ours whose process has died is taken over (see
//! [`crate::journal`]); git's never is.

use crate::durable::{self, Sharing};
use crate::journal::{Journal, LockFile};
use bstr::BStr;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The suffix of a lock file's name.
const SUFFIX: &str = ".lock";

/// The longest pause between attempts. Pauses grow as in git: 1, 4, 9 … ms up to a second, each varied at random by a
/// quarter.
const PAUSE_MS_MAX: u64 = 1000;

/// How long a directory that keeps disappearing is created again before that is an error.
const FOLDER_TIMEOUT: Duration = Duration::from_secs(2);

/// A lock that we hold.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: LockFile,
    /// The new content. It is a separate file if the lock file itself marks the lock as ours; a plain lock file holds
    /// the content itself.
    content: Option<PathBuf>,
    /// Whether the lock file has been renamed to the file it guarded; one of that name then belongs to another process.
    spent: bool,
}

/// Why a lock could not be taken.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process holds it.
    Held,
    /// A file is where a directory is needed.
    Blocked,
    /// The disk refuses.
    Io(io::Error),
}

impl Lock {
    /// Locks `guarded`, creating missing directories below `root`.
    ///
    /// Also returns whether directories may have been created.
    pub(super) fn acquire(
        journal: &Journal,
        root: &Path,
        guarded: &Path,
        timeout: Duration,
        sharing: Sharing,
    ) -> Result<(Self, bool), LockError> {
        let mut name = OsString::with_capacity(guarded.as_os_str().len() + SUFFIX.len());
        name.push(guarded);
        name.push(SUFFIX);
        let path = PathBuf::from(name);
        let start = Instant::now();
        let mut made_directory = false;
        let mut attempt: u64 = 1;
        loop {
            let error = match journal.lock(&path, sharing) {
                Ok(file) => return Ok((Lock { path, file, content: None, spent: false }, made_directory)),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    let is_over = start.elapsed() >= timeout;
                    // The owner may be dead already, or die while we wait.
                    if (attempt == 1 || is_over) && journal.sweep() {
                        attempt += 1;
                        continue;
                    }
                    if is_over {
                        return Err(LockError::Held);
                    }
                    pause(attempt);
                    attempt += 1;
                }
                // Another process that deletes the last ref in the directory may remove it again.
                io::ErrorKind::NotFound if !made_directory || start.elapsed() < FOLDER_TIMEOUT => {
                    if made_directory {
                        pause(attempt);
                        attempt += 1;
                    }
                    made_directory = true;
                    let directory = path.parent().unwrap_or(root);
                    match durable::mkdir_all(root, directory, sharing) {
                        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(LockError::Blocked),
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(LockError::Io(error)),
                        Ok(()) | Err(_) => {}
                    }
                }
                io::ErrorKind::NotADirectory => return Err(LockError::Blocked),
                _ => return Err(LockError::Io(error)),
            }
        }
    }

    /// Writes the new content of the file, and returns where; the caller forces it to disk.
    pub(super) fn fill(&mut self, journal: &Journal, content: &[u8], sharing: Sharing) -> io::Result<PathBuf> {
        let (path, mut file) = match self.file {
            LockFile::Ours => journal.temporary(sharing)?,
            LockFile::Plain => (self.path.clone(), durable::reopen(&self.path)?),
        };
        self.content = Some(path.clone());
        durable::write_all(&mut file, content)?;
        Ok(path)
    }

    /// Replaces the file with the new content. Empty directories of that name are removed.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        let Some(content) = &self.content else { return Ok(()) };
        let guarded = self.guarded();
        match durable::rename(content, guarded) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                remove_empty_directories(guarded)?;
                durable::rename(content, guarded)?;
            }
            outcome => outcome?,
        }
        self.content = None;
        self.spent = self.file == LockFile::Plain;
        Ok(())
    }

    /// The path of the file it guards.
    pub(super) fn guarded(&self) -> &Path {
        let path = self.path.as_os_str().as_bytes();
        Path::new(OsStr::from_bytes(path.strip_suffix(SUFFIX.as_bytes()).unwrap_or(path)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Errors are ignored: whatever stays is removed once another process finds its owner dead.
        if self.file == LockFile::Ours
            && let Some(content) = &self.content
        {
            let _ = durable::unlink(content);
        }
        if self.spent {
            return;
        }
        let _ = durable::unlink(&self.path);
    }
}

/// C git's message for a lock that another process holds.
pub(super) fn held(name: &BStr) -> String {
    format!("Unable to create '{name}.lock': File exists.")
}

/// C git's message for a lock file that cannot be created.
pub(super) fn unable(name: &BStr, error: &io::Error) -> String {
    format!("Unable to create '{name}.lock': {}", error.kind())
}

fn pause(attempt: u64) {
    let base = attempt.saturating_mul(attempt).min(PAUSE_MS_MAX);
    let random = RandomState::new().build_hasher().finish() % 500;
    std::thread::sleep(Duration::from_micros(base * (750 + random)));
}

/// Removes a directory that contains nothing but directories.
pub(super) fn remove_empty_directories(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        remove_empty_directories(&entry.path())?;
    }
    match durable::rmdir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf, Journal);

    impl Scratch {
        fn new() -> Self {
            let path = std::env::temp_dir().join(durable::unique("lock-"));
            fs::create_dir(&path).unwrap();
            let journal = Journal::of(&path);
            Scratch(path, journal)
        }

        fn lock(&self, name: &str, timeout: Duration) -> Result<(Lock, bool), LockError> {
            Lock::acquire(&self.1, &self.0, &self.0.join(name), timeout, Sharing::Umask)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_lock_excludes_others_and_goes_when_dropped_even_by_a_panic() {
        let scratch = Scratch::new();
        let (lock, made_directory) = scratch.lock("a/b", Duration::ZERO).unwrap();
        assert!(made_directory);
        assert!(matches!(scratch.lock("a/b", Duration::ZERO), Err(LockError::Held)));
        drop(lock);
        assert!(!scratch.0.join("a/b.lock").exists());
        let unwound = std::panic::catch_unwind(|| {
            let _lock = scratch.lock("a/b", Duration::ZERO).unwrap();
            panic!("on purpose");
        });
        assert!(unwound.is_err());
        assert!(!scratch.0.join("a/b.lock").exists());
    }

    #[test]
    fn a_lock_is_waited_for() {
        let scratch = Scratch::new();
        let (lock, _) = scratch.lock("a", Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                drop(lock);
            });
            assert!(scratch.lock("a", Duration::from_secs(10)).is_ok());
        });
    }

    #[test]
    fn a_lock_becomes_the_file_in_place_of_empty_directories_only() {
        let scratch = Scratch::new();
        let (mut lock, _) = scratch.lock("a", Duration::ZERO).unwrap();
        lock.fill(&scratch.1, b"content", Sharing::Umask).unwrap();
        fs::create_dir_all(scratch.0.join("a/b/c")).unwrap();
        fs::write(scratch.0.join("a/b/file"), "").unwrap();
        assert!(lock.commit().is_err());
        fs::remove_file(scratch.0.join("a/b/file")).unwrap();
        lock.commit().unwrap();
        assert_eq!(fs::read(scratch.0.join("a")).unwrap(), b"content");
        drop(lock);
        assert!(!scratch.0.join("a.lock").exists());
    }

    #[test]
    fn where_there_can_be_no_journal_the_lock_becomes_the_file() {
        let scratch = Scratch::new();
        fs::write(scratch.0.join("artifacts-journal"), "a file in its place").unwrap();
        let (mut lock, _) = scratch.lock("a", Duration::ZERO).unwrap();
        lock.fill(&scratch.1, b"content", Sharing::Umask).unwrap();
        assert_eq!(fs::read(scratch.0.join("a.lock")).unwrap(), b"content");
        assert!(matches!(scratch.lock("a", Duration::ZERO), Err(LockError::Held)));
        lock.commit().unwrap();
        assert_eq!(fs::read(scratch.0.join("a")).unwrap(), b"content");
        // The lock file is the next owner's by then, and not ours to remove.
        let (next, _) = scratch.lock("a", Duration::ZERO).unwrap();
        drop(lock);
        assert!(scratch.0.join("a.lock").exists());
        drop(next);
        let (mut given_up, _) = scratch.lock("a", Duration::ZERO).unwrap();
        given_up.fill(&scratch.1, b"other", Sharing::Umask).unwrap();
        drop(given_up);
        assert!(!scratch.0.join("a.lock").exists());
        assert_eq!(fs::read(scratch.0.join("a")).unwrap(), b"content");
    }

    #[test]
    fn a_file_where_a_directory_is_needed_blocks() {
        let scratch = Scratch::new();
        fs::write(scratch.0.join("a"), "").unwrap();
        assert!(matches!(scratch.lock("a/b", Duration::ZERO), Err(LockError::Blocked)));
        assert!(matches!(scratch.lock("a/b/c", Duration::ZERO), Err(LockError::Blocked)));
    }
}
